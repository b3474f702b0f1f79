//! Kills training by force at many random moments, and goes on each time from the newest checkpoint that is there.
//!
//! `MCAN_KILLS` says how often (default 20); figures go to standard output. With `MCAN_PYTHON` every checkpoint that a
//! kill left is also read by PyTorch.

mod common;

use common::{World, assert_same_state, demo_world};
use mcan::checkpoint;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

const EPOCHS: u64 = 5;
const TRAIN: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=SHUFFLE_MODE=external",
    "--MAX_EPOCH=5",
];

/// What the kills have met with.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// With a temporary file left behind: in the middle of a save.
    in_a_save: u64,
    /// Before there was a checkpoint to go on from.
    before_the_first_checkpoint: u64,
    /// Resumed in the middle of an epoch.
    resumed_within_an_epoch: u64,
    /// After the last epoch's checkpoint, before its evaluation was logged.
    after_the_last_checkpoint: u64,
    finished_runs: u64,
    checkpoints_read: u64,
}

/// One run that is killed again and again.
struct Victim<'a> {
    world: &'a World,
    version: String,
    keep: &'a Path,
}

impl Victim<'_> {
    fn folder(&self) -> PathBuf {
        self.world.path(&format!("ckpts/ckpt_{}", self.version))
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }

    /// Whether something has been written to a temporary file. (An empty one only tries whether the folder is writable.)
    fn is_saving(&self) -> bool {
        let is_begun = |file: &PathBuf| {
            file.file_name()
                .unwrap()
                .to_string_lossy()
                .ends_with(".partial")
                && fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0)
        };
        self.files().iter().any(is_begun)
    }

    /// The checkpoint that goes furthest; every one there is has to be whole.
    fn newest(&self, tally: &mut Tally) -> Option<(PathBuf, checkpoint::RunState)> {
        let mut newest: Option<(PathBuf, checkpoint::RunState)> = None;
        for file in self
            .files()
            .into_iter()
            .filter(|file| file.extension().is_some_and(|e| e == "pkl"))
        {
            let whole =
                checkpoint::load(&file).unwrap_or_else(|why| panic!("{}: {why:#}", file.display()));
            let state = whole.mcan.unwrap();
            tally.checkpoints_read += 1;
            let name = format!(
                "{}-{}-{}",
                tally.kills,
                self.version,
                file.file_name().unwrap().to_str().unwrap()
            );
            fs::copy(&file, self.keep.join(name)).unwrap();
            if newest
                .as_ref()
                .is_none_or(|(_, other)| other.step < state.step)
            {
                newest = Some((file, state));
            }
        }
        newest
    }

    fn start(&self, newest: Option<&Path>) -> Child {
        let version = format!("--VERSION={}", self.version);
        let from = newest.map(|file| format!("--CKPT_PATH={}", file.display()));
        let more = from
            .as_ref()
            .map_or(["--OVERWRITE=True", "--VERB=0"], |from| {
                ["--RESUME=True", from]
            });
        self.world
            .start(&[&TRAIN[..], &["--SET=SAVE_STEPS=2", &version], &more].concat())
    }

    /// Kills the child at a random moment, or when a random one of its next saves is under way. Whether it still lived.
    fn kill(&self, child: &mut Child, random: &mut StdRng) -> bool {
        if random.random_bool(0.3) {
            sleep(Duration::from_millis(random.random_range(0..2500)));
        } else {
            let mut wait_while = |saving: bool| {
                while self.is_saving() == saving && child.try_wait().unwrap().is_none() {}
            };
            wait_while(false);
            for _ in 0..random.random_range(0..4) {
                wait_while(true);
                wait_while(false);
            }
            // Or just after it.
            if random.random_bool(0.3) {
                wait_while(true);
            }
            sleep(Duration::from_micros(random.random_range(0..2000)));
        }
        let lived = child.try_wait().unwrap().is_none();
        let _ = child.kill();
        child.wait().unwrap();
        lived
    }

    /// Nothing but whole entries and whole answers.
    fn check_other_files(&self) {
        let log = self
            .world
            .path(&format!("results/log/log_run_{}.txt", self.version));
        let text = fs::read_to_string(log).unwrap_or_default();
        for entry in ["nowTime: ", "epoch = ", "Overall Accuracy is: "] {
            let last = text.rfind(entry).map_or("", |start| &text[start..]);
            assert!(last.is_empty() || last.ends_with('\n'), "torn: {text:?}");
        }
        let answers = self
            .world
            .path(&format!("results/cache/result_run_{}.json", self.version));
        if answers.exists() {
            mcan::datasets::vqa2::read_answers(&answers).unwrap();
        }
    }
}

/// Kills one run until it is through, or `most` kills have been made, and lets it end.
fn torment(victim: &Victim, most: u64, random: &mut StdRng, tally: &mut Tally) {
    loop {
        let newest = victim.newest(tally);
        victim.check_other_files();
        let mut child = victim.start(newest.as_ref().map(|(file, _)| file.as_path()));
        match &newest {
            None => tally.before_the_first_checkpoint += u64::from(tally.kills > 0),
            Some((_, state)) if state.batch > 0 => tally.resumed_within_an_epoch += 1,
            Some((_, state)) => tally.after_the_last_checkpoint += u64::from(state.epoch == EPOCHS),
        }
        if tally.kills < most && victim.kill(&mut child, random) {
            tally.kills += 1;
            tally.in_a_save += u64::from(victim.is_saving());
            continue;
        }
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        // A kill may have come when everything was done but the exit.
        assert!(
            output.status.success() || message.contains("nothing is left to train"),
            "{message}"
        );
        tally.finished_runs += 1;
        return;
    }
}

fn torch_reads(folder: &Path) {
    let script = "import sys, os, torch\nfor name in os.listdir(sys.argv[1]):\n    torch.load(os.path.join(sys.argv[1], name), weights_only=True)\n";
    common::run_python(script, &[folder]);
}

#[test]
fn training_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let most = std::env::var("MCAN_KILLS").map_or(20, |number| number.parse().unwrap());
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=whole"]].concat());
    let (mut random, mut tally) = (StdRng::seed_from_u64(most), Tally::default());
    let keep = tempfile::tempdir().unwrap();
    while tally.kills < most {
        let victim = Victim {
            world: &world,
            version: format!("v{}", tally.finished_runs),
            keep: keep.path(),
        };
        torment(&victim, most, &mut random, &mut tally);
        for epoch in 1..=EPOCHS {
            let file =
                |version: &str| world.path(&format!("ckpts/ckpt_{version}/epoch{epoch}.pkl"));
            assert_same_state(&file("whole"), &file(&victim.version));
        }
        assert_eq!(world.log("whole"), world.log(&victim.version), "{tally:?}");
        let answers =
            |version: &str| world.read(&format!("results/cache/result_run_{version}.json"));
        assert_eq!(answers("whole"), answers(&victim.version));
        let names: Vec<_> = victim
            .files()
            .iter()
            .map(|file| file.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(
            names.len() as u64,
            EPOCHS + 1,
            "nothing but the epochs and the lock: {names:?}"
        );
        torch_reads(keep.path());
        fs::remove_dir_all(victim.folder()).unwrap();
        fs::read_dir(keep.path())
            .unwrap()
            .flatten()
            .for_each(|file| fs::remove_file(file.path()).unwrap());
    }
    println!("{tally:#?}");
}
