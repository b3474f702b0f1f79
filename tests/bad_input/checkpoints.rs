//! Checkpoints of both formats, and what a resumed run believes of them.

use super::forge::*;
use super::pickles::hostile_pickles;
use super::{Row, absent, bytes, check, cut, row, world, zips_of_too_many};
use mcan::checkpoint::{self, Checkpoint, RunState};
use std::fs;
use std::io::Read;
use tch::{Kind, Tensor};
use zip::CompressionMethod;

pub(super) const CHECKPOINT: &str = "sound.pkl";

pub(super) const VAL: [&str; 2] = ["--RUN=val", "--CKPT_PATH=WORLD/sound.pkl"];

/// The sound checkpoint with something changed in it.
pub(super) fn edit(
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
pub(super) fn add_again(checkpoint: &mut Checkpoint) {
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
