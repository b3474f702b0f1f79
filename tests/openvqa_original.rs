//! OpenVQA itself, from the checkout that `MCAN_OPENVQA` names, and this program exchange checkpoints of each model.
//!
//! This program trains two epochs. OpenVQA goes on from the first, and evaluates the second; this program evaluates what
//! OpenVQA then wrote. Also needs `MCAN_PYTHON`, a Python with torch and PyYAML.

mod common;

use common::openvqa::{Run, numbers, squeezed};
use common::{assert_close, python};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Changes of `model.yml`: dropout, which names layers, though so little that it never drops anything; and the learning rate
/// decays before the epoch that both make.
const CHANGES: [(&str, &str); 3] = [
    ("\nDROPOUT_R: 0.0\n", "\nDROPOUT_R: 1.0e-12\n"),
    ("\nLR_DECAY_LIST: [2]\n", "\nLR_DECAY_LIST: [1]\n"),
    ("\nMAX_EPOCH: 3\n", "\nMAX_EPOCH: 2\n"),
];

/// OpenVQA, and the Python that runs it.
struct Original {
    checkout: PathBuf,
    python: PathBuf,
}

impl Original {
    /// `None` after saying what is not there.
    fn find() -> Option<Original> {
        let Some(checkout) = std::env::var_os("MCAN_OPENVQA") else {
            eprintln!("skipped: MCAN_OPENVQA names no checkout of MILVLG/openvqa");
            return None;
        };
        let python = python()?;
        let yaml = Command::new(&python).args(["-c", "import yaml"]).output();
        if !yaml.unwrap().status.success() {
            eprintln!(
                "skipped: {} has no PyYAML, which OpenVQA needs",
                python.display()
            );
            return None;
        }
        let checkout = checkout.into();
        Some(Original { checkout, python })
    }

    /// Makes runs, each of a folder and keys, one after the other.
    fn run(&self, runs: &[Value]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runs.json");
        fs::write(&file, Value::from(runs).to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openvqa_original.py");
        let output = Command::new(&self.python)
            .args([&script, &self.checkout, &file])
            .env("OMP_NUM_THREADS", "1")
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
    }
}

impl Run {
    /// A run with `CHANGES`, and `theirs/`: OpenVQA's working directory, in which only the results are its own.
    fn shared_with_the_original(dataset: &'static str, name: &str) -> Option<Run> {
        let run = Run::of(dataset, name)?;
        let mut model = fs::read_to_string(run.path("model.yml")).unwrap();
        for (from, to) in CHANGES {
            assert!(model.contains(from), "{name}: {model}");
            model = model.replace(from, to);
        }
        fs::write(run.path("model.yml"), model).unwrap();
        fs::create_dir_all(run.path("theirs/results")).unwrap();
        for name in ["data", "openvqa", "ckpts", "model.yml"] {
            symlink(run.path(name), run.path("theirs").join(name)).unwrap();
        }
        Some(run)
    }

    /// Answers val and test with the second epoch of `version`.
    fn answer(&self, version: &str) {
        let version = format!("--CKPT_V={version}");
        for mode in ["--RUN=val", "--RUN=test"] {
            self.succeed(&[mode, &version, "--CKPT_E=2"]);
        }
    }

    /// What OpenVQA does: it goes on from our first epoch, and answers with our second and with its own.
    fn of_the_original(&self) -> Vec<Value> {
        let run = |more: Value| {
            let mut keys = json!({"DATASET": self.dataset, "NUM_WORKERS": 0, "SEED": 5});
            let keys = keys.as_object_mut().unwrap();
            keys.extend(more.as_object().unwrap().clone());
            json!({"folder": self.path("theirs"), "keys": keys})
        };
        let training = json!({"RUN_MODE": "train", "TRAIN_SPLIT": "train", "EVAL_EVERY_EPOCH": false, "VERSION": "theirs",
            "RESUME": true, "CKPT_VERSION": "ours", "CKPT_EPOCH": 1});
        let mut runs = vec![run(training)];
        for version in ["ours", "theirs"] {
            for mode in ["val", "test"] {
                runs.push(run(
                    json!({"RUN_MODE": mode, "CKPT_VERSION": version, "CKPT_EPOCH": 2}),
                ));
            }
        }
        runs
    }

    /// The text of a file of ours, and of OpenVQA's.
    fn both(&self, file: &str) -> [String; 2] {
        [self.path(file), self.path("theirs").join(file)].map(|path| {
            fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        })
    }

    /// Loss and learning rate of the second epoch.
    fn compare_training(&self) {
        let ours = fs::read_to_string(self.path("results/log/log_run_ours.txt")).unwrap();
        let theirs =
            fs::read_to_string(self.path("theirs/results/log/log_run_theirs.txt")).unwrap();
        // OpenVQA logs the loss times ACCU.
        let accu = self.expected["accu"].as_f64().unwrap();
        let losses = numbers(&theirs, "Loss: ")
            .iter()
            .map(|loss| loss / accu)
            .collect::<Vec<_>>();
        assert_close(&numbers(&ours, "loss = ")[1..], &losses, 1e-5);
        assert_close(
            &numbers(&ours, "lr = ")[1..],
            &numbers(&theirs, "Lr: "),
            1e-15,
        );
    }

    /// Answers and accuracies of the second epoch of `version`.
    fn compare_answers(&self, version: &str) {
        let ending = if self.dataset == "clevr" {
            "txt"
        } else {
            "json"
        };
        for file in [
            format!("results/cache/result_run_{version}.{ending}"),
            format!("results/result_test/result_run_{version}_epoch2.{ending}"),
        ] {
            let [ours, theirs] = self.both(&file);
            assert_eq!(ours, theirs, "{file}");
        }
        // One of the logs has the training before the accuracies.
        let log = format!("results/log/log_run_{version}.txt");
        let [ours, theirs] = self.both(&log).map(|log| squeezed(&log));
        assert!(ours.len().min(theirs.len()) > 20, "{ours:?} {theirs:?}");
        assert!(
            ours.ends_with(&theirs) || theirs.ends_with(&ours),
            "{ours:?} {theirs:?}"
        );
    }
}

fn exchange(dataset: &'static str, names: &[&str]) {
    let Some(original) = Original::find() else {
        return;
    };
    let runs = names
        .iter()
        .map(|name| Run::shared_with_the_original(dataset, name));
    let Some(runs) = runs.collect::<Option<Vec<Run>>>() else {
        return;
    };
    for run in &runs {
        run.train_as("ours", &[]);
        run.answer("ours");
    }
    // One after the other in one Python, which takes seconds to load PyTorch.
    original.run(
        &runs
            .iter()
            .flat_map(Run::of_the_original)
            .collect::<Vec<_>>(),
    );
    for run in &runs {
        run.answer("theirs");
        println!("{}", run.stored.display());
        run.compare_training();
        run.compare_answers("ours");
        run.compare_answers("theirs");
    }
}

#[test]
fn openvqa_goes_on_from_our_models_on_vqa_and_we_from_its() {
    exchange(
        "vqa",
        &[
            "vqa_butd",
            "vqa_ban_4",
            "vqa_ban_8",
            "vqa_mfb",
            "vqa_mfh",
            "vqa_mcan_small",
            "vqa_mcan_large",
            "vqa_mmnasnet_small",
            "vqa_mmnasnet_large",
        ],
    );
}

#[test]
fn openvqa_goes_on_from_our_models_on_gqa_and_we_from_its() {
    exchange(
        "gqa",
        &[
            "gqa_butd",
            "gqa_ban_4",
            "gqa_mcan_small_frcn",
            "gqa_mcan_small_frcn_bbox",
            "gqa_mcan_small_frcn_bbox_grid",
        ],
    );
}

#[test]
fn openvqa_goes_on_from_our_model_on_clevr_and_we_from_its() {
    exchange("clevr", &["clevr_mcan_small"]);
}
