//! Checkpoints of both formats, and what a resumed run believes of them.

use super::forge::*;
use super::{Row, absent, bytes, check, cut, row, world, zips_of_too_many};
use mcan::checkpoint::archive::Archive;
use mcan::checkpoint::pickle::{self, Value};
use mcan::checkpoint::tensor::TensorView;
use mcan::checkpoint::{self, Checkpoint, RunState};
use std::fs;
use std::io::Read;
use std::sync::Arc;
use tch::{Kind, Tensor};
use zip::CompressionMethod;

const CHECKPOINT: &str = "sound.pkl";
const VAL: [&str; 2] = ["--RUN=val", "--CKPT_PATH=WORLD/sound.pkl"];

/// The sound checkpoint with something changed in it.
fn edit(
    what: &'static str,
    change: impl Fn(&mut Checkpoint) + 'static,
    says: &'static [&'static str],
) -> Row {
    let make = move |sound: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edited.pkl");
        fs::write(&path, sound).unwrap();
        let mut checkpoint = checkpoint::load(&path).unwrap();
        change(&mut checkpoint);
        checkpoint::save(&path, &checkpoint).unwrap();
        fs::read(path).unwrap()
    };
    row(what, make, says)
}

/// The same for the entry that only this program's checkpoints have.
fn state(
    what: &'static str,
    change: impl Fn(&mut RunState) + 'static,
    says: &'static [&'static str],
) -> Row {
    edit(
        what,
        move |checkpoint| change(checkpoint.mcan.as_mut().unwrap()),
        says,
    )
}

/// Adds a parameter that is there already.
fn add_again(checkpoint: &mut Checkpoint) {
    let (name, tensor) = &checkpoint.state_dict[0];
    checkpoint
        .state_dict
        .push((name.clone(), tensor.shallow_clone()));
}

/// A zip archive, members stored, with `change` applied to each name and content; `None` leaves a member out.
fn repacked(
    archive: &[u8],
    method: CompressionMethod,
    change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>,
) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        members.extend(
            change(member.name(), content).map(|content| (member.name().to_owned(), content)),
        );
    }
    zip_as(
        method,
        &members
            .iter()
            .map(|(name, content)| (name.as_str(), &content[..]))
            .collect::<Vec<_>>(),
    )
}

/// Where the content of the member with this end of its name begins.
fn start_of(archive: &[u8], name: &str) -> usize {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let full = archive
        .file_names()
        .find(|full| full.ends_with(name))
        .unwrap()
        .to_owned();
    usize::try_from(archive.by_name(&full).unwrap().data_start()).unwrap()
}

/// The zip format with this pickle in it.
fn pickled(pickle: &[u8]) -> Vec<u8> {
    zip_as(
        CompressionMethod::Stored,
        &[("a/data.pkl", pickle), ("a/data/0", &[0; 64])],
    )
}

/// A pickle of protocol 2.
fn protocol_2(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

/// A pickle of a state dict with one tensor, a view of a storage of 16 numbers.
fn tensor(shape: &[i64], stride: &[i64], storage_numel: i64) -> Vec<u8> {
    let (shape, stride) = (shape.to_vec(), stride.to_vec());
    let view = TensorView {
        kind: Kind::Float,
        shape,
        stride,
        offset: 0,
        storage: "0".into(),
        storage_numel,
    };
    let state_dict = Value::OrderedDict(vec![(
        Value::str("proj.weight"),
        Value::Tensor(Arc::new(view)),
    )]);
    pickle::write(&Value::dict([("state_dict", state_dict)])).unwrap()
}

/// Lists of two references to the list before, as deep as given.
fn doubling(depth: u8) -> Vec<u8> {
    let mut body = b"]q\x00".to_vec();
    for i in 0..depth {
        body.extend([b']', b'(', b'h', i, b'h', i, b'e', b'q', i + 1]);
    }
    protocol_2(&body)
}

/// What is the same in either format.
fn hostile_pickles(wrap: fn(&[u8]) -> Vec<u8>) -> Vec<Row> {
    let of = move |what, pickle: Vec<u8>, says| bytes(what, wrap(&pickle), says);
    let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999]].concat();
    vec![
        of(
            "runs a program",
            protocol_2(b"cposix\nsystem\nX\x02\x00\x00\x00id\x85R"),
            &["posix.system", "is never run"],
        ),
        of(
            "loads a class",
            protocol_2(b"ctorch.nn\nModule\n)R"),
            &["torch.nn.Module"],
        ),
        of(
            "an opcode of no checkpoint",
            protocol_2(b"\x97"),
            &["opcode 0x97", "at byte 2"],
        ),
        of(
            "another protocol",
            b"\x80\x05N.".to_vec(),
            &["pickle protocol 5", "at byte 0"],
        ),
        of(
            "wrong type: a list",
            protocol_2(b"]"),
            &["a list, not a dict"],
        ),
        of(
            "wrong type: state_dict is a number",
            protocol_2(b"}X\x0a\x00\x00\x00state_dictK\x05s"),
            &["its `state_dict` is no dict"],
        ),
        of(
            "wrong shape: a view beyond its storage",
            tensor(&[4, 5], &[5, 1], 16),
            &["reaches beyond the 16 elements"],
        ),
        of(
            "wrong shape: negative",
            tensor(&[-4], &[1], 16),
            &["shape [-4]"],
        ),
        of(
            "wrong type: a parameter is nothing",
            protocol_2(b"}X\x0a\x00\x00\x00state_dict}X\x01\x00\x00\x00aNss"),
            &["state_dict holds None under", "\"a\""],
        ),
        of(
            "absurd size: a tensor of 10^15",
            tensor(&[ABSURD as i64], &[1], 16),
            &["1000000000000000"],
        ),
        of(
            "absurd size: one number shown 10^15 times",
            tensor(&[ABSURD as i64], &[0], 16),
            &["more elements than the file can hold"],
        ),
        of(
            "absurd size: a string of 4 GB",
            protocol_2(b"X\xff\xff\xff\xff"),
            &["4294967295 bytes are needed", "at byte 2"],
        ),
        of(
            "absurd size: three million objects",
            protocol_2(&vec![b'N'; 3 << 20]),
            &["makes more than"],
        ),
        of(
            "deeply nested",
            protocol_2(&deep),
            &["nested deeper than 64"],
        ),
        of(
            "holds itself",
            protocol_2(b"]q\x00h\x00a"),
            &["outgrow the file"],
        ),
        of("grows by sharing", doubling(50), &["outgrow the file"]),
    ]
}

#[test]
fn checkpoint_zip() {
    let repack = |change: fn(&str, Vec<u8>) -> Option<Vec<u8>>| {
        move |sound: &[u8]| repacked(sound, CompressionMethod::Stored, change)
    };
    let mut rows = vec![
        bytes("empty", "", &["is empty"]),
        cut(&["zip directory"]),
        absent("missing", &["this run needs files that are not there"]),
        bytes(
            "wrong type: text",
            "weights",
            &["neither a zip archive nor"],
        ),
        bytes("wrong type: gzip", gz(b"weights"), &["gunzip it first"]),
        bytes(
            "wrong type: safetensors",
            [&2u64.to_le_bytes()[..], b"{}   "].concat(),
            &["safetensors"],
        ),
        bytes(
            "wrong type: a zip of something else",
            zip(&[("a.txt", b"x")]),
            &["without data.pkl"],
        ),
        row(
            "compressed",
            |sound| {
                repacked(sound, CompressionMethod::Deflated, |_, content| {
                    Some(content)
                })
            },
            &["is compressed"],
        ),
        row(
            "damaged pickle",
            repack(|name, mut content| {
                if name.ends_with("data.pkl") {
                    content.truncate(100)
                }
                Some(content)
            }),
            &["cut off"],
        ),
        row(
            "damaged tensor",
            |sound| {
                let mut bytes = sound.to_vec();
                bytes[start_of(sound, "data/0")] ^= 1;
                bytes
            },
            &["fails its checksum"],
        ),
        row(
            "missing tensor file",
            repack(|name, content| (!name.ends_with("data/0")).then_some(content)),
            &["storage \"0\" is missing"],
        ),
        row(
            "truncated tensor file",
            repack(|name, mut content| {
                if name.ends_with("data/0") {
                    content.truncate(8)
                }
                Some(content)
            }),
            &["storage \"0\" has 8 bytes"],
        ),
        edit(
            "missing parameter",
            |c| drop(c.state_dict.pop()),
            &["missing in it: proj.bias"],
        ),
        edit(
            "duplicate parameter",
            add_again,
            &["holds \"embedding.weight\" twice"],
        ),
        edit(
            "unknown parameter",
            |c| c.state_dict.push(("colour".into(), Tensor::from(1f32))),
            &["unknown to the model: colour"],
        ),
        edit(
            "wrong shape",
            |c| {
                c.state_dict.last_mut().unwrap().1 =
                    Tensor::zeros([3], (Kind::Float, tch::Device::Cpu))
            },
            &["proj.bias is [3]"],
        ),
        edit(
            "wrong number of layers",
            |c| {
                c.state_dict
                    .push(("backbone.enc_list.7.x".into(), Tensor::from(1f32)))
            },
            &["8 encoder layers, but 2 decoder layers"],
        ),
        edit(
            "NaN",
            |c| drop(c.state_dict[0].1.fill_(f64::NAN)),
            &["embedding.weight is not finite"],
        ),
        edit(
            "infinity",
            |c| drop(c.state_dict[3].1.fill_(f64::INFINITY)),
            &["is not finite"],
        ),
        state(
            "missing word",
            |s| drop(s.vocabulary.pop()),
            &["embedding.weight is"],
        ),
        state(
            "duplicate word",
            |s| s.vocabulary[3] = s.vocabulary[2].clone(),
            &["the vocabulary has the word", "twice"],
        ),
        state(
            "missing padding",
            |s| s.vocabulary.clear(),
            &["does not begin with PAD and UNK"],
        ),
        state(
            "missing answer",
            |s| drop(s.answers.pop()),
            &["proj.weight is"],
        ),
        state(
            "duplicate answer",
            |s| s.answers[1] = s.answers[0].clone(),
            &["the answer list has", "twice"],
        ),
        state(
            "missing answers",
            |s| s.answers.clear(),
            &["the answer list is empty"],
        ),
        state(
            "a configuration of no heads",
            |s| s.config["MULTI_HEAD"] = 0.into(),
            &["MULTI_HEAD = 0"],
        ),
        state(
            "a configuration of no words",
            |s| s.config["MAX_TOKEN"] = 0.into(),
            &["MAX_TOKEN = 0"],
        ),
        state(
            "a configuration of no regions",
            |s| s.config["IMG_FEAT_PAD_SIZE"] = 0.into(),
            &["IMG_FEAT_PAD_SIZE = 0"],
        ),
        state(
            "absurd size: 10^15 words to a question",
            |s| s.config["MAX_TOKEN"] = ABSURD.into(),
            &["MAX_TOKEN = 1000000000000000"],
        ),
        state(
            "absurd size: 10^15 regions to an image",
            |s| s.config["IMG_FEAT_PAD_SIZE"] = ABSURD.into(),
            &["IMG_FEAT_PAD_SIZE = 1000000000000000"],
        ),
    ];
    rows.extend(zips_of_too_many(&["zip directory"]));
    rows.extend(hostile_pickles(pickled));
    check(&world(), "checkpoint (zip)", CHECKPOINT, &VAL, rows);
}

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
    let mut file = legacy(&pickle::write(&value).unwrap());
    file.truncate(file.len() - b"\x80\x02].".len());
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(checkpoint)).unwrap();
    let is_storage = |name: &&str| name.contains("/data/");
    let names: Vec<String> = archive
        .file_names()
        .filter(is_storage)
        .map(str::to_owned)
        .collect();
    let key = |name: &String| Value::str(name.rsplit('/').next().unwrap());
    file.extend(pickle::write(&Value::List(names.iter().map(key).collect())).unwrap());
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
        "/tests/data/checkpoints/small_legacy.pkl"
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

#[test]
fn checkpoint_to_resume_from() {
    let moments = |change: fn(&mut checkpoint::Moments)| {
        move |checkpoint: &mut Checkpoint| {
            change(
                checkpoint.optimizer.as_mut().unwrap().moments[0]
                    .as_mut()
                    .unwrap(),
            )
        }
    };
    let rows = vec![
        edit(
            "missing optimizer",
            |c| c.optimizer = None,
            &["no optimizer"],
        ),
        edit(
            "missing learning rate",
            |c| c.lr_base = None,
            &["no optimizer"],
        ),
        edit(
            "learning rate is NaN",
            |c| c.lr_base = Some(f64::NAN),
            &["lr_base"],
        ),
        edit(
            "moments that are NaN",
            moments(|m| drop(m.exp_avg.fill_(f64::NAN))),
            &["parameter 0", "not finite"],
        ),
        edit(
            "moments that are infinite",
            moments(|m| drop(m.second.fill_(f64::INFINITY))),
            &["parameter 0", "not finite"],
        ),
        edit(
            "moments of another shape",
            moments(|m| m.exp_avg = m.exp_avg.narrow(0, 0, 1)),
            &["exp_avg is"],
        ),
        edit(
            "steps that differ",
            moments(|m| m.step = 1.0),
            &["steps for parameter 0"],
        ),
        edit(
            "missing moments",
            |c| drop(c.optimizer.as_mut().unwrap().moments.pop()),
            &["its optimizer has", "parameters"],
        ),
        state(
            "absurd size: step",
            |s| s.step = u64::MAX,
            &["`step`", "which no run comes to"],
        ),
        state(
            "absurd size: epoch",
            |s| s.epoch = u64::MAX,
            &["`epoch`", "which no run comes to"],
        ),
        state(
            "absurd size: batch",
            |s| s.batch = 1 << 39,
            &["its batch is 549755813888"],
        ),
        state("loss that is NaN", |s| s.loss_sum = f64::NAN, &["loss_sum"]),
        state(
            "seed of another",
            |s| {
                s.batch = 1;
                s.seed = 77
            },
            &["SEED is another now"],
        ),
        state(
            "absurd size: data",
            |s| {
                s.batch = 1;
                s.data_size = ABSURD
            },
            &["`data_size`", "which no run comes to"],
        ),
    ];
    let flags = [
        "--RUN=train",
        "--SPLIT=train",
        "--EVAL_EE=False",
        "--VERSION=v",
        "--RESUME=True",
        "--MAX_EPOCH=2",
        "--CKPT_PATH=WORLD/sound.pkl",
    ];
    check(
        &world(),
        "checkpoint to resume from",
        CHECKPOINT,
        &flags,
        rows,
    );
}
