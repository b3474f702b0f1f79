//! Stored runs of OpenVQA, in a working directory that this program shares with it.

use super::{command, shared};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A copy of a stored run's working directory.
pub struct Run {
    pub folder: tempfile::TempDir,
    pub stored: PathBuf,
    pub dataset: &'static str,
    pub expected: Value,
}

impl Run {
    /// `None` after saying that the stored outputs are not there.
    pub fn of(dataset: &'static str, name: &str) -> Option<Run> {
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
    pub fn take_checkpoint(&self, name: &str) {
        let copy = self.path("ckpts").join(name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(self.stored.join("ckpts").join(name), copy).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs the program.
    pub fn start(&self, flags: &[&str]) -> Output {
        let dataset = format!("--DATASET={}", self.dataset);
        let fixed = [
            dataset.as_str(),
            "--CFG=model.yml",
            "--GPU=cpu",
            "--SET=SHUFFLE_MODE=none",
        ];
        let flags = [&fixed[..], flags].concat();
        command(self.folder.path(), &flags).output().unwrap()
    }

    /// Runs the program and expects success; returns its standard output.
    pub fn succeed(&self, flags: &[&str]) -> String {
        let output = self.start(flags);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flags:?}: {message}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Trains `version` from the stored initial state.
    pub fn train_as(&self, version: &str, more: &[&str]) {
        let version = format!("--VERSION={version}");
        let fixed = [
            "--RUN=train",
            "--SPLIT=train",
            "--RESUME=True",
            "--CKPT_V=init",
            "--CKPT_E=0",
            version.as_str(),
        ];
        self.succeed(&[&fixed[..], more].concat());
    }
}

/// The numbers behind each occurrence of `word`.
pub fn numbers(text: &str, word: &str) -> Vec<f64> {
    let number = |rest: &str| rest.split([',', ' ', '\n']).next()?.parse().ok();
    text.split(word).skip(1).filter_map(number).collect()
}

pub fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub fn assert_same_answers(ours: &Path, stored: &Path) {
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
