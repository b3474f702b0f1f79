//! Features of GQA: regions with their boxes, grids, and the banks of both.

use super::forge::*;
use super::gqa::{flags, world};
use super::{Row, absent, bytes, check, cut};
use crate::common::World;
use std::fs;

const REGIONS: &str = "datasets/gqa_extract/gqa-frcn/n00136.npz";
const GRID: &str = "datasets/gqa_extract/gqa-grid/n00136.npz";

const VAL: [&str; 2] = ["--RUN=val", "--CKPT_PATH=WORLD/sound.pkl"];

/// The arrays of a sound file of five regions, with some replaced.
fn regions(others: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let corners: Vec<u8> = [10.0f32, 20.0, 110.0, 220.0]
        .iter()
        .flat_map(|corner| corner.to_le_bytes())
        .collect();
    let sound = [
        ("x", npy("<f4", "(5, 2048)", &floats(1.0, 5 * 2048))),
        ("bbox", npy("<f4", "(5, 4)", &corners.repeat(5))),
        ("width", npy("<i8", "()", &640i64.to_le_bytes())),
        ("height", npy("<i8", "()", &480i64.to_le_bytes())),
    ];
    let mut members = Vec::new();
    for (name, array) in sound {
        let other = others.iter().find(|(other, _)| *other == name);
        members.push((
            format!("{name}.npy"),
            other.map_or(array, |(_, array)| array.clone()),
        ));
    }
    // An empty array stands for one that is not there.
    let members: Vec<(&str, &[u8])> = members
        .iter()
        .filter(|(_, array)| !array.is_empty())
        .map(|(name, array)| (name.as_str(), &array[..]))
        .collect();
    zip(&members)
}

/// One array replaced.
fn with(
    what: &'static str,
    name: &'static str,
    array: Vec<u8>,
    says: &'static [&'static str],
) -> Row {
    bytes(what, regions(&[(name, array)]), says)
}

/// One array left out.
fn without(what: &'static str, name: &'static str, says: &'static [&'static str]) -> Row {
    with(what, name, Vec::new(), says)
}

fn number(descr: &str, bytes: &[u8]) -> Vec<u8> {
    npy(descr, "()", bytes)
}

fn x_of(value: f32, rows: usize, width: usize) -> Vec<u8> {
    let mut values = floats(1.0, rows * width);
    if let Some(last) = values.len().checked_sub(4) {
        values[last..].copy_from_slice(&value.to_le_bytes());
    }
    npy("<f4", &format!("({rows}, {width})"), &values)
}

#[test]
fn regions_and_boxes() {
    let boxes =
        |value: f32, count: usize| npy("<f4", &format!("({count}, 4)"), &floats(value, 4 * count));
    let one_box = |value: f32| {
        let corners = [floats(10.0, 19), value.to_le_bytes().to_vec()].concat();
        npy("<f4", "(5, 4)", &corners)
    };
    let rows = vec![
        bytes("empty", "", &["the file is empty"]),
        cut(&["it is not a zip file, or is cut short (no end of its zip directory)"]),
        absent(
            "missing",
            &["have no features in /datasets/gqa_extract/gqa-frcn (first: n00136 of"],
        ),
        bytes(
            "wrong type: text",
            "regions",
            &["it is not a zip file, or is cut short (no end of its zip directory)"],
        ),
        without(
            "missing x",
            "x",
            &["it has no array x, feat, features or z"],
        ),
        with(
            "wrong shape: narrow",
            "x",
            x_of(1.0, 5, 100),
            &["array x: its shape is [5, 100] and its dtype float32, but 2048 values"],
        ),
        with(
            "wrong shape: a vector",
            "x",
            npy("<f4", "(2048,)", &floats(1.0, 2048)),
            &["array x: its shape is [2048] and its dtype float32, but 2048 values for"],
        ),
        with(
            "wrong type: x of integers",
            "x",
            npy("<i4", "(1, 2048)", &[0; 4 * 2048]),
            &["array x: its shape is [1, 2048] and its dtype int32"],
        ),
        with("NaN", "x", x_of(f32::NAN, 5, 2048), &["are not finite"]),
        with(
            "infinity",
            "x",
            x_of(f32::INFINITY, 5, 2048),
            &["are not finite"],
        ),
        without(
            "missing boxes",
            "bbox",
            &["image n00136 has no boxes in pixels with the size of the image"],
        ),
        without(
            "missing width",
            "width",
            &["image n00136 has no boxes in pixels with the size of the image"],
        ),
        without(
            "missing height",
            "height",
            &["image n00136 has no boxes in pixels with the size of the image"],
        ),
        with(
            "wrong shape: fewer boxes than regions",
            "bbox",
            boxes(10.0, 4),
            &["member bbox.npy: its shape is [4, 4]"],
        ),
        with(
            "wrong shape: more boxes than regions",
            "bbox",
            boxes(10.0, 6),
            &["member bbox.npy: its shape is [6, 4]"],
        ),
        with(
            "wrong shape: boxes of five numbers",
            "bbox",
            npy("<f4", "(5, 5)", &floats(10.0, 25)),
            &["member bbox.npy: its shape is [5, 5]"],
        ),
        with(
            "wrong type: boxes of text",
            "bbox",
            npy("<U1", "(5, 4)", &[0; 80]),
            &["member bbox.npy: its dtype is \"<U1\""],
        ),
        with(
            "boxes in shares of the image",
            "bbox",
            boxes(0.5, 5),
            &["image n00136 has no boxes in pixels with the size of the image"],
        ),
        with(
            "NaN in a box",
            "bbox",
            one_box(f32::NAN),
            &["image n00136 has a box with a corner that is not finite"],
        ),
        with(
            "infinity in a box",
            "bbox",
            one_box(f32::INFINITY),
            &["image n00136 has a box with a corner that is not finite"],
        ),
        with(
            "width 0",
            "width",
            number("<i8", &0i64.to_le_bytes()),
            &["image n00136 has no size (image_w and image_h, or width and height)"],
        ),
        with(
            "height 0",
            "height",
            number("<i8", &0i64.to_le_bytes()),
            &["image n00136 has no size (image_w and image_h, or width and height)"],
        ),
        with(
            "negative width",
            "width",
            number("<i8", &(-640i64).to_le_bytes()),
            &["member width.npy: -640 is no size in pixels"],
        ),
        with(
            "NaN as width",
            "width",
            number("<f4", &f32::NAN.to_le_bytes()),
            &["member width.npy: NaN is no size in pixels"],
        ),
        with(
            "infinity as height",
            "height",
            number("<f8", &f64::INFINITY.to_le_bytes()),
            &["member height.npy: inf is no size in pixels"],
        ),
        with(
            "absurd size: width 10^15",
            "width",
            number("<u8", &ABSURD.to_le_bytes()),
            &["member width.npy: its dtype is \"<u8\""],
        ),
        with(
            "wrong shape: two widths",
            "width",
            npy("<i8", "(2,)", &[1; 16]),
            &["member width.npy: its shape is [2]"],
        ),
        with(
            "wrong type: width of text",
            "width",
            npy("<U3", "()", &[0; 12]),
            &["member width.npy: its dtype is \"<U3\""],
        ),
        with(
            "absurd size: 10^15 boxes",
            "bbox",
            npy("<f4", "(1000000000000000, 4)", b""),
            &["member bbox.npy: its shape [1000000000000000, 4] does not go with the 0"],
        ),
    ];
    check(
        &world(),
        "GQA regions and boxes",
        REGIONS,
        &flags(&VAL),
        rows,
    );
}

fn grid(cells: usize, width: usize, value: f32) -> Vec<u8> {
    zip(&[("x.npy", &x_of(value, cells, width))])
}

#[test]
fn grid_cells() {
    let rows = vec![
        bytes("empty", "", &["the file is empty"]),
        cut(&["it is not a zip file, or is cut short (no end of its zip directory)"]),
        absent(
            "missing",
            &["have no features in /datasets/gqa_extract/gqa-grid (first: n00136 of"],
        ),
        bytes(
            "wrong type: text",
            "cells",
            &["it is not a zip file, or is cut short (no end of its zip directory)"],
        ),
        bytes(
            "missing x",
            zip(&[("y.npy", &x_of(1.0, 16, 1024))]),
            &["it has no array x, feat, features or z"],
        ),
        bytes(
            "wrong shape: narrow",
            grid(16, 100, 1.0),
            &["array x: its shape is [16, 100] and its dtype float32, but 1024 values"],
        ),
        bytes(
            "wrong shape: regions",
            grid(16, 2048, 1.0),
            &["array x: its shape is [16, 2048] and its dtype float32, but 1024 values"],
        ),
        bytes(
            "wrong shape: fewer cells",
            grid(15, 1024, 1.0),
            &["has fewer cells than 16, which FEAT_SIZE expects (GRID_FEAT_SIZE: [16,"],
        ),
        bytes(
            "wrong shape: more cells",
            grid(49, 1024, 1.0),
            &["has more cells than 16, which FEAT_SIZE expects (GRID_FEAT_SIZE: [16,"],
        ),
        bytes(
            "wrong shape: no cell",
            grid(0, 1024, 1.0),
            &["has fewer cells than 16, which FEAT_SIZE expects (GRID_FEAT_SIZE: [16,"],
        ),
        bytes("NaN", grid(16, 1024, f32::NAN), &["are not finite"]),
        bytes(
            "infinity",
            grid(16, 1024, f32::NEG_INFINITY),
            &["are not finite"],
        ),
    ];
    check(&world(), "GQA grid", GRID, &flags(&VAL), rows);
}

const BANK: &str = "datasets/gqa_extract/gqa-frcn.safetensors";

/// A world with banks in place of the folders.
fn packed() -> World {
    let world = world();
    let all = flags(&["--RUN=pack"]);
    let all: Vec<String> = all
        .iter()
        .map(|flag| flag.replace("WORLD", world.root.to_str().unwrap()))
        .collect();
    world.succeed(&all.iter().map(String::as_str).collect::<Vec<_>>());
    for folder in ["gqa-frcn", "gqa-grid"] {
        fs::remove_dir_all(world.root.join("datasets/gqa_extract").join(folder)).unwrap();
    }
    world
}

#[test]
fn banks() {
    let world = packed();
    let grids = fs::read(world.root.join("datasets/gqa_extract/gqa-grid.safetensors")).unwrap();
    let found = fs::read(world.root.join(BANK)).unwrap();
    let renamed = |old: &'static str, new: &'static str| {
        let found = found.clone();
        move |_: &[u8]| replaced(&found, old.as_bytes(), new.as_bytes())
    };
    let rows = vec![
        bytes(
            "wrong shape: a bank of grids",
            grids,
            &["it has no array x"],
        ),
        super::row(
            "missing boxes",
            renamed("\"bbox\"", "\"bbax\""),
            &["image n00136 has no boxes in pixels with the size of the image"],
        ),
        super::row(
            "missing sizes of images",
            renamed("\"image_wh\"", "\"image_wx\""),
            &["image n00136 has no size (image_w and image_h, or width and height)"],
        ),
        super::row(
            "missing ids",
            renamed("\"image_key\"", "\"image_kex\""),
            &["it has no array image_id"],
        ),
        cut(&["incomplete metadata, file not fully covered"]),
        absent("missing", &["this run needs files that are not there"]),
        bytes("empty", "", &["header too small"]),
    ];
    check(&world, "GQA bank of regions", BANK, &flags(&VAL), rows);
}

#[test]
fn a_folder_that_the_model_needs_is_absent() {
    let world = world();
    fs::remove_dir_all(world.root.join("datasets/gqa_extract/gqa-grid")).unwrap();
    let flags: Vec<String> = flags(&VAL)
        .iter()
        .map(|flag| flag.replace("WORLD", world.root.to_str().unwrap()))
        .collect();
    let message = world.fail(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        message.contains("gqa-grid/ or ") && message.contains("--FEAT_PATH"),
        "{message}"
    );
}
