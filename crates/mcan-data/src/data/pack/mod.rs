//! Makes a bank of the images that a [`RegionSource`] gives, in their order.

#[cfg(test)]
mod tests;

use super::source::{BadImage, GROUP_IMAGES, Image, RegionSource};
use crate::data::streams::StreamKind;
use crate::formats::bank::{Dtype, Encoded, ImageKey, Writer};
use anyhow::{Context, Error, Result, ensure};
use rayon::prelude::*;
use std::path::Path;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// Which features.
    pub kind: StreamKind,
    /// `BANK_DTYPE`.
    pub dtype: Dtype,
    /// F, values per row.
    pub feature_size: usize,
    /// `PACK_SKIP_BAD`: leave out the images that cannot be used, and say so in the report.
    pub skip_bad: bool,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Number of images in the bank.
    pub images: usize,
    /// Number of rows in the bank.
    pub rows: usize,
    /// With `skip_bad`, what was left out and why, one line each.
    pub skipped: Vec<String>,
    /// The largest difference that rounding to f16 made, and the image it is in.
    pub largest_rounding: Option<(f32, ImageKey)>,
}

/// Writes the bank `target` from `images`, which `source` names in messages; `progress` is told how many images are done,
/// and may end the packing.
///
/// # Errors
/// Any image that is damaged, has non-finite values, or values that f16 cannot hold, by name (unless `skip_bad`); any
/// other error of the source; an empty source; failure to write. After an error `target` is as it was before.
pub fn pack(
    source: &Path,
    images: &mut dyn RegionSource,
    target: &Path,
    options: PackOptions,
    progress: &dyn Fn(usize) -> Result<()>,
) -> Result<Report> {
    let mut report = Report::default();
    crate::base::atomic::write(target, |file| {
        let mut bank = Writer::new(
            file,
            options.kind.array(),
            options.dtype,
            options.feature_size,
        )?;
        loop {
            let group: Vec<Result<Image>> = images.take(GROUP_IMAGES).collect();
            if group.is_empty() {
                break;
            }
            for image in encode(group, options) {
                match image {
                    Ok((image, features)) => report.add(&mut bank, &image, &features)?,
                    Err(error) => report.skip(error, source, options.skip_bad)?,
                }
            }
            progress(report.images)?;
        }
        ensure!(
            report.images > 0,
            "{} holds no usable .npz file",
            source.display()
        );
        bank.finish()
    })?;
    Ok(report)
}

/// Rounds the images' values, in parallel.
fn encode(group: Vec<Result<Image>>, options: PackOptions) -> Vec<Result<(Image, Encoded)>> {
    let encode = |image: Result<Image>| {
        let image = image?;
        match Encoded::new(&image.values, options.feature_size, options.dtype) {
            Ok(features) => Ok((image, features)),
            Err(why) => Err(BadImage {
                name: image.name,
                why,
            }
            .into()),
        }
    };
    group.into_par_iter().map(encode).collect()
}

impl Report {
    fn add(
        &mut self,
        bank: &mut Writer<impl std::io::Write + std::io::Seek>,
        image: &Image,
        features: &Encoded,
    ) -> Result<()> {
        let boxes = image.boxes.as_ref();
        let size = boxes.map(|boxes| (boxes.width, boxes.height));
        let corners = boxes.map(|boxes| &boxes.bbox[..]);
        bank.push(&image.key, features, corners, size)?;
        self.images += 1;
        self.rows += features.rows;
        let rounding = features.largest_rounding;
        if bank.dtype() == Dtype::F16
            && self
                .largest_rounding
                .as_ref()
                .is_none_or(|(largest, _)| *largest < rounding)
        {
            self.largest_rounding = Some((rounding, image.key.clone()));
        }
        Ok(())
    }

    /// Lists a bad image, or fails.
    fn skip(&mut self, error: Error, source: &Path, skip_bad: bool) -> Result<()> {
        let bad = error
            .downcast::<BadImage>()
            .with_context(|| format!("cannot pack the features of {}", source.display()))?;
        if skip_bad {
            self.skipped.push(bad.to_string());
            return Ok(());
        }
        let BadImage { name, why } = bad;
        Err(why.context(format!(
            "{name} of {} is unusable (--SET PACK_SKIP_BAD=true leaves such images out)",
            source.display()
        )))
    }
}
