//! What users of the reference have on disk: archives, word vectors, partial data, and the reference itself.

mod common;

use common::{World, distance, losses, predictions, python, shared};
use flate2::Compression;
use flate2::write::GzEncoder;
use mcan::data::embeddings;
use mcan::distributed::Replica;
use mcan::run::inputs::Inputs;
use mcan::run::plan::Plan;
use mcan::run::train::Trainer;
use ndarray::Array2;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use tch::{Device, Kind, Tensor};

/// The golden world with features of its own, which a test may replace.
fn golden_copy() -> Option<World> {
    let root = shared("golden/world")?;
    let world = World::new(root.clone());
    let copy = world.path("world");
    for folder in [
        "datasets/vqa",
        "datasets/coco_extract/train2014",
        "datasets/coco_extract/val2014",
        "datasets/coco_extract/test2015",
    ] {
        fs::create_dir_all(copy.join(folder)).unwrap();
        for file in fs::read_dir(root.join(folder)).unwrap().flatten() {
            fs::copy(file.path(), copy.join(folder).join(file.file_name())).unwrap();
        }
    }
    fs::copy(root.join("small_model.yml"), copy.join("small_model.yml")).unwrap();
    for (epoch, name) in [(6, "golden"), (0, "init")] {
        let file = format!("ckpts/ckpt_{name}/epoch{epoch}.pkl");
        fs::create_dir_all(world.path(&file).parent().unwrap()).unwrap();
        fs::copy(root.join(&file), world.path(&file)).unwrap();
    }
    Some(World {
        root: copy,
        folder: world.folder,
    })
}

const TEST: [&str; 5] = [
    "--RUN=test",
    "--BS=32",
    "--CKPT_V=golden",
    "--CKPT_E=6",
    "--SAVE_PRED",
];

fn probabilities(world: &World) -> Array2<f32> {
    world.succeed(&TEST);
    predictions(&world.path("results/pred/result_run_golden_epoch6.npz")).1
}

/// Replaces a feature folder by the archive that it is published as.
fn archive(folder: &Path) {
    let file = fs::File::create(folder.with_extension("tar.gz")).unwrap();
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    tar.append_dir_all(folder.file_name().unwrap(), folder)
        .unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn packed_archives_give_the_same_probabilities_as_the_folder() {
    let Some(world) = golden_copy() else { return };
    let from_folder = probabilities(&world);
    let features = world.root.join("datasets/coco_extract");
    ["train2014", "val2014", "test2015"]
        .iter()
        .for_each(|split| archive(&features.join(split)));
    let missing = world.fail(&TEST);
    assert!(
        missing.contains("test2015.tar.gz with --RUN=pack"),
        "{missing}"
    );

    world.succeed(&["--RUN=pack", "--SET=BANK_DTYPE=f32"]);
    assert_eq!(probabilities(&world), from_folder, "bit for bit");
    let again = world.succeed(&["--RUN=pack"]);
    assert!(again.contains("is there already"), "{again}");
    let report = world.succeed(&["--RUN=pack", "--SET=BANK_DTYPE=f16", "--OVERWRITE"]);
    assert!(report.contains("largest rounding to f16"), "{report}");
    let difference = distance(&probabilities(&world), &from_folder);
    eprintln!("largest difference of a probability between f16 and f32 features: {difference:e}");
    assert!(difference > 0.0 && difference < 1e-3, "{difference}");
}

#[test]
fn a_cut_archive_leaves_no_bank() {
    let Some(world) = golden_copy() else { return };
    let folder = world.root.join("datasets/coco_extract/train2014");
    archive(&folder);
    let file = folder.with_extension("tar.gz");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let message = world.fail(&["--RUN=pack"]);
    assert!(message.contains("train2014.tar.gz"), "{message}");
    assert!(!folder.with_extension("safetensors").exists());
}

#[test]
fn questions_are_read_from_the_published_zips() {
    let Some(world) = golden_copy() else { return };
    let from_json = probabilities(&world);
    let vqa = world.root.join("datasets/vqa");
    let members = [
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
    ];
    let mut zip =
        zip::ZipWriter::new(fs::File::create(vqa.join("v2_Questions_Test_mscoco.zip")).unwrap());
    for member in members {
        zip.start_file(member, zip::write::SimpleFileOptions::default())
            .unwrap();
        std::io::copy(&mut fs::File::open(vqa.join(member)).unwrap(), &mut zip).unwrap();
        fs::remove_file(vqa.join(member)).unwrap();
    }
    zip.finish().unwrap();
    assert_eq!(probabilities(&world), from_json);
}

#[test]
fn train_and_val_alone_are_enough_to_train() {
    let Some(world) = golden_copy() else { return };
    let vqa = world.root.join("datasets/vqa");
    for file in fs::read_dir(&vqa).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if name.contains("test") || name.starts_with("VG") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    fs::remove_dir_all(world.root.join("datasets/coco_extract/test2015")).unwrap();
    let output = world.run(&[
        "--RUN=train",
        "--SPLIT=train+val",
        "--MAX_EPOCH=1",
        "--VERSION=v",
        "--BS=32",
    ]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && told.contains("question files of train, val\n"),
        "{told}"
    );
    let message = world.fail(&["--RUN=train", "--SPLIT=train+val+vg", "--MAX_EPOCH=1"]);
    assert!(
        message.contains("VG_questions.json") && message.contains("--SPLIT=train+val"),
        "{message}"
    );
}

#[test]
fn the_embedding_starts_from_the_vectors_of_spacys_package() {
    let Some(world) = golden_copy() else { return };
    let Some(package) = shared("golden/glove/en_vectors_web_lg-2.1.0.tar.gz") else {
        return;
    };
    let glove = format!("--GLOVE_PATH={}", package.display());
    let config = world.config(&[
        "--RUN=train",
        "--SPLIT=train",
        "--SET=USE_GLOVE=true",
        &glove,
    ]);
    let plan = Plan::new(&config, 1, None).unwrap();
    let inputs = Inputs::read(&plan, None, &[Replica::alone(Device::Cpu)]).unwrap();
    let trainer = Trainer::new(&plan, &inputs, Replica::alone(Device::Cpu)).unwrap();
    let words: Vec<&str> = inputs.vocabulary.words().collect();
    let expected = embeddings::load(&package, &words, None).unwrap();
    assert!(expected.found > 10, "{} of {}", expected.found, words.len());
    let embedding = trainer.net().parameters.tensors[0].view([-1]);
    assert!(embedding.equal(&Tensor::from_slice(&expected.values)));
    assert!(embedding.abs().sum(Kind::Float).double_value(&[]) > 0.0);
    let message = world.fail(&[
        "--RUN=train",
        "--SPLIT=train",
        "--SET=USE_GLOVE=true",
        "--GLOVE_PATH=nowhere",
    ]);
    assert!(
        message.contains("nowhere") && message.contains("--GLOVE_PATH"),
        "{message}"
    );
}

/// Needs a checkout of the reference at MCAN_REFERENCE.
#[test]
fn the_original_resumes_and_evaluates_our_checkpoint() {
    let Some(checkout) = std::env::var_os("MCAN_REFERENCE") else {
        eprintln!("skipped: MCAN_REFERENCE names no checkout of MILVLG/mcan-vqa");
        return;
    };
    let (Some(world), Some(python)) = (golden_copy(), python()) else {
        return;
    };
    world.succeed(&[
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=ours",
        "--BS=32",
        "--MAX_EPOCH=2",
        "--RESUME",
        "--CKPT_V=init",
        "--CKPT_E=0",
    ]);
    world.succeed(&["--RUN=val", "--CKPT_V=ours", "--CKPT_E=2", "--BS=32"]);

    let root = world.root.clone();
    for folder in [
        "core/data",
        "results",
        "ckpts/ckpt_ours",
        "ckpts/ckpt_theirs",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for epoch in [1, 2] {
        let file = format!("ckpts/ckpt_ours/epoch{epoch}.pkl");
        fs::copy(world.path(&file), root.join(&file)).unwrap();
    }
    fs::copy(
        root.join("datasets/vqa/answer_dict.json"),
        root.join("core/data/answer_dict.json"),
    )
    .unwrap();
    let run = |keys: Value| {
        let model = json!({"LAYER": 2, "HIDDEN_SIZE": 32, "MULTI_HEAD": 4, "DROPOUT_R": 0.0, "FLAT_MLP_SIZE": 32,
            "FLAT_GLIMPSES": 2, "FLAT_OUT_SIZE": 64, "IMG_FEAT_SIZE": 64, "LR_BASE": 0.002, "LR_DECAY_LIST": [3, 5],
            "BATCH_SIZE": 32, "NUM_WORKERS": 0, "USE_GLOVE": false, "SEED": 5, "TRAIN_SPLIT": "train"});
        let mut config = model.as_object().unwrap().clone();
        config.extend(keys.as_object().unwrap().clone());
        fs::write(root.join("config.json"), Value::from(config).to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference.py");
        let mut command = Command::new(&python);
        command
            .arg(script)
            .arg(&checkout)
            .arg("config.json")
            .current_dir(&root)
            .env("OMP_NUM_THREADS", "1");
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(
        json!({"RUN_MODE": "train", "VERSION": "theirs", "RESUME": true, "CKPT_VERSION": "ours", "CKPT_EPOCH": 1, "MAX_EPOCH": 2}),
    );
    let theirs = losses(&fs::read_to_string(root.join("results/log/log_run_theirs.txt")).unwrap());
    let ours = world.losses("ours");
    assert!(
        (ours[1] / theirs[0] - 1.0).abs() < 1e-5,
        "{ours:?} {theirs:?}"
    );
    run(json!({"RUN_MODE": "val", "CKPT_VERSION": "ours", "CKPT_EPOCH": 2}));
    let answers = "results/cache/result_run_ours.json";
    assert_eq!(
        world.read(answers),
        fs::read_to_string(root.join(answers)).unwrap()
    );
    let result = fs::read_to_string(root.join("results/log/log_run_ours.txt")).unwrap();
    assert!(
        world
            .read("results/log/log_run_ours.txt")
            .ends_with(&result),
        "accuracies: {result}"
    );
}
