//! What the tests that run the whole program share: the stored reference outputs, working folders, and the binary.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses its own part"
)]

pub mod gate;
pub mod openvqa;

use mcan::checkpoint;
use mcan::cli::Args;
use mcan::config::Config;
use mcan::datasets::demo::DemoOptions;
use ndarray::{Array1, Array2};
use ndarray_npy::ReadNpyExt;
use nix::sys::signal::{SigHandler, Signal};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tch::Tensor;

pub use mcan_data::testing::shared;

/// The arrays of a file of `--SAVE_PRED`: question ids (Q), and scores (Q, answers).
pub fn predictions(file: &Path) -> (Array1<i64>, Array2<f32>) {
    let mut npz = zip::ZipArchive::new(std::fs::File::open(file).unwrap()).unwrap();
    let ids = Array1::read_npy(npz.by_name("question_id.npy").unwrap()).unwrap();
    let scores = Array2::read_npy(npz.by_name("pred.npy").unwrap()).unwrap();
    (ids, scores)
}

/// The largest difference of two arrays' elements.
pub fn distance(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    (a - b)
        .into_iter()
        .fold(0.0, |largest, d| d.abs().max(largest))
}

/// A Python with torch, or `None` after saying that the test is skipped.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("MCAN_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("skipped: MCAN_PYTHON names no Python with torch (./setup.sh test makes one)");
    }
    python
}

/// A working directory of the program: reads `world`, writes in a folder of its own.
pub struct World {
    pub root: PathBuf,
    pub folder: tempfile::TempDir,
}

impl World {
    pub fn new(root: PathBuf) -> World {
        World {
            root,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The flags that lead to the world's inputs and to the folder's outputs.
    pub fn flags(&self) -> Vec<String> {
        heed_signals();
        let (root, out) = (self.root.display(), self.folder.path().display());
        let mut flags = vec![
            format!("--CFG={root}/small_model.yml"),
            format!("--DATA_PATH={root}/datasets/vqa"),
            format!("--FEAT_PATH={root}/datasets/coco_extract"),
        ];
        for (key, folder) in [
            ("RESULT_PATH", "results/result_test"),
            ("PRED_PATH", "results/pred"),
            ("CACHE_PATH", "results/cache"),
            ("LOG_PATH", "results/log"),
            ("CKPTS_PATH", "ckpts"),
        ] {
            flags.push(format!("--SET={key}={out}/{folder}"));
        }
        flags.push("--SET=SHUFFLE_MODE=none".into());
        flags.push("--SET=USE_GLOVE=false".into());
        flags
    }

    /// These flags and `more`, on the CPU unless that names other devices.
    pub fn line(&self, more: &[&str]) -> Vec<String> {
        let mut line = self.flags();
        line.extend(
            (!more.iter().any(|flag| flag.starts_with("--GPU"))).then(|| "--GPU=cpu".into()),
        );
        line.extend(more.iter().map(|&flag| flag.to_owned()));
        line
    }

    /// The configuration that these flags and `more` mean.
    pub fn config(&self, more: &[&str]) -> Config {
        use clap::Parser;
        Config::resolve(
            &Args::parse_from(["mcan".into()].into_iter().chain(self.line(more))).given(),
            &mcan::models::SCHEMA,
        )
        .unwrap()
    }

    /// Runs the binary with these flags and `more`.
    pub fn run(&self, more: &[&str]) -> Output {
        command(self.folder.path(), &self.line(more))
            .output()
            .unwrap()
    }

    /// Starts the binary with these flags and `more`, its messages to be read.
    pub fn start(&self, more: &[&str]) -> Child {
        let mut command = command(self.folder.path(), &self.line(more));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a shell script in which `"$@"` is the binary with these flags and `more`. `before` is put before the shell.
    pub fn script(&self, before: &[&str], script: &str, more: &[&str]) -> Output {
        let shell = ["sh", "-c", script, "sh", env!("CARGO_BIN_EXE_mcan")];
        let line = [before, &shell].concat();
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .args(self.line(more))
            .current_dir(self.folder.path())
            .env("OMP_NUM_THREADS", "1")
            .output()
            .unwrap()
    }

    /// Changes a JSON file of the data set.
    pub fn edit(&self, file: &str, change: impl Fn(&mut Value)) {
        let path = self.root.join("datasets/vqa").join(file);
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        std::fs::write(&path, json.to_string()).unwrap();
    }

    /// The log of a version, without the times in it.
    pub fn log(&self, version: &str) -> Vec<String> {
        let text = self.read(&format!("results/log/log_run_{version}.txt"));
        let untimed = |line: &str| {
            if line.starts_with("nowTime: ") {
                "nowTime".into()
            } else {
                line.to_owned()
            }
        };
        text.lines().map(untimed).collect()
    }

    /// The losses in the log of a version.
    pub fn losses(&self, version: &str) -> Vec<f64> {
        losses(&self.read(&format!("results/log/log_run_{version}.txt")))
    }

    /// Runs the binary and expects success.
    pub fn succeed(&self, more: &[&str]) -> String {
        let output = self.run(more);
        assert!(
            output.status.success(),
            "{more:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the binary, expects status 1 and one message, and returns that.
    pub fn fail(&self, more: &[&str]) -> String {
        failure(&self.run(more))
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}

/// Undoes that a background job of a script ignores Ctrl-C: the programs that the tests start would ignore it too.
#[allow(unsafe_code, reason = "the action of a signal")]
fn heed_signals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for name in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            // SAFETY: the default action runs no code of this process.
            unsafe { nix::sys::signal::signal(name, SigHandler::SigDfl) }.unwrap();
        }
    });
}

/// The losses in a log, one for each epoch.
pub fn losses(log: &str) -> Vec<f64> {
    log.lines()
        .filter_map(|line| line.split("  loss = ").nth(1)?.parse().ok())
        .collect()
}

/// As many values, and each within this part of its counterpart.
pub fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert!(!a.is_empty() && a.len() == b.len(), "{a:?} {b:?}");
    for (a, b) in a.iter().zip(b) {
        assert!((a / b - 1.0).abs() < tolerance, "{a} is not {b}");
    }
}

/// The names in a folder, sorted; none where there is no folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs a Python script with torch and expects success; what it prints, or `None` where the test is skipped.
pub fn run_python(script: &str, arguments: &[&Path]) -> Option<String> {
    let output = Command::new(python()?)
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Runs the binary in `folder`.
pub fn run(folder: &Path, flags: &[&str]) -> Output {
    command(folder, flags).output().unwrap()
}

/// The binary, to be run in `folder` on one thread: tests share two cores, and OpenMP threads that wait for each other's
/// core wait long.
pub fn command(folder: &Path, flags: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcan"));
    command
        .args(flags)
        .current_dir(folder)
        .env("OMP_NUM_THREADS", "1")
        // Users see no stack trace unless they ask for it.
        .env_remove("RUST_BACKTRACE")
        .env_remove("RUST_LIB_BACKTRACE");
    command
}

/// Two checkpoints hold the same parameters and optimizer, bit for bit.
pub fn assert_same_state(a: &Path, b: &Path) {
    let (a, b) = (checkpoint::load(a).unwrap(), checkpoint::load(b).unwrap());
    for ((name, x), (_, y)) in a.state_dict.iter().zip(&b.state_dict) {
        assert!(x.equal(y), "{name} differs");
    }
    for (x, y) in a
        .optimizer
        .unwrap()
        .moments
        .iter()
        .flatten()
        .zip(b.optimizer.unwrap().moments.iter().flatten())
    {
        assert!(x.step == y.step && x.exp_avg.equal(&y.exp_avg) && x.second.equal(&y.second));
    }
    assert_eq!(a.lr_base, b.lr_base);
}

/// The message of a run that ended with status 1.
pub fn failure(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        !message.contains("panicked") && !message.contains("frame #"),
        "{message}"
    );
    let last = message
        .lines()
        .skip_while(|line| !line.starts_with("mcan: "))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(!last.is_empty(), "no message: {message}");
    last
}

/// Parameters whose gradient is zero but for rounding, which Adam turns into full steps: softmax ignores a constant.
pub fn has_no_gradient(name: &str) -> bool {
    name.ends_with("linear_k.bias")
        || (name.starts_with("attflat") && name.ends_with("mlp.linear.bias"))
}

/// Largest absolute difference between two lists of parameters, and where; those without a gradient left out.
pub fn largest_difference(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> (f64, String) {
    assert_eq!(
        a.iter().map(|x| &x.0).collect::<Vec<_>>(),
        b.iter().map(|x| &x.0).collect::<Vec<_>>()
    );
    let pairs = a
        .iter()
        .zip(b)
        .filter(|((name, _), _)| !has_no_gradient(name));
    pairs
        .map(|((name, x), (_, y))| ((x - y).abs().max().double_value(&[]), name.clone()))
        .fold((0.0, String::new()), |most, here| {
            if here.0 > most.0 { here } else { most }
        })
}

/// A small made-up world in the official formats, with a model small enough for tests.
pub fn demo_world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("world");
    let options = DemoOptions {
        train_images: 24,
        val_images: 8,
        test_images: 4,
        ..DemoOptions::default()
    };
    mcan::datasets::demo::write(&root.join("datasets"), "vqa", &options).unwrap();
    let model = "LAYER: 2\nHIDDEN_SIZE: 16\nMULTI_HEAD: 2\nFLAT_MLP_SIZE: 16\nFLAT_OUT_SIZE: 32\nLR_BASE: 0.002\n\
                 BATCH_SIZE: 16\nNUM_WORKERS: 1\nSEED: 3\n";
    std::fs::write(root.join("small_model.yml"), model).unwrap();
    World { root, folder }
}
