//! Replays what the reference did on its stored worlds, step by step, and compares.

mod common;

use anyhow::Result;
use common::{World, assert_close, largest_difference, losses, names, predictions, shared};
use mcan::checkpoint;
use mcan::config::Config;
use mcan::distributed::Replica;
use mcan::run::inputs::Inputs;
use mcan::run::plan::Plan;
use mcan::run::train::{MicroBatch, StepListener, Trainer};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::Path;
use tch::Device;

/// One replayed or recorded micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    loss_per_question: f64,
    questions: u64,
    step: u64,
    lr: f64,
}

/// What the reference recorded: a loss per micro-batch, then step and learning rate.
fn recorded(path: &Path) -> Vec<Part> {
    let entries: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut parts, mut waiting) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry.get("loss") {
            Some(loss) => waiting.push((loss.as_f64().unwrap(), entry["n"].as_u64().unwrap())),
            None => {
                let (step, lr) = (
                    entry["step"].as_u64().unwrap(),
                    entry["lr"].as_f64().unwrap(),
                );
                let done = waiting.drain(..);
                parts.extend(done.map(|(loss_per_question, questions)| Part {
                    loss_per_question,
                    questions,
                    step,
                    lr,
                }));
            }
        }
    }
    parts
}

/// Records every micro-batch of a training.
#[derive(Default)]
struct Recorder(Vec<Part>);

impl StepListener for Recorder {
    fn micro_batch(&mut self, seen: &MicroBatch) -> Result<()> {
        self.0.push(Part {
            loss_per_question: seen.loss.double_value(&[]) / seen.questions as f64,
            questions: seen.questions as u64,
            step: seen.step,
            lr: seen.lr,
        });
        Ok(())
    }
}

/// Trains as `config` says, from its checkpoint, and records the same.
fn replay(config: &Config) -> Vec<Part> {
    tch::set_num_threads(1);
    let replica = || Replica::alone(Device::Cpu);
    let before_loading = Plan::new(config, 0, None).unwrap();
    let checkpoint = checkpoint::load(&before_loading.ckpt_to_load()).unwrap();
    let plan = Plan::new(config, 0, Some(&checkpoint)).unwrap();
    let inputs = Inputs::read(&plan, None, &[replica()]).unwrap();
    let mut trainer = Trainer::new(&plan, &inputs, replica()).unwrap();
    trainer.restore(&checkpoint).unwrap();
    let mut recorder = Recorder::default();
    trainer.epochs(&mut [&mut recorder]).unwrap();
    recorder.0
}

fn assert_same_steps(ours: &[Part], theirs: &[Part], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        assert_eq!((a.step, a.lr, a.questions), (b.step, b.lr, b.questions));
        let relative = (a.loss_per_question / b.loss_per_question - 1.0).abs();
        assert!(
            relative < tolerance,
            "step {}: {} is not {}",
            a.step,
            a.loss_per_question,
            b.loss_per_question
        );
    }
}

/// Lines of a log but for the times and the losses, which are compared as numbers.
fn log_lines(text: &str) -> Vec<String> {
    let kept = text.lines().filter(|line| !line.starts_with("nowTime"));
    kept.map(|line| line.split("  loss = ").next().unwrap().to_string())
        .collect()
}

fn compare_parameters(ours: &Path, theirs: &Path, tolerance: f64) {
    let (a, b) = (
        checkpoint::load(ours).unwrap(),
        checkpoint::load(theirs).unwrap(),
    );
    let (difference, name) = largest_difference(&a.state_dict, &b.state_dict);
    assert!(
        difference < tolerance,
        "{name} differs by {difference} from {}",
        theirs.display()
    );
}

#[test]
fn training_from_the_stored_state_is_the_references_training() {
    let Some(root) = shared("golden/world") else {
        return;
    };
    let ckpts = format!("--CKPT_PATH={}/ckpts/ckpt_init/epoch0.pkl", root.display());
    let world = World::new(root.clone());
    let flags = [
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=golden",
        "--BS=32",
        "--MAX_EPOCH=6",
        "--RESUME",
        "--NW=2",
    ];
    let config = world.config(&[&flags[..], &[&ckpts]].concat());
    assert_same_steps(
        &replay(&config),
        &recorded(&root.join("trace_train.json")),
        1e-5,
    );

    let (ours, theirs) = (
        world.read("results/log/log_run_golden.txt"),
        std::fs::read_to_string(root.join("log_run_golden_train.txt")).unwrap(),
    );
    assert_eq!(
        log_lines(&ours),
        log_lines(&theirs),
        "learning rates and accuracies, to the last digit"
    );
    assert_close(&losses(&ours), &losses(&theirs), 1e-5);
    for epoch in [3, 6] {
        let name = format!("ckpts/ckpt_golden/epoch{epoch}.pkl");
        compare_parameters(&world.path(&name), &root.join(name), 1e-5);
    }
}

#[test]
fn resuming_the_references_checkpoint_is_what_the_reference_did() {
    let Some(root) = shared("golden/world") else {
        return;
    };
    let ckpts = format!(
        "--CKPT_PATH={}/ckpts/ckpt_golden/epoch3.pkl",
        root.display()
    );
    let world = World::new(root.clone());
    // Questions and images of val have ids of train in this world. The reference takes those of val for the annotations of
    // train, and we do so where the files of train lack them.
    let ids = |split: &str| -> Value {
        let file = format!("datasets/vqa/v2_OpenEnded_mscoco_{split}2014_questions.json");
        serde_json::from_slice(&std::fs::read(root.join(file)).unwrap()).unwrap()
    };
    let (mut train, val) = (ids("train"), ids("val"));
    let id_of = |question: &Value| question["question_id"].as_i64().unwrap();
    let of_val: Vec<i64> = val["questions"]
        .as_array()
        .unwrap()
        .iter()
        .map(id_of)
        .collect();
    for question in train["questions"].as_array_mut().unwrap() {
        if of_val.contains(&id_of(question)) {
            question["question_id"] = json!(id_of(question) + 1_000_000_000);
        }
    }
    let without = world.path("train_questions.json");
    std::fs::write(&without, train.to_string()).unwrap();
    let questions = format!("--SET=QUESTION_PATH={{train: {}}}", without.display());
    let features = root.join("datasets/coco_extract");
    let number = |name: &str| name.rsplit('_').next().unwrap().to_owned();
    let of_val: Vec<String> = names(&features.join("val2014"))
        .iter()
        .map(|name| number(name))
        .collect();
    let folder = world.path("train_features");
    std::fs::create_dir(&folder).unwrap();
    for name in names(&features.join("train2014")) {
        if !of_val.contains(&number(&name)) {
            symlink(features.join("train2014").join(&name), folder.join(&name)).unwrap();
        }
    }
    let images = format!("--SET=IMG_FEAT_PATH={{train: {}}}", folder.display());
    let flags = [
        "--RUN=train",
        &questions,
        &images,
        "--SPLIT=train+val+vg",
        "--VERSION=resumed",
        "--BS=32",
        "--MAX_EPOCH=5",
        "--ACCU=2",
        "--SET=GRAD_NORM_CLIP=1.0",
        "--RESUME",
        "--NW=1",
    ];
    let config = world.config(&[&flags[..], &[&ckpts]].concat());
    let parts = replay(&config);
    assert_same_steps(&parts, &recorded(&root.join("trace_resume.json")), 1e-5);
    // The reference's log multiplies the loss by ACCU; ours does not.
    let theirs =
        losses(&std::fs::read_to_string(root.join("results/log/log_run_resumed.txt")).unwrap());
    let ours = world.losses("resumed");
    let doubled: Vec<f64> = ours.iter().map(|loss| 2.0 * loss).collect();
    assert_close(&doubled, &theirs, 1e-5);
    let name = "ckpts/ckpt_resumed/epoch5.pkl";
    compare_parameters(&world.path(name), &root.join(name), 1e-5);
}

#[test]
fn answers_and_probabilities_are_the_references() {
    let Some(root) = shared("golden/world") else {
        return;
    };
    let world = World::new(root.clone());
    for (folder, epoch) in [("ckpt_golden", 3), ("ckpt_legacy", 3), ("ckpt_multigpu", 3)] {
        let file = format!(
            "--CKPT_PATH={}/ckpts/{folder}/epoch{epoch}.pkl",
            root.display()
        );
        let out = world.succeed(&["--RUN=val", "--BS=32", &file]);
        assert!(
            out.contains("Overall Accuracy is: 27.17\n")
                && out.contains("other : 5.41\nyes/no : 1.07\nnumber : 93.55"),
            "{out}"
        );
        let written = std::fs::read_dir(world.path("results/cache"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let name = written.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("result_run_epoch3.pkl_"), "{name}");
        assert_eq!(
            std::fs::read(&written).unwrap(),
            std::fs::read(root.join("results/cache/result_run_golden.json")).unwrap()
        );
        std::fs::remove_file(written).unwrap();
    }
    std::fs::create_dir_all(world.path("ckpts/ckpt_golden")).unwrap();
    std::fs::copy(
        root.join("ckpts/ckpt_golden/epoch6.pkl"),
        world.path("ckpts/ckpt_golden/epoch6.pkl"),
    )
    .unwrap();
    world.succeed(&[
        "--RUN=test",
        "--BS=32",
        "--CKPT_V=golden",
        "--CKPT_E=6",
        "--SAVE_PRED=True",
    ]);
    let answers = "results/result_test/result_run_golden_epoch6.json";
    assert_eq!(
        world.read(answers),
        std::fs::read_to_string(root.join(answers)).unwrap()
    );
    let (ids, pred) = predictions(&world.path("results/pred/result_run_golden_epoch6.npz"));
    let (their_ids, their_pred) = predictions(&root.join("pred_golden_epoch6.npz"));
    assert_eq!(ids, their_ids);
    let difference = (pred - their_pred)
        .iter()
        .fold(0f32, |most, d| most.max(d.abs()));
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn real_features_questions_and_answers_give_the_references_losses() {
    let Some(root) = shared("real/mini") else {
        return;
    };
    let ckpts = format!("--CKPT_PATH={}/ckpts/ckpt_init/epoch0.pkl", root.display());
    let world = World::new(root.clone());
    let flags = [
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=real",
        "--BS=2",
        "--MAX_EPOCH=40",
        "--RESUME",
        "--NW=0",
    ];
    let config = world.config(&[&flags[..], &[&ckpts]].concat());
    let (ours, theirs) = (replay(&config), recorded(&root.join("trace_train.json")));
    assert_eq!(ours.len(), 120);
    assert_same_steps(&ours, &theirs, 1e-4);
    let log = std::fs::read_to_string(root.join("results/log/log_run_real.txt")).unwrap();
    assert_eq!(
        log_lines(&world.read("results/log/log_run_real.txt")),
        log_lines(&log)
    );
}
