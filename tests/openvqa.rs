//! Replays what OpenVQA did on its stored worlds, for each pair of model and data set that this program has.
//!
//! Each run starts from the stored `ckpt_init`, in a working directory laid out as OpenVQA's, and is compared with
//! `expected.json`: losses and learning rates of the epochs, accuracies to the last digit, answers byte for byte.

mod common;

use common::{command, distance, shared};
use ndarray_npy::ReadNpyExt;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A copy of a stored run's working directory.
struct Run {
    folder: tempfile::TempDir,
    stored: PathBuf,
    dataset: &'static str,
    expected: Value,
}

impl Run {
    /// `None` after saying that the stored outputs are not there.
    fn of(dataset: &'static str, name: &str) -> Option<Run> {
        let stored = shared(&format!("golden/openvqa/{name}"))?;
        let world = shared(&format!("golden/openvqa/world_{dataset}"))?;
        let folder = tempfile::tempdir().unwrap();
        symlink(world.join("data"), folder.path().join("data")).unwrap();
        if world.join("openvqa").exists() {
            symlink(world.join("openvqa"), folder.path().join("openvqa")).unwrap();
        }
        fs::copy(stored.join("model.yml"), folder.path().join("model.yml")).unwrap();
        let expected = serde_json::from_slice(&fs::read(stored.join("expected.json")).unwrap());
        let run = Run {
            folder,
            stored,
            dataset,
            expected: expected.unwrap(),
        };
        run.take_checkpoint("ckpt_init/epoch0.pkl");
        Some(run)
    }

    /// Copies a stored checkpoint into the working directory.
    fn take_checkpoint(&self, name: &str) {
        let copy = self.path("ckpts").join(name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(self.stored.join("ckpts").join(name), copy).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs the program and expects success; returns its standard output.
    fn succeed(&self, flags: &[&str]) -> String {
        let dataset = format!("--DATASET={}", self.dataset);
        let fixed = [
            dataset.as_str(),
            "--CFG=model.yml",
            "--GPU=cpu",
            "--SET=SHUFFLE_MODE=none",
        ];
        let flags = [&fixed[..], flags].concat();
        let output = command(self.folder.path(), &flags).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flags:?}: {message}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Trains from the stored initial state and compares the log.
    fn train(&self) {
        self.succeed(&[
            "--RUN=train",
            "--SPLIT=train",
            "--VERSION=golden",
            "--RESUME=True",
            "--CKPT_V=init",
            "--CKPT_E=0",
        ]);
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

/// The numbers behind each occurrence of `word`.
fn numbers(text: &str, word: &str) -> Vec<f64> {
    let number = |rest: &str| rest.split_whitespace().next()?.parse().ok();
    text.split(word).skip(1).filter_map(number).collect()
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_same_answers(ours: &Path, stored: &Path) {
    let read = |path: &Path| {
        fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let (ours, stored) = (read(ours), read(stored));
    match (
        serde_json::from_str::<Value>(&ours),
        serde_json::from_str::<Value>(&stored),
    ) {
        (Ok(ours), Ok(stored)) => assert_eq!(ours, stored),
        _ => assert_eq!(ours.trim_end(), stored.trim_end()),
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
