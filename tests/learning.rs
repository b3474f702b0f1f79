//! Shows that the model learns the demo world, and that it needs both image and question for it.

use clap::Parser;
use mcan::cli::Args;
use mcan::config::Config;
use mcan::data::ImageId;
use mcan::data::dataset::Sample;
use mcan::datasets::demo::{self, DemoOptions};
use mcan::distributed::Replica;
use mcan::run::inputs::{Inputs, Tables, Task};
use mcan::run::plan::Plan;
use mcan::run::predict::{Predictor, name_answers};
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
            question_id: whole.question_id(i).clone(),
            image_id: whole.image_id(i).clone(),
            image_split: whole.image_splits()[whole.image(i)],
            words: whole.words(i).to_vec(),
            targets: whole.targets(i).to_vec(),
        };
        blind(&mut sample);
        sample
    });
    let mut dataset = whole.without_samples();
    dataset.extend(samples);
    Task {
        dataset: Arc::new(dataset),
        features: task.features.clone(),
        max_token: task.max_token,
        longest_image: task.longest_image,
        tables: Tables::default(),
    }
}

/// Changes a sample, given an image that all may share.
type Blind<'a> = &'a dyn Fn(&mut Sample, &(ImageId, Option<&'static str>));

/// Trains `tiny` and returns its accuracy on val.
fn accuracy_of(root: &Path, version: &str, blind: Option<Blind>) -> f64 {
    let replica = || Replica::alone(Device::Cpu);
    let plan = Plan::new(&config(root, version), 1, None).unwrap();
    let mut inputs = Inputs::read(&plan, None, &[replica()]).unwrap();
    for task in [&mut inputs.training, &mut inputs.answering] {
        if let (Some(task), Some(blind)) = (task.as_mut(), blind) {
            let dataset = &task.dataset;
            let any_image = (
                dataset.image_id(0).clone(),
                dataset.image_splits()[dataset.image(0)],
            );
            *task = blinded(task, |sample| blind(sample, &any_image));
        }
    }
    let mut trainer = Trainer::new(&plan, &inputs, replica()).unwrap();
    trainer.epochs(&mut []).unwrap();
    let (task, replica) = (inputs.answering.as_ref().unwrap(), replica());
    let predictor = Predictor::new(trainer.net(), task, &plan, &replica, false).unwrap();
    let answers = name_answers(task, &inputs.answers, &predictor.answers().unwrap()).unwrap();
    let metric = inputs.metric.as_ref().unwrap();
    metric.score(&answers).unwrap().headline
}

#[test]
fn tiny_learns_the_demo_world_and_needs_image_and_question_for_it() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    demo::write(folder.path(), "vqa", &DemoOptions::default()).unwrap();
    let seeing = accuracy_of(folder.path(), "seeing", None);
    let image_blind = accuracy_of(
        folder.path(),
        "image-blind",
        Some(&|sample, image| (sample.image_id, sample.image_split) = image.clone()),
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
