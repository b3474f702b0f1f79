//! Every kind of file in every kind of disrepair, through the program: what it says, its exit status, that nothing is
//! left behind, and that its memory stays bounded.
//!
//! One table per kind of file. A row breaks one file of a sound made-up world, runs the program, compares, and mends the
//! file again. Run with `--nocapture` to see what the program says to each row.

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod census;
mod checkpoints;
mod clevr;
mod described;
mod families;
mod features;
mod forge;
mod gqa;
mod gqa_features;
mod gqa_lists;
mod hdf5;
mod model_features;
mod models;
mod old_checkpoints;
mod packed_features;
mod pickles;
mod settings;
mod vectors;
mod words;
mod worlds;

use common::{World, demo_world};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a run may allocate, in kB: two to three times what one on the sound world takes, libtorch's own share included.
/// The files of the tables would fill terabytes if they were believed.
const MEMORY_KB: u64 = 256 << 10;

/// How a row breaks a file: from the sound bytes (none where the world has no such file) to what is there instead.
type Break = Box<dyn Fn(&[u8]) -> Option<Vec<u8>>>;

/// One malformation.
pub struct Row {
    what: &'static str,
    /// The file, relative to the world, when it is another than the table's.
    file: Option<&'static str>,
    make: Break,
    /// What the message has to say, besides the file's name.
    says: &'static [&'static str],
}

impl Row {
    /// The same for another file than the table's.
    fn of(mut self, file: &'static str) -> Row {
        self.file = Some(file);
        self
    }
}

/// The file is made anew from the sound one.
pub fn row(
    what: &'static str,
    make: impl Fn(&[u8]) -> Vec<u8> + 'static,
    says: &'static [&'static str],
) -> Row {
    Row {
        what,
        file: None,
        make: Box::new(move |sound| Some(make(sound))),
        says,
    }
}

/// The file is these bytes.
pub fn bytes(what: &'static str, bytes: impl Into<Vec<u8>>, says: &'static [&'static str]) -> Row {
    let bytes = bytes.into();
    row(what, move |_| bytes.clone(), says)
}

/// The file is a zip archive that claims more members than it can have.
pub fn zips_of_too_many(says: &'static [&'static str]) -> [Row; 2] {
    let many = forge::zip_of_members(forge::ABSURD, 100);
    let as_many_as_bytes = forge::zip_of_members(4 << 20, 4 << 20);
    [
        bytes("absurd size: 10^15 members", many, says),
        bytes(
            "absurd size: as many members as bytes",
            as_many_as_bytes,
            says,
        ),
    ]
}

/// The file is not there.
pub fn absent(what: &'static str, says: &'static [&'static str]) -> Row {
    Row {
        what,
        file: None,
        make: Box::new(|_| None),
        says,
    }
}

/// The file ends in its middle.
pub fn cut(says: &'static [&'static str]) -> Row {
    row("truncated", |sound| sound[..sound.len() / 2].to_vec(), says)
}

/// A sound world of the test's own, with `sound.pkl`, a checkpoint of a model trained in it.
pub fn world() -> World {
    static CHECKPOINT: OnceLock<Vec<u8>> = OnceLock::new();
    let world = demo_world();
    let checkpoint = CHECKPOINT.get_or_init(|| {
        world.succeed(&[
            "--RUN=train",
            "--SPLIT=train",
            "--EVAL_EE=False",
            "--MAX_EPOCH=1",
            "--VERSION=sound",
        ]);
        let checkpoint = fs::read(world.path("ckpts/ckpt_sound/epoch1.pkl")).unwrap();
        fs::remove_dir_all(world.path("ckpts")).unwrap();
        fs::remove_dir_all(world.path("results")).unwrap();
        checkpoint
    });
    fs::write(world.root.join("sound.pkl"), checkpoint).unwrap();
    world
}

/// Runs every row of a table and reports all that fail at once.
///
/// `file` is relative to the world, and `flags` may say `WORLD` for where that is.
pub fn check(world: &World, kind: &str, file: &str, flags: &[&str], rows: Vec<Row>) {
    let flags: Vec<String> = flags
        .iter()
        .map(|flag| flag.replace("WORLD", world.root.to_str().unwrap()))
        .collect();
    let number = rows.len();
    let missing_line = census::check_line(kind, rows.iter().map(|row| row.what));
    let failures: Vec<String> = rows
        .into_iter()
        .filter_map(|row| {
            let path = world.root.join(row.file.unwrap_or(file));
            let sound = fs::read(&path).ok();
            match (row.make)(sound.as_deref().unwrap_or_default()) {
                Some(broken) => fs::write(&path, broken).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let outcome = complaint(world, &flags, &path, row.says);
            match sound {
                Some(sound) => fs::write(&path, sound).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            match outcome {
                Ok(message) => {
                    println!("{kind} | {} | {message}", row.what);
                    None
                }
                Err(wrong) => Some(format!("{kind}, {}: {wrong}", row.what)),
            }
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {number} rows:\n{}",
        failures.len(),
        failures.join("\n")
    );
    missing_line.unwrap();
}

/// What the program says, if that is as it should be; else what is wrong.
fn complaint(
    world: &World,
    flags: &[String],
    file: &Path,
    says: &[&str],
) -> Result<String, String> {
    let before = files(world);
    let limited = format!("ulimit -d {MEMORY_KB}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_mcan")])
        .args(world.line(&flags.iter().map(String::as_str).collect::<Vec<_>>()));
    command
        .current_dir(world.folder.path())
        .envs([("OMP_NUM_THREADS", "1"), ("RAYON_NUM_THREADS", "2")]);
    let output = command.output().unwrap();
    let all = String::from_utf8_lossy(&output.stderr);
    let ensure = |holds: bool, what: String| {
        if holds {
            Ok(())
        } else {
            Err(format!("{what}\n{all}"))
        }
    };
    ensure(
        output.status.code() == Some(1),
        format!("it ended with {}", output.status),
    )?;
    let number = all
        .lines()
        .filter(|line| line.starts_with("mcan: "))
        .count();
    ensure(number == 1, format!("it says {number} messages"))?;
    // The message is the last thing said.
    let message = all[all.find("mcan: ").unwrap_or(0)..]
        .trim()
        .replace(world.root.to_str().unwrap(), "");
    // A file that is not there may be one of many, told by their number.
    let name = file
        .file_name()
        .filter(|_| file.exists())
        .map(|name| name.to_str().unwrap());
    for part in name.iter().chain(says) {
        ensure(message.contains(part), format!("it does not say {part:?}"))?;
    }
    for part in [
        "panicked",
        "frame #",
        "Error {",
        "Err(",
        "memory ran out",
        "<input>",
        "Options",
    ] {
        ensure(!message.contains(part), format!("it says {part:?}"))?;
    }
    ensure(before == files(world), "it changed files".into())?;
    Ok(message)
}

/// Every file of the world and of what runs write, with its length and a fingerprint; locks aside, which mean nothing once
/// their process is gone.
fn files(world: &World) -> BTreeMap<PathBuf, (usize, u32)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![world.root.clone(), world.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name() != ".lock" {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, (bytes.len(), crc32fast::hash(&bytes)));
            }
        }
    }
    found
}
