//! Replays what OpenVQA did on its stored worlds, for each pair of model and data set that this program has.
//!
//! Each run starts from the stored `ckpt_init`, in a working directory laid out as OpenVQA's, and is compared with
//! `expected.json`: losses and learning rates of the epochs, accuracies to the last digit, answers byte for byte.

mod common;

use common::openvqa::{Run, assert_same_answers, numbers, squeezed};
use common::{assert_same_state, command, distance};
use ndarray_npy::ReadNpyExt;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

impl Run {
    /// Continues the stored checkpoint of epoch 2, if OpenVQA did, and compares loss and rate.
    fn resume(&self) {
        let Some(flags) = self.expected["resumed"]["flags"].as_str() else {
            return;
        };
        // Its name does not say the epoch.
        let renamed = self.path("ckpts/two.pkl");
        fs::copy(self.stored.join("ckpts/ckpt_golden/epoch2.pkl"), renamed).unwrap();
        let fixed = [
            "--RUN=train",
            "--RESUME=True",
            "--CKPT_PATH=ckpts/two.pkl",
            "--VERSION=resumed",
        ];
        let given: Vec<&str> = flags.split(' ').collect();
        self.succeed(&[&fixed[..], &given].concat());
        let name = "results/log/log_run_resumed.txt";
        let log = fs::read_to_string(self.path(name)).unwrap();
        let stored = fs::read_to_string(self.stored.join(name)).unwrap();
        // OpenVQA logs the loss times ACCU.
        let accu = numbers(flags, "--ACCU=").first().copied().unwrap_or(1.0);
        let (ours, theirs) = (numbers(&log, "loss = "), numbers(&stored, "Loss: "));
        assert_eq!(ours.len(), 1, "{log}");
        let relative = (ours[0] * accu / theirs[0] - 1.0).abs();
        assert!(relative < 1e-5, "{ours:?}, not {theirs:?} / {accu}");
        let (ours, theirs) = (numbers(&log, "lr = "), numbers(&stored, "Lr: "));
        assert!(
            (ours[0] / theirs[0] - 1.0).abs() < 1e-15,
            "{ours:?} {theirs:?}"
        );
    }

    /// Trains from the stored initial state and compares the log.
    fn train(&self) {
        self.train_as("golden", &[]);
        let log = fs::read_to_string(self.path("results/log/log_run_golden.txt")).unwrap();
        let epochs = self.expected["epochs"].as_array().unwrap();
        let (losses, rates) = (numbers(&log, "loss = "), numbers(&log, "lr = "));
        assert_eq!(
            (losses.len(), rates.len()),
            (epochs.len(), epochs.len()),
            "{log}"
        );
        for ((epoch, loss), rate) in epochs.iter().zip(losses).zip(rates) {
            let relative = (loss / epoch["loss"].as_f64().unwrap() - 1.0).abs();
            assert!(relative < 1e-5, "{epoch}: the loss is {loss}");
            // The JSON reader is exact up to the last bit.
            let exact = (rate / epoch["lr"].as_f64().unwrap() - 1.0).abs();
            assert!(exact < 1e-15, "{epoch}: the learning rate is {rate}");
        }
        let mut rest = &squeezed(&log)[..];
        for line in epochs
            .iter()
            .flat_map(|epoch| epoch["val"].as_array().unwrap())
        {
            let line = squeezed(line.as_str().unwrap());
            let at = rest
                .find(&line)
                .unwrap_or_else(|| panic!("{line} is not in {rest}"));
            rest = &rest[at + line.len()..];
        }
    }

    /// Evaluates a checkpoint and compares accuracies and answers.
    fn evaluate(&self, version: &str, epoch: u64) {
        let printed = self.succeed(&[
            "--RUN=val",
            &format!("--CKPT_V={version}"),
            &format!("--CKPT_E={epoch}"),
        ]);
        let printed = squeezed(&printed);
        for line in self.expected["val"]["lines"].as_array().unwrap() {
            let line = squeezed(line.as_str().unwrap());
            assert!(printed.contains(&line), "{line} is not in {printed}");
        }
        let stored = self.expected["val"]["answers"].as_str().unwrap();
        let ours = stored.replace("golden", version);
        assert_same_answers(&self.path(&ours), &self.stored.join(stored));
    }

    /// Answers the test questions and compares answers and logits.
    fn test(&self) {
        self.succeed(&[
            "--RUN=test",
            "--CKPT_V=golden",
            "--CKPT_E=3",
            "--SAVE_PRED=True",
        ]);
        let answers = self.expected["test"]["answers"].as_str().unwrap();
        assert_same_answers(&self.path(answers), &self.stored.join(answers));
        let logits = |file: &Path| -> ndarray::Array2<f32> {
            let mut npz = zip::ZipArchive::new(fs::File::open(file).unwrap()).unwrap();
            ndarray::Array2::read_npy(npz.by_name("pred.npy").unwrap()).unwrap()
        };
        let ours = logits(&self.path("results/pred/result_run_golden_epoch3.npz"));
        let apart = distance(&ours, &logits(&self.stored.join("pred_golden_epoch3.npz")));
        assert!(apart < 1e-3, "logits differ by {apart}");
    }
}

/// Replays a stored run, and evaluates further versions of its checkpoint of epoch 2.
fn replay(dataset: &'static str, name: &str, versions: &[&str]) {
    let Some(run) = Run::of(dataset, name) else {
        return;
    };
    run.train();
    run.evaluate("golden", 2);
    run.test();
    for version in versions {
        run.take_checkpoint(&format!("ckpt_{version}/epoch2.pkl"));
        run.evaluate(version, 2);
    }
    run.resume();
}

/// A stored run of each family.
const FAMILIES: [(&str, &str); 6] = [
    ("vqa", "vqa_butd"),
    ("vqa", "vqa_ban_4"),
    ("vqa", "vqa_mfh"),
    ("vqa", "vqa_mmnasnet_small"),
    ("gqa", "gqa_mcan_small_frcn_bbox_grid"),
    ("clevr", "clevr_mcan_small"),
];

/// With dropout from one seed, and one epoch.
const DROPOUT: [&str; 3] = ["--SET=DROPOUT_R=0.2", "--SEED=5", "--MAX_EPOCH=1"];

/// The feature file that a training in file order comes to last.
fn last_features(data: &Path, dataset: &str, samples: usize) -> PathBuf {
    let read = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(data.join(dataset).join("raw").join(file)).unwrap())
            .unwrap()
    };
    let (images, file): (Vec<Value>, fn(&Value) -> String) = match dataset {
        "vqa" => (
            read("v2_mscoco_train2014_annotations.json")["annotations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|a| a["image_id"].clone())
                .collect(),
            |image| {
                format!(
                    "train2014/COCO_train2014_{:012}.jpg.npz",
                    image.as_i64().unwrap()
                )
            },
        ),
        "clevr" => (
            read("questions/CLEVR_train_questions.json")["questions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|q| q["image_index"].clone())
                .collect(),
            |image| format!("train/{image}.npz"),
        ),
        _ => (
            // The order of the text: a parsed object is sorted.
            fs::read_to_string(data.join("gqa/raw/questions1.2/train_balanced_questions.json"))
                .unwrap()
                .split("\"imageId\": \"")
                .skip(1)
                .map(|rest| Value::from(rest.split('"').next().unwrap()))
                .collect(),
            |image| format!("gqa-frcn/{}.npz", image.as_str().unwrap()),
        ),
    };
    let first = |i: &usize| images.iter().position(|image| *image == images[*i]) == Some(*i);
    let last = (0..samples).rev().find(first).unwrap();
    assert!(last / 16 > 5, "the image of sample {last} comes too early");
    data.join(dataset).join("feats").join(file(&images[last]))
}

#[test]
fn a_run_that_goes_on_in_the_middle_of_an_epoch_is_the_whole_run_bit_for_bit() {
    for (dataset, name) in FAMILIES {
        let Some(run) = Run::of(dataset, name) else {
            return;
        };
        run.train_as("whole", &DROPOUT);
        // A damaged file ends a second run in its last step; it has saved its fifth.
        let data = run.path("data");
        let stored = fs::read_link(&data).unwrap();
        fs::remove_file(&data).unwrap();
        let copied = Command::new("cp")
            .arg("-rL")
            .args([&stored, &data])
            .status();
        assert!(copied.unwrap().success());
        let allowed = Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(&data)
            .status();
        assert!(allowed.unwrap().success());
        let samples = run.expected["data_size"].as_u64().unwrap() as usize / 16 * 16;
        let file = last_features(&data, dataset, samples);
        let content = fs::read(&file).unwrap();
        fs::write(&file, &content[..content.len() / 2]).unwrap();
        let fixed = ["--RUN=train", "--SPLIT=train", "--RESUME=True"];
        let from_init = [
            "--CKPT_V=init",
            "--CKPT_E=0",
            "--VERSION=part",
            "--SET=SAVE_STEPS=5",
        ];
        let message = common::failure(&run.start(&[&fixed[..], &from_init, &DROPOUT].concat()));
        assert!(message.contains("cannot read the features"), "{message}");
        fs::write(&file, content).unwrap();

        let middle = run.path("ckpts/ckpt_part/last.pkl");
        let saved = mcan::checkpoint::load(&middle).unwrap();
        assert_eq!(saved.mcan.map(|state| state.batch), Some(5), "{name}");
        let from = format!("--CKPT_PATH={}", middle.display());
        let rest = ["--VERSION=rest", from.as_str()];
        run.succeed(&[&fixed[..], &rest, &DROPOUT].concat());
        let epoch = |version: &str| run.path(&format!("ckpts/ckpt_{version}/epoch1.pkl"));
        assert_same_state(&epoch("whole"), &epoch("rest"));
    }
}

#[test]
fn two_replicas_are_one_with_two_parts() {
    for (dataset, name) in FAMILIES {
        let Some(run) = Run::of(dataset, name) else {
            return;
        };
        let parts = ["--ACCU=2", "--ACCU=1"];
        run.train_as("one", &[&DROPOUT[..], &parts[..1]].concat());
        run.train_as(
            "two",
            &[&DROPOUT[..], &parts[1..], &["--GPU=cpu,cpu"]].concat(),
        );
        let loss = |version: &str| {
            let log = run.path(&format!("results/log/log_run_{version}.txt"));
            numbers(&fs::read_to_string(log).unwrap(), "loss = ")[0]
        };
        let relative = (loss("one") / loss("two") - 1.0).abs();
        assert!(
            relative < 1e-6,
            "{name}: {} and {}",
            loss("one"),
            loss("two")
        );
    }
}

#[test]
fn a_checkpoint_tells_its_model() {
    let Some(run) = Run::of("vqa", "vqa_butd") else {
        return;
    };
    run.take_checkpoint("ckpt_golden/epoch2.pkl");
    fs::remove_file(run.path("model.yml")).unwrap();
    let line = |more: &[&str]| {
        let fixed = [
            "--DATASET=vqa",
            "--RUN=val",
            "--GPU=cpu",
            "--CKPT_V=golden",
            "--CKPT_E=2",
            "--SET=FEAT_SIZE={vqa: {FRCN_FEAT_SIZE: [20, 40]}}",
        ];
        command(run.folder.path(), &[&fixed[..], more].concat())
            .output()
            .unwrap()
    };
    let output = line(&[]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(
        message.contains("the model butd of OpenVQA: --MODEL=butd"),
        "{message}"
    );
    let answers = "results/cache/result_run_golden.json";
    assert_same_answers(&run.path(answers), &run.stored.join(answers));
    let message = common::failure(&line(&["--MODEL=mcan_small"]));
    assert!(message.contains("--MODEL=butd"), "{message}");
}

#[test]
fn butd_on_vqa_is_openvqas() {
    // The names that a configuration without dropout gives, and those of PyTorch's newer weight norm.
    replay(
        "vqa",
        "vqa_butd",
        &["names_without_dropout", "parametrizations"],
    );
}

#[test]
fn mcan_on_vqa_is_openvqas() {
    // The names that several GPUs give, and the file format before PyTorch 1.6.
    replay("vqa", "vqa_mcan_small", &["module_prefix", "legacy_format"]);
}

#[test]
fn mcan_on_clevr_is_openvqas() {
    replay("clevr", "clevr_mcan_small", &[]);
}

#[test]
fn large_mcan_with_boxes_is_openvqas() {
    replay("vqa", "vqa_mcan_large", &[]);
}

#[test]
fn ban_is_openvqas() {
    replay("vqa", "vqa_ban_4", &["names_without_dropout"]);
    replay("vqa", "vqa_ban_8", &[]);
}

#[test]
fn mfb_and_mfh_are_openvqas() {
    replay("vqa", "vqa_mfb", &[]);
    replay("vqa", "vqa_mfh", &[]);
}

#[test]
fn mmnasnet_is_openvqas() {
    replay("vqa", "vqa_mmnasnet_small", &[]);
    replay("vqa", "vqa_mmnasnet_large", &[]);
}

#[test]
fn models_on_gqa_are_openvqas() {
    for name in [
        "gqa_butd",
        "gqa_ban_4",
        "gqa_mcan_small_frcn",
        "gqa_mcan_small_frcn_bbox",
        "gqa_mcan_small_frcn_bbox_grid",
    ] {
        replay("gqa", name, &[]);
    }
}
