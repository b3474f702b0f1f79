//! Features that other models than MCAN cannot use: boxes in pixels, images without a region.

use super::forge::*;
use super::models::{BAN, MMNASNET};
use super::worlds::{VQA, world_of};
use super::{bytes, check};

const NPZ: &str = "datasets/coco_extract/val2014/COCO_val2014_000000000051.jpg.npz";

const VAL: [&str; 3] = [
    "--CFG=WORLD/model.yml",
    "--RUN=val",
    "--CKPT_PATH=WORLD/sound.pkl",
];

#[test]
fn boxes_in_pixels() {
    let x = npy("<f4", "(2048, 3)", &floats(1.0, 2048 * 3));
    let boxes = |corners: [f32; 4]| {
        let corners: Vec<u8> = corners
            .iter()
            .flat_map(|corner| corner.to_le_bytes())
            .collect();
        npy("<f4", "(3, 4)", &corners.repeat(3))
    };
    let size = npy("<i8", "()", &480i64.to_le_bytes());
    let with = |boxes: &[u8]| {
        let size: [(&str, &[u8]); 2] = [("image_w.npy", &size), ("image_h.npy", &size)];
        zip(&[&[("x.npy", &x[..]), ("bbox.npy", boxes)], &size[..]].concat())
    };
    let rows = vec![
        bytes(
            "missing boxes",
            zip(&[("x.npy", &x)]),
            &["has no boxes in pixels"],
        ),
        bytes(
            "missing size",
            zip(&[("x.npy", &x), ("bbox.npy", &boxes([1.0, 2.0, 30.0, 40.0]))]),
            &["has no boxes in pixels with the size of the image"],
        ),
        bytes(
            "NaN in a box",
            with(&boxes([1.0, 2.0, f32::NAN, 40.0])),
            &["a corner that is not finite"],
        ),
        bytes(
            "infinity in a box",
            with(&boxes([1.0, 2.0, f32::INFINITY, 40.0])),
            &["a corner that is not finite"],
        ),
        bytes(
            "a box whose corners are exchanged",
            with(&boxes([30.0, 40.0, 1.0, 2.0])),
            &["image 51 has a box whose second corner is left of or above its first one"],
        ),
        bytes(
            "a box in shares of the image",
            with(&boxes([0.1, 0.1, 0.5, 0.5])),
            &["has no boxes in pixels"],
        ),
        bytes(
            "wrong shape: fewer boxes than regions",
            with(&npy("<f4", "(2, 4)", &floats(1.0, 8))),
            &["its shape is [2, 4]; (3, 4) is expected"],
        ),
    ];
    check(
        &world_of("vqa", &VQA, MMNASNET),
        "boxes of MMNasNet",
        NPZ,
        &VAL,
        rows,
    );
}

#[test]
fn images_without_a_region() {
    let zeros = npy("<f4", "(2048, 3)", &floats(0.0, 2048 * 3));
    let none = npy("<f4", "(2048, 0)", b"");
    let says = &["image 51", "no region with a value other than 0"];
    let rows = vec![
        bytes("empty: zeros", zip(&[("x.npy", &zeros)]), says),
        bytes("empty: no row", zip(&[("x.npy", &none)]), says),
    ];
    check(
        &world_of("vqa", &VQA, BAN),
        "regions of BAN",
        NPZ,
        &VAL,
        rows,
    );
}
