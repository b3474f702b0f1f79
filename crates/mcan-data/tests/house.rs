//! Tests that the picture of the house in `src/lib.rs` is true: every room knows only rooms below it, and the nevers hold.
//!
//! The tests read both packages as text, so that they need no libtorch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the top down.
const ROOMS: [&str; 15] = [
    "main",
    "cli",
    "run",
    "report",
    "distributed",
    "models",
    "nn",
    "checkpoint",
    "native",
    "config",
    "datasets",
    "data",
    "formats",
    "text",
    "base",
];

/// (room, rooms that it never knows)
const NEVERS: [(&str, &[&str]); 5] = [
    ("datasets", &["models", "nn", "config"]),
    ("models", &["datasets"]),
    ("nn", &["config", "datasets"]),
    ("formats", &["text", "data", "datasets", "config"]),
    ("run", &["cli"]),
];

/// (file, line) that may break a rule, with the reason.
const EXCEPTIONS: [(&str, &str); 1] = [
    // The kinds of loss are a property of the targets; their formulas are in `nn`.
    ("src/nn/loss.rs", "use crate::datasets::LossKind;"),
];

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The files of both packages: path in the checkout, room, text.
fn files() -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for root in ["src", "crates/mcan-data/src"] {
        let (folder, mut found) = (checkout().join(root), Vec::new());
        rust_files(&folder, &mut found);
        for path in found {
            let inside = path.strip_prefix(&folder).unwrap().to_str().unwrap();
            let room = inside.split(['/', '.']).next().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            all.push((format!("{root}/{inside}"), room, text));
        }
    }
    all.sort();
    all
}

/// The numbered lines of code of a file, without its unit tests, which may use any room.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines
        .take_while(|(_, line)| !line.starts_with("mod tests {"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The rooms that a line names, as in `crate::data::Id` or `mcan_data::text`.
fn rooms_named(line: &str) -> Vec<&'static str> {
    let paths = ["crate::", "mcan_data::"]
        .into_iter()
        .flat_map(|package| line.split(package).skip(1));
    let first = |path: &str| {
        path.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .map(str::to_owned)
    };
    let names: Vec<String> = paths.filter_map(first).collect();
    ROOMS
        .into_iter()
        .filter(|room| names.iter().any(|name| name == room))
        .collect()
}

/// The position of a room in [`ROOMS`]; 0 is the top.
fn height(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

#[test]
fn no_import_leads_upwards_or_breaks_a_never() {
    let mut broken = Vec::new();
    for (path, room, text) in files() {
        let Some(own) = height(&room) else { continue };
        let is_test = ["tests.rs", "/tests/", "testing"]
            .iter()
            .any(|part| path.contains(part));
        if is_test {
            continue;
        }
        for (number, line) in code(&text) {
            let nevers = NEVERS.iter().filter(|(from, _)| *from == room);
            let forbidden: Vec<&str> = nevers
                .flat_map(|(_, rooms)| rooms.iter().copied())
                .collect();
            let is_bad = |named: &&str| height(named) < Some(own) || forbidden.contains(named);
            let bad: Vec<&str> = rooms_named(line)
                .into_iter()
                .filter(|named| is_bad(named))
                .collect();
            let is_excepted = EXCEPTIONS.contains(&(path.as_str(), line.trim()));
            if !bad.is_empty() && !is_excepted {
                broken.push(format!(
                    "{path}:{}: {room} knows {}",
                    number + 1,
                    bad.join(", ")
                ));
            }
            if line.contains("crate::{") || line.contains("mcan_data::{") {
                broken.push(format!(
                    "{path}:{}: imports from two rooms in one `use`: write one for each",
                    number + 1
                ));
            }
            if line.contains("super::super") {
                broken.push(format!("{path}:{}: super::super", number + 1));
            }
            if line.starts_with("impl Config") && room != "config" {
                broken.push(format!("{path}:{}: impl Config outside config", number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// All packages that a package needs to be built or tested, from Cargo.lock.
fn dependencies_of(package: &str) -> BTreeSet<String> {
    let lock = fs::read_to_string(checkout().join("Cargo.lock")).unwrap();
    let name = |entry: &str| entry.split('"').nth(1).unwrap().to_owned();
    let mut direct: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in lock.split("[[package]]").skip(1) {
        let list = entry.split("dependencies = [").nth(1).unwrap_or_default();
        let quoted = list.split('"').skip(1).step_by(2);
        // An entry is a name; a version follows if there are several versions.
        let names = quoted.map(|text| text.split(' ').next().unwrap().to_owned());
        direct.entry(name(entry)).or_default().extend(names);
    }
    let (mut found, mut waiting) = (BTreeSet::new(), vec![package.to_owned()]);
    while let Some(next) = waiting.pop() {
        if found.insert(next.clone()) {
            waiting.extend(direct[&next].iter().cloned());
        }
    }
    found
}

#[test]
fn nothing_below_the_wall_knows_libtorch() {
    let manifest = fs::read_to_string(checkout().join("crates/mcan-data/Cargo.toml")).unwrap();
    assert!(
        !manifest.contains("tch") && !manifest.contains("torch-sys"),
        "{manifest}"
    );
    let below = dependencies_of("mcan-data");
    assert!(below.contains("anyhow"), "{below:?}");
    assert!(!below.contains("tch") && !below.contains("torch-sys"));
    for (path, _, text) in files() {
        let knows = code(&text).any(|(_, line)| line.contains("tch::") || line.contains("mcan::"));
        assert!(!path.starts_with("crates/") || !knows, "{path}");
    }
}

#[test]
fn the_picture_has_all_rooms() {
    let library = fs::read_to_string(checkout().join("src/lib.rs")).unwrap();
    let picture = library.split("//! ```").nth(1).unwrap();
    let names = picture
        .lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split(' ').next());
    let drawn: Vec<&str> = names
        .filter(|name| !name.starts_with('-') && !name.is_empty())
        .collect();
    assert_eq!(drawn, ROOMS);
    let mut rooms: Vec<String> = files().into_iter().map(|(_, room, _)| room).collect();
    rooms.sort();
    rooms.dedup();
    rooms.retain(|room| room != "lib" && room != "testing");
    let mut expected = ROOMS.map(str::to_owned);
    expected.sort();
    assert_eq!(rooms, expected);
}
