//! Checkpoints in the format of PyTorch before 1.6: pickles one after the other, no zip archive.

use super::checkpoints::{CHECKPOINT, VAL, add_again, edit};
use super::forge::*;
use super::pickles::{hostile_pickles, tensor};
use super::{Row, bytes, check, row, world};
use mcan::checkpoint::Checkpoint;
use mcan::formats::pickle::{self, Value};
use mcan::formats::pt::Archive;
use std::fs;
use std::io::Read;

/// The older format: magic number, version, machine, then what is given, and no storage.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let start = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [start, pickle, b"\x80\x02]."].concat()
}

/// The sound checkpoint in the older format, with something changed in it.
fn older(
    what: &'static str,
    change: impl Fn(&mut Checkpoint) + 'static,
    says: &'static [&'static str],
) -> Row {
    let Row { make, .. } = edit(what, change, says);
    row(
        what,
        move |sound| in_older_format(&make(sound).unwrap()),
        says,
    )
}

/// A checkpoint of this program in the older format.
fn in_older_format(checkpoint: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer.pkl");
    fs::write(&path, checkpoint).unwrap();
    let value = Archive::open(&path).unwrap().value;
    let mut file = legacy(&pickle::write(&value));
    file.truncate(file.len() - b"\x80\x02].".len());
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(checkpoint)).unwrap();
    let is_storage = |name: &&str| name.contains("/data/");
    let names: Vec<String> = archive
        .file_names()
        .filter(is_storage)
        .map(str::to_owned)
        .collect();
    let key = |name: &String| Value::str(name.rsplit('/').next().unwrap());
    file.extend(pickle::write(&Value::List(names.iter().map(key).collect())));
    for name in names {
        let mut storage = Vec::new();
        archive
            .by_name(&name)
            .unwrap()
            .read_to_end(&mut storage)
            .unwrap();
        file.extend((storage.len() as u64 / 4).to_le_bytes());
        file.extend(storage);
    }
    file
}

#[test]
fn a_sound_checkpoint_is_read_in_the_older_format_too() {
    let world = world();
    let path = world.root.join(CHECKPOINT);
    fs::write(&path, in_older_format(&fs::read(&path).unwrap())).unwrap();
    world.succeed(&["--RUN=val", &format!("--CKPT_PATH={}", path.display())]);
}

/// The older format with one storage of 16 numbers and its key.
fn legacy_with_storage(pickle: &[u8]) -> Vec<u8> {
    let mut file = legacy(pickle);
    file.truncate(file.len() - 1);
    [
        &file[..],
        b"X\x01\x00\x00\x000a.",
        &16u64.to_le_bytes(),
        &[0; 64],
    ]
    .concat()
}

#[test]
fn checkpoint_legacy() {
    let sound = fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/crates/mcan-data/tests/data/checkpoints/small_legacy.pkl"
    ))
    .unwrap();
    let (magic, version, size) = (
        sound.clone(),
        sound.clone(),
        legacy_with_storage(&tensor(&[16], &[1], 16)),
    );
    let mut rows = vec![
        bytes(
            "truncated",
            &sound[..sound.len() - 10],
            &["ends within storage"],
        ),
        bytes("truncated pickle", &sound[..60], &["cut off"]),
        bytes(
            "wrong type: another pickle",
            "\u{80}".as_bytes(),
            &["neither a zip archive nor"],
        ),
        bytes(
            "wrong magic number",
            replaced(&magic, b"l\xfc\x9c", b"m\xfc\x9c"),
            &["not one of torch.save"],
        ),
        bytes(
            "wrong version",
            replaced(&version, b"M\xe9\x03", b"M\xea\x03"),
            &["format version"],
        ),
        bytes(
            "wrong type: another model",
            &sound[..],
            &["it has no parameter"],
        ),
        bytes(
            "absurd size: a storage of 10^15",
            replaced(&size, &16u64.to_le_bytes(), &ABSURD.to_le_bytes()),
            &["ends within storage \"0\""],
        ),
        bytes(
            "missing storage",
            replaced(&size, b"]X\x01\x00\x00\x000a", b"]X\x01\x00\x00\x001a"),
            &["storage \"1\" belongs to no tensor"],
        ),
        older(
            "missing parameter",
            |c| drop(c.state_dict.pop()),
            &["missing in it: proj.bias"],
        ),
        older(
            "duplicate parameter",
            add_again,
            &["holds \"embedding.weight\" twice"],
        ),
        older(
            "NaN",
            |c| drop(c.state_dict[0].1.fill_(f64::NAN)),
            &["embedding.weight is not finite"],
        ),
        older(
            "infinity",
            |c| drop(c.state_dict[3].1.fill_(f64::INFINITY)),
            &["is not finite"],
        ),
    ];
    rows.extend(hostile_pickles(legacy));
    check(&world(), "checkpoint (older)", CHECKPOINT, &VAL, rows);
}
