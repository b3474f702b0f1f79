//! The keys of the configuration for all models, in groups.

use super::model_file;
use super::resolve::Given;
use super::words::{
    Accuracy, Amp, BankDtype, FeatSize, LossFunc, LossReduction, Opt, OptParams, Preload, RunMode,
    ShuffleMode, StopSignals,
};
use crate::datasets;
use crate::datasets::files::training_names;
use crate::keys;
use std::collections::BTreeMap;
use std::path::PathBuf;

keys! {
    /// The data: its places, and how it is read.
    pub struct DataConfig: Data {
        /// Data set; a further one needs a file configs/datasets/NAME.yml; built in
        dataset: String = "vqa".into() => flag("DATASET"), value("NAME"), listing(dataset_names), ours, must_match;
        /// Folder of questions, annotations and answer_dict.json
        dataset_path: PathBuf = "./datasets/vqa/".into() => flag("DATA_PATH"), value("DIR");
        /// Folder of the image features
        feature_path: PathBuf = "./datasets/coco_extract/".into() => flag("FEAT_PATH"), value("DIR");
        /// OpenVQA: folder that holds DATASET/raw/ and DATASET/feats/; DATASET_PATH and FEATURE_PATH win over it
        data_root: Option<PathBuf> = None => ours;
        /// Question files that lie elsewhere, by split (train, val, test, test-dev, vg)
        question_path: BTreeMap<String, PathBuf> = BTreeMap::new();
        /// Annotation files that lie elsewhere, by split (train, val, vg)
        answer_path: BTreeMap<String, PathBuf> = BTreeMap::new();
        /// Feature folders that lie elsewhere, by split (train, val, test)
        img_feat_path: BTreeMap<String, PathBuf> = BTreeMap::new();
        /// Start the word embedding from GloVe vectors
        use_glove: bool = true;
        /// Word vectors: en_vectors_web_lg-2.1.0 (.tar.gz or folder) or a GloVe text file; searched for when absent
        glove_path: Option<PathBuf> = None => flag("GLOVE_PATH"), value("PATH"), ours;
        /// Largest number of words of a question; further words are cut off
        max_token: usize = 14 => must_match;
        /// Largest number of regions of an image; further regions are cut off
        img_feat_pad_size: usize = 100 => must_match;
        /// OpenVQA: number and width of each kind of feature, by data set; replaces IMG_FEAT_PAD_SIZE and IMG_FEAT_SIZE
        feat_size: FeatSize = FeatSize::default() => absent("the data set's"), ours, must_match;
        /// OpenVQA: divide the coordinates of boxes by the size of the image, for a model that reads boxes
        bbox_normalize: Option<bool> = None => absent("the model's"), ours, must_match;
        /// Question files to train on; `train` evaluates val after each epoch; the words of vqa
        train_split: String = "train+val+vg".into() => flag("SPLIT"), listing(training_words);
        /// Which test questions to answer; the words of vqa
        test_split: String = "test".into() => flag("TEST_SPLIT"), listing(test_words), ours;
        /// What an answer is worth: official, exact (1 for the most frequent answer) or share (of annotators who gave it)
        accuracy: Accuracy = Accuracy::Official => ours;
        /// Hold the features that the run needs in memory, or (gpu) on the device in half precision
        preload: Preload = Preload::No => flag("PRELOAD"), machine;
        /// Threads that read features
        num_workers: usize = 8 => flag("NW"), machine;
        /// Page-lock batches bound for a GPU
        pin_mem: bool = true => flag("PINM"), machine;
        /// Order of the training questions: external or internal (a new random order each epoch), none (file order)
        shuffle_mode: ShuffleMode = ShuffleMode::External => must_match_within_epoch;
        /// Number format of a packed bank
        bank_dtype: BankDtype = BankDtype::F16 => ours;
        /// Leave damaged images out of a bank instead of stopping
        pack_skip_bad: bool = false => ours;
    }
}

keys! {
    /// Optimisation.
    pub struct TrainConfig: Train {
        /// Questions per optimizer step
        batch_size: usize = 64 => flag("BS"), must_match_within_epoch;
        /// Split each batch in this many parts and accumulate their gradients: less memory, same result
        grad_accu_steps: usize = 1 => flag("ACCU");
        /// Learning rate after warm-up
        lr_base: f64 = 0.0001;
        /// Factor of the learning rate at each decay
        lr_decay_r: f64 = 0.2;
        /// Epochs (from 0) at whose start the learning rate decays
        lr_decay_list: Vec<u64> = vec![10, 12];
        /// Epochs of warm-up, in which the learning rate rises
        warmup_epoch: u64 = 3 => ours;
        /// Last epoch
        max_epoch: u64 = 13 => flag("MAX_EPOCH");
        /// Largest norm of the whole gradient; unlimited if not positive
        grad_norm_clip: f64 = -1.0;
        /// Loss, or '' for that of the data set
        loss_func: LossFunc = LossFunc::OfDataset => ours, must_match;
        /// How the losses of a batch become one number
        loss_reduction: LossReduction = LossReduction::Sum => ours, must_match;
        /// Optimizer, or '' for the reference's Adam
        opt: Opt = Opt::Reference => ours, must_match;
        /// OpenVQA: arguments of the optimizer, {betas: '(0.9, 0.98)', eps: '1e-9'}; replaces OPT_BETAS and OPT_EPS
        opt_params: OptParams = OptParams::default() => ours;
        /// Decay rates of the optimizer's two moments
        opt_betas: (f64, f64) = (0.9, 0.98);
        /// Offset of the optimizer's denominator
        opt_eps: f64 = 1e-9;
        /// Evaluate val after each epoch (with --SPLIT=train)
        eval_every_epoch: bool = true => flag("EVAL_EE");
        /// Continue from the checkpoint named by --CKPT_V and --CKPT_E, or --CKPT_PATH
        resume: bool = false => flag("RESUME"), given_anew;
        /// Arithmetic of the matrix products
        amp: Amp = Amp::Off => flag("AMP"), ours;
        /// Let a GPU round the factors of float32 matrix products to TF32's 10 bits
        tf32: bool = true => ours;
        /// Let a new run replace the checkpoints and the log of an old one with the same --VERSION
        overwrite: bool = false => flag("OVERWRITE"), ours, given_anew;
        /// Optimizer steps after which last.pkl is written anew; 0: only when the run is stopped
        save_steps: u64 = 0 => ours;
    }
}

keys! {
    /// What the run does, on which devices, and where it writes.
    pub struct RunConfig: Run {
        /// What to do
        run_mode: RunMode = RunMode::Train => flag("RUN"), absent("");
        /// Model: NAME of configs/DATASET/NAME.yml or configs/NAME_model.yml; built in
        model: String = "small".into() => flag("MODEL"), value("NAME"), listing(model_file::built_in), about_model;
        /// Family of the model, configured by OpenVQA's conventions; absent: the reference's MCAN
        model_use: Option<String> = None => ours, about_model, must_match;
        /// GPU indices, as in '0' or '0, 1', or cpu (cpu,cpu: two replicas)
        gpu: Option<String> = None => flag("GPU"), machine, absent("GPU 0 if there is one, else the CPU");
        /// Seed of everything random
        seed: Option<u64> = None => flag("SEED"), absent("drawn and printed"), must_match_within_epoch;
        /// Name of this run: its checkpoints and log
        version: Option<String> = None => flag("VERSION"), absent("the seed"), given_anew;
        /// Version of the checkpoint to load
        ckpt_version: Option<String> = None => flag("CKPT_V"), absent("VERSION"), given_anew;
        /// Epoch of the checkpoint to load: the number of epochs behind it
        ckpt_epoch: u64 = 0 => flag("CKPT_E"), given_anew;
        /// Path of the checkpoint to load, instead of --CKPT_V and --CKPT_E; without --RESUME, training starts from its weights
        ckpt_path: Option<PathBuf> = None => flag("CKPT_PATH"), value("FILE"), given_anew;
        /// Show the loss of each step
        verbose: bool = true => flag("VERB"), per_process;
        /// Print where the time of the steps went
        profile: bool = false => ours, per_process;
        /// Also write the probabilities of the test answers
        test_save_pred: bool = false => flag("SAVE_PRED");
        /// Signals that also stop a run after its step: USR1, USR2, QUIT, ALRM, XCPU, as in 'USR1,XCPU'
        stop_signals: StopSignals = StopSignals::default() => ours, machine;
        /// Seconds without an answer after which a replica of this run counts as lost
        dist_timeout: u64 = 300 => ours, machine;
        /// Folder of the answer files of test runs
        result_path: PathBuf = "./results/result_test/".into();
        /// Folder of the probabilities
        pred_path: PathBuf = "./results/pred/".into();
        /// Folder of the answer files of val runs
        cache_path: PathBuf = "./results/cache/".into();
        /// Folder of the logs
        log_path: PathBuf = "./results/log/".into();
        /// Folder of the checkpoints
        ckpts_path: PathBuf = "./ckpts/".into();
        /// Answer file for --RUN=score
        result_file: Option<PathBuf> = None => flag("RESULT_FILE"), value("FILE"), ours;
        /// Questions for --RUN=score
        questions: Option<PathBuf> = None => flag("QUESTIONS"), value("FILE"), absent("those of val"), ours;
        /// Annotations for --RUN=score
        annotations: Option<PathBuf> = None => flag("ANNOTATIONS"), value("FILE"), absent("those of val"), ours;
        not_keys:
        /// The values of the command line.
        given: Given;
    }
}

fn dataset_names() -> Vec<String> {
    owned(datasets::names())
}

fn training_words() -> Vec<String> {
    let usual = DataConfig::default().benchmark();
    usual.map_or(Vec::new(), |vqa| owned(training_names(vqa)))
}

fn test_words() -> Vec<String> {
    let usual = DataConfig::default().benchmark();
    usual.map_or(Vec::new(), |vqa| owned(vqa.test_splits().to_vec()))
}

fn owned(words: Vec<&str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}
