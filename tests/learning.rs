//! Shows that the model learns the demo world, and that it needs both image and question for it.

use clap::Parser;
use mcan::cli::Args;
use mcan::config::Config;
use mcan::data::Dataset;
use mcan::data::dataset::Sample;
use mcan::datasets::demo::{self, DemoOptions};
use mcan::distributed::Replica;
use mcan::run::inputs::{Inputs, Task};
use mcan::run::predict;
use mcan::run::train::Trainer;
use std::path::Path;
use std::sync::Arc;
use tch::Device;

fn config(root: &Path, version: &str) -> Config {
    let root = root.display();
    Config::resolve(
        &Args::parse_from([
            "mcan".to_string(),
            "--RUN=train".into(),
            "--MODEL=tiny".into(),
            "--SPLIT=train".into(),
            "--SEED=1".into(),
            "--VERB=False".into(),
            format!("--VERSION={version}"),
            format!("--DATA_PATH={root}/vqa"),
            format!("--FEAT_PATH={root}/coco_extract"),
            format!("--SET=LOG_PATH={root}/log"),
            format!("--SET=CKPTS_PATH={root}/ckpts"),
            format!("--SET=CACHE_PATH={root}/cache"),
        ])
        .given(),
        &mcan::models::SCHEMA,
    )
    .unwrap()
}

/// The same questions with one half of what there is to see taken away.
fn blinded(task: &Task, blind: impl Fn(&mut Sample)) -> Task {
    let whole = &task.dataset;
    let samples = (0..whole.len()).map(|i| {
        let mut sample = Sample {
            question_id: whole.question_id(i),
            image_id: whole.image_id(i),
            words: whole.words(i).to_vec(),
            targets: whole.targets(i).to_vec(),
        };
        blind(&mut sample);
        sample
    });
    Task {
        dataset: Arc::new(Dataset::from_samples(samples)),
        features: task.features.clone(),
        table: None,
    }
}

/// Changes a sample, given an image that all may share.
type Blind<'a> = &'a dyn Fn(&mut Sample, u64);

/// Trains `tiny` and returns its accuracy on val.
fn accuracy_of(root: &Path, version: &str, blind: Option<Blind>) -> f64 {
    let config = config(root, version);
    let mut inputs = Inputs::read(&config, None, &[Replica::alone(Device::Cpu)]).unwrap();
    for task in [&mut inputs.training, &mut inputs.answering] {
        if let (Some(task), Some(blind)) = (task.as_mut(), blind) {
            let any_image = task.dataset.image_id(0);
            *task = blinded(task, |sample| blind(sample, any_image));
        }
    }
    let mut trainer = Trainer::new(&config, &inputs, Replica::alone(Device::Cpu)).unwrap();
    trainer.epochs(&mut |_| ()).unwrap();
    let task = inputs.answering.as_ref().unwrap();
    let answers = predict::answer_all(
        trainer.net(),
        task,
        &inputs.answers,
        &config,
        &Replica::alone(Device::Cpu),
    )
    .unwrap();
    predict::accuracy(inputs.evaluator.as_ref().unwrap(), &answers)
        .unwrap()
        .overall
}

#[test]
fn tiny_learns_the_demo_world_and_needs_image_and_question_for_it() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    demo::write(folder.path(), &DemoOptions::default()).unwrap();
    let seeing = accuracy_of(folder.path(), "seeing", None);
    let image_blind = accuracy_of(
        folder.path(),
        "image-blind",
        Some(&|sample, image| sample.image_id = image),
    );
    let question_blind = accuracy_of(
        folder.path(),
        "question-blind",
        Some(&|sample, _| sample.words.clear()),
    );
    eprintln!(
        "val accuracy: {seeing} seeing, {image_blind} image-blind, {question_blind} question-blind"
    );
    assert!(seeing >= 80.0, "{seeing}");
    assert!(image_blind < 50.0, "{image_blind}");
    assert!(question_blind < 40.0, "{question_blind}");
}
