//! Which array of a feature file has the features, and which of its axes are the rows. Extractors differ in both.

use super::zip::{self, Member};
use super::{Header, Wanted};
use crate::formats::npy;
use anyhow::{Context, Result, bail};
use std::io::Read;

/// The arrays that can hold features, with whether the writers of the array store (n, F); the first that is there counts.
/// `x` is (F, n) in the files of MCAN and OpenVQA, and (n, F) in those of the authors' newer extractor.
const FEATURES: [(&str, bool); 4] = [
    ("x.npy", false),
    ("feat.npy", true),
    ("features.npy", true),
    ("z.npy", true),
];

/// The arrays that can hold boxes.
pub(super) const BOXES: [&str; 2] = ["bbox.npy", "boxes.npy"];

/// The arrays that can hold width and height of the image: those of VQA-v2's files, and those of GQA's.
pub(super) const SIZES: [(&str, &str); 2] =
    [("image_w.npy", "image_h.npy"), ("width.npy", "height.npy")];

/// The array of features in a file, and whether it is (n, F) where its shape does not tell.
pub(super) fn features<'a>(
    file: &'a [u8],
    wanted: &Wanted,
) -> Result<(&'static str, Member<'a>, bool)> {
    for (name, rows_first) in FEATURES {
        if let Some(member) = zip::find(file, name)? {
            return Ok((name, member, rows_first || wanted.rows_first));
        }
    }
    bail!("it has no array x, feat, features or z; {}", contents(file))
}

/// The number of rows of an array of this shape, and whether row follows row in it: (n, F) or (h, w, F) rather than (F, n)
/// or (F, h, w), each perhaps behind axes of length 1. `None` if no axis fits.
fn orientation(shape: &[usize], feature_size: usize, rows_first: bool) -> Option<(usize, bool)> {
    let ones = shape.len().saturating_sub(2);
    let leading = shape
        .iter()
        .take(ones)
        .take_while(|&&length| length == 1)
        .count();
    let shape = &shape[leading..];
    let (&[first, ..], &[.., last]) = (shape, shape) else {
        return None;
    };
    if shape.len() < 2 {
        return None;
    }
    let rows_first = match (first == feature_size, last == feature_size) {
        (true, true) => rows_first,
        (false, true) => true,
        (true, false) => false,
        (false, false) => return None,
    };
    let others = if rows_first {
        &shape[..shape.len() - 1]
    } else {
        &shape[1..]
    };
    Some((others.iter().product(), rows_first))
}

/// The place of the wanted rows in an array with this header.
pub(super) fn layout(header: &Header, wanted: &Wanted, rows_first: bool) -> Result<npy::Layout> {
    let Header {
        dtype,
        fortran_order,
        shape,
    } = header;
    let is = |what: &str| {
        format!(
            "its shape is {shape:?} and its dtype {}{what}",
            dtype.name()
        )
    };
    if !dtype.is_float() {
        bail!("{}; floats are expected", is(""));
    }
    let size = wanted.feature_size;
    let Some((rows, rows_first)) = orientation(shape, size, rows_first) else {
        bail!(
            "{}, but {size} values for each row are configured: set IMG_FEAT_SIZE, or FEAT_SIZE for a model of OpenVQA, or take \
             the features that the model is for",
            is("")
        );
    };
    let is_matrix = shape.iter().filter(|&&length| length != 1).count() <= 2;
    if *fortran_order && !is_matrix {
        bail!("{}; it must be saved in C order", is(", in Fortran order"));
    }
    Ok(npy::Layout {
        dtype: *dtype,
        // The rows of (F, n) are the columns of the stored array.
        row_major: *fortran_order != rows_first,
        rows,
        columns: size,
        taken: rows.min(wanted.max_rows),
    })
}

/// The arrays of a file, for messages.
pub(super) fn contents(file: &[u8]) -> String {
    let array = |name: &str| -> Result<String> {
        let member = zip::find(file, name)?.context("no such member")?;
        let mut start: Box<dyn Read> = match member.deflated {
            true => Box::new(flate2::read::DeflateDecoder::new(member.data)),
            false => Box::new(member.data),
        };
        let Header { dtype, shape, .. } = npy::read(&mut start)?;
        Ok(format!(
            "{} {shape:?} {}",
            name.trim_end_matches(".npy"),
            dtype.name()
        ))
    };
    let names = zip::names(file).unwrap_or_default();
    let shown = names.iter().take(20).map(|name| {
        let other = || format!("{} (objects or text)", name.trim_end_matches(".npy"));
        array(name).unwrap_or_else(|_| other())
    });
    let shown: Vec<String> = shown.collect();
    match shown.is_empty() {
        true => "it has no arrays".into(),
        false => format!("it has {}", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_of_the_features_is_found() {
        for (shape, expected) in [
            (&[8, 5][..], Some((5, false))),
            (&[5, 8], Some((5, true))),
            (&[8, 8], Some((8, false))),
            (&[3, 4, 8], Some((12, true))),
            (&[1, 3, 4, 8], Some((12, true))),
            (&[1, 8, 3, 4], Some((12, false))),
            (&[8, 3, 4], Some((12, false))),
            (&[1, 8], Some((1, true))),
            (&[8, 1], Some((1, false))),
            (&[1, 1, 8], Some((1, true))),
            (&[0, 8], Some((0, true))),
            (&[8], None),
            (&[], None),
            (&[5, 7], None),
        ] {
            assert_eq!(orientation(shape, 8, false), expected, "{shape:?}");
        }
        assert_eq!(orientation(&[8, 8], 8, true), Some((8, true)));
    }
}
