//! Descriptions of data sets, `configs/datasets/NAME.yml`, and names of data sets.

use super::forge::nested;
use super::worlds::untrained;
use super::{Row, absent, bytes, check, row};
use crate::common::{World, failure, run};
use std::fs;

const FILE: &str = "../configs/datasets/mine.yml";

const SOUND: &str = "\
source: we made it
splits:
  train:
    questions: v2_OpenEnded_mscoco_train2014_questions.json
    annotations: v2_mscoco_train2014_annotations.json
    features: train2014
  held:
    questions: v2_OpenEnded_mscoco_val2014_questions.json
    annotations: v2_mscoco_val2014_annotations.json
    features: val2014
train:
  train: [train]
evaluate: held
answers: {at_least: 1}
";

const TRAIN: [&str; 5] = [
    "--DATASET=mine",
    "--CFG=WORLD/model.yml",
    "--RUN=train",
    "--SPLIT=train",
    "--VERSION=v",
];

/// A world with a described data set.
fn world() -> World {
    let world = untrained("vqa", "LAYER: 1\nMULTI_HEAD: 2\nFLAT_MLP_SIZE: 16\n");
    fs::create_dir_all(world.path("configs/datasets")).unwrap();
    fs::write(world.path("configs/datasets/mine.yml"), SOUND).unwrap();
    world
}

/// A piece of the description replaced.
fn edit(
    what: &'static str,
    old: &'static str,
    new: &'static str,
    says: &'static [&'static str],
) -> Row {
    let make = move |sound: &[u8]| {
        let sound = std::str::from_utf8(sound).unwrap();
        assert!(sound.contains(old), "{old}");
        sound.replacen(old, new, 1).into_bytes()
    };
    row(what, make, says)
}

/// A line added.
fn line(what: &'static str, line: &'static str, says: &'static [&'static str]) -> Row {
    row(
        what,
        move |sound| [sound, line.as_bytes(), b"\n"].concat(),
        says,
    )
}

#[test]
fn the_sound_description_trains() {
    let world = world();
    let flags = TRAIN.map(|flag| flag.replace("WORLD", world.root.to_str().unwrap()));
    world.succeed(
        &[
            &flags.each_ref().map(String::as_str)[..],
            &["--MAX_EPOCH=1"],
        ]
        .concat(),
    );
}

#[test]
fn description() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let again = format!("*a{}, ", i - 1).repeat(9);
        bomb += &format!("a{i}: &a{i} [{again}]\n");
    }
    let rows = vec![
        bytes("empty", "", &["the key splits is missing"]),
        absent("missing file", &["that describes it"]),
        edit(
            "truncated",
            "answers: {at_least: 1}",
            "answers: {at_l",
            &["unclosed bracket '{'"],
        ),
        bytes(
            "wrong type: not UTF-8",
            *b"source: \xff",
            &["is not UTF-8 text"],
        ),
        bytes(
            "wrong type: a list",
            "- train\n- held\n",
            &["expected lines of the form KEY: value"],
        ),
        bytes(
            "wrong type: text",
            "my data",
            &["expected lines of the form KEY: value"],
        ),
        edit(
            "wrong type: splits are a list",
            "splits:\n  train:",
            "splits:\n  - train:",
            &["while parsing a block collection, did not find expected '-' indicator"],
        ),
        edit(
            "wrong type: splits are text",
            "splits:\n",
            "splits: all\nothers:\n",
            &["splits: it has the text \"all\" where lines of the form KEY: value is"],
        ),
        edit(
            "wrong type: a split is text",
            "  held:\n",
            "  more: file.json\n  held:\n",
            &["splits.more: it has the text \"file.json\" where lines of the form KEY:"],
        ),
        edit(
            "wrong type: a number as file",
            "v2_OpenEnded_mscoco_train2014_questions.json",
            "5",
            &["splits.train.questions: it has 5 where a text is expected"],
        ),
        edit(
            "wrong type: a list as file",
            "v2_OpenEnded_mscoco_train2014_questions.json",
            "[a, b]",
            &["splits.train.questions: it has a list where a text is expected"],
        ),
        edit(
            "wrong type: train is text",
            "train:\n  train: [train]",
            "train: train",
            &["train: it has the text \"train\" where lines of the form KEY: value is"],
        ),
        edit(
            "wrong type: at_least is text",
            "at_least: 1",
            "at_least: often",
            &["answers.at_least: it has the text \"often\" where a whole number from 1"],
        ),
        edit(
            "negative at_least",
            "at_least: 1",
            "at_least: -1",
            &["answers.at_least: it has -1 where a whole number from 1 to 1048576 is"],
        ),
        edit(
            "absurd size: at_least",
            "at_least: 1",
            "at_least: 1000000000000000",
            &["answers.at_least: it has 1000000000000000 where a whole number from 1"],
        ),
        line(
            "wrong shape: one number for regions",
            "regions: 36",
            &["regions: it has 36 where a list of 2 whole numbers from 1 to 1048576 is"],
        ),
        line(
            "wrong shape: three numbers for regions",
            "regions: [36, 2048, 4]",
            &["regions: it has a list where a list of 2 whole numbers from 1 to"],
        ),
        line(
            "absurd size: regions",
            "regions: [1000000000000000, 2048]",
            &["regions: it has a list where a list of 2 whole numbers from 1 to"],
        ),
        line("NaN", "regions: [.nan, 2048]", &["non-finite float `.nan`"]),
        line(
            "infinity",
            "regions: [.inf, 2048]",
            &["non-finite float `.inf`"],
        ),
        edit(
            "missing splits",
            "splits:",
            "split:",
            &["the key splits is missing"],
        ),
        edit(
            "missing questions of a split",
            "    questions: v2_OpenEnded_mscoco_val2014_questions.json\n",
            "",
            &["the key splits.held.questions is missing"],
        ),
        edit(
            "missing train",
            "train:\n  train: [train]\n",
            "",
            &["the key train is missing"],
        ),
        edit(
            "missing evaluate",
            "evaluate: held\n",
            "",
            &["the key evaluate is missing"],
        ),
        edit(
            "missing annotations of the evaluated split",
            "    annotations: v2_mscoco_val2014_annotations.json\n",
            "",
            &["evaluate: the split held has no annotations"],
        ),
        edit(
            "missing features",
            "    features: train2014\n",
            "",
            &["train.train: no split of it has features"],
        ),
        edit(
            "unknown split",
            "evaluate: held",
            "evaluate: val",
            &["evaluate: there is no split \"val\", only train, held"],
        ),
        line(
            "unknown key",
            "metrics: exact",
            &["there is no key metrics"],
        ),
        edit(
            "unknown key of a split",
            "    features: val2014",
            "    feature: val2014",
            &["there is no key splits.held.feature"],
        ),
        line(
            "unknown metric",
            "metric: bleu",
            &["metric: \"bleu\" is none of official, exact, share"],
        ),
        line(
            "unknown format",
            "format: coco",
            &["format: \"coco\" is none of vqa, vizwiz"],
        ),
        edit(
            "unknown answer rule",
            "at_least: 1",
            "at_most: 1",
            &["there is no key answers.at_most"],
        ),
        edit(
            "duplicate split",
            "  held:\n",
            "  train:\n",
            &["duplicate mapping key: train"],
        ),
        line(
            "duplicate key",
            "evaluate: train",
            &["duplicate mapping key: evaluate"],
        ),
        edit(
            "duplicate split to train on",
            "train: [train]",
            "train: [train, train]",
            &["train.train: \"train\" is there twice"],
        ),
        edit(
            "a split out of its folder",
            "  held:\n",
            "  ../held:\n",
            &["splits: the name \"../held\" of a split is a part of file names"],
        ),
        edit(
            "a split that is a path",
            "  held:\n",
            "  a/b:\n",
            &["splits: the name \"a/b\" of a split is a part of file names"],
        ),
        edit(
            "missing name of a split",
            "  held:\n",
            "  \"\":\n",
            &["splits: the name \"\" of a split is a part of file names"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 100_000),
            &["recursion limit exceeded"],
        ),
        bytes(
            "aliases that multiply",
            bomb,
            &["it is too large, or grows too large by its aliases"],
        ),
        line(
            "an alias of nothing",
            "test: *held",
            &["alias references unknown anchor"],
        ),
    ];
    check(&world(), "description of a data set", FILE, &TRAIN, rows);
}

#[test]
fn names_of_data_sets() {
    let world = world();
    for set in ["vqa", "gqa", "clevr"] {
        fs::copy(
            world.path("configs/datasets/mine.yml"),
            world.path(&format!("configs/datasets/{set}.yml")),
        )
        .unwrap();
    }
    for (flags, says) in [
        (&["--DATASET=a/b"][..], "\"a/b\" names a folder"),
        (&["--DATASET=../datasets/mine"], "names a folder"),
        (&["--DATASET=.."], "\"..\" names a folder"),
        (&["--DATASET="], "\"\" names a folder"),
        (
            &["--DATASET=other"],
            "another one needs a file configs/datasets/other.yml",
        ),
        (
            &["--DATASET=MINE"],
            "needs a file configs/datasets/MINE.yml",
        ),
        (
            &["--DATASET=vqa"],
            "the file configs/datasets/vqa.yml describes",
        ),
        (
            &["--DATASET=gqa"],
            "the file configs/datasets/gqa.yml describes",
        ),
        (
            &["--DATASET=clevr"],
            "the file configs/datasets/clevr.yml describes",
        ),
        (
            &["--DATASET=mine", "--SPLIT=held"],
            "TRAIN_SPLIT is \"held\", which mine does not have; use --SPLIT with train",
        ),
        (
            &["--DATASET=mine", "--SPLIT=train+val+vg"],
            "use --SPLIT with train",
        ),
        (
            &["--DATASET=mine", "--RUN=test"],
            "mine has no split for --RUN=test",
        ),
        (
            &["--DATASET=mine", "--SET=QUESTION_PATH={val: a.json}"],
            "there is no split \"val\", only train, held",
        ),
        (
            &["--DATASET=mine", "--MODEL=mcan_smal"],
            "there is neither configs/mine/mcan_smal.yml",
        ),
        (
            &["--DATASET=mine", "--MODEL=../small"],
            "MODEL = \"../small\" names a folder",
        ),
    ] {
        let flags = [&["--RUN=train", "--GPU=cpu"], flags].concat();
        let message = failure(&run(world.folder.path(), &flags));
        assert!(message.contains(says), "{flags:?}: {message}");
    }
}

/// A description that leads to other files than those that are there is an error about these.
#[test]
fn files_that_a_description_names() {
    let world = world();
    let flags = TRAIN.map(|flag| flag.replace("WORLD", world.root.to_str().unwrap()));
    for (old, new, says) in [
        (
            "v2_OpenEnded_mscoco_val2014_questions.json",
            "none.json",
            "datasets/vqa/none.json (--DATA_PATH; we made it)",
        ),
        (
            "v2_mscoco_val2014_annotations.json",
            "none.json",
            "datasets/vqa/none.json (--DATA_PATH; we made it)",
        ),
        (
            "v2_OpenEnded_mscoco_val2014_questions.json",
            "../../none.json",
            "../../none.json (--DATA_PATH",
        ),
        (
            "features: val2014",
            "features: none",
            "coco_extract/none/ or ",
        ),
        (
            "v2_mscoco_val2014_annotations.json",
            "v2_OpenEnded_mscoco_val2014_questions.json",
            "val2014_questions.json: there is no list \"annotations\"",
        ),
        (
            "evaluate: held",
            "evaluate: held\nimages: name",
            "v2_mscoco_train2014_annotations.json have no features in",
        ),
    ] {
        let text = SOUND.replacen(old, new, 1);
        assert_ne!(text, SOUND, "{old}");
        fs::write(world.path("configs/datasets/mine.yml"), text).unwrap();
        let message = world.fail(&flags.each_ref().map(String::as_str));
        assert!(message.contains(says), "{new}: {message}");
    }
}
