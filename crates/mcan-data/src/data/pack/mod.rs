//! Packing: makes a bank of the images of a [`RegionSource`], in their order or in the order that the source wants.

#[cfg(test)]
mod tests;

use super::source::{BadImage, GROUP_IMAGES, Image, RegionSource};
use crate::data::streams::StreamKind;
use crate::formats::bank::{Dtype, Encoded, ImageKey, Writer};
use anyhow::{Context, Error, Result, ensure};
use rayon::prelude::*;
use std::path::Path;

/// The format of the bank.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// The kind of the features.
    pub kind: StreamKind,
    /// `BANK_DTYPE`, the number format of the values.
    pub dtype: Dtype,
    /// F, values per row.
    pub feature_size: usize,
    /// `PACK_SKIP_BAD`: leave images out that cannot be used, and list them in the report.
    pub skip_bad: bool,
}

/// The content of a bank that was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The number of images.
    pub images: usize,
    /// The number of rows.
    pub rows: usize,
    /// With `skip_bad`, a line for each image that was left out, with the reason.
    pub skipped: Vec<String>,
    /// The largest difference that rounding to f16 made, and its image.
    pub largest_rounding: Option<(f32, ImageKey)>,
}

/// Writes the bank `target` from `images`; `source` is their name in messages. `progress` gets the number of images packed
/// so far, and its error ends the packing.
///
/// # Errors
/// Without `skip_bad`, names an image that is damaged, or has values that are not finite or too large for f16. Further: any
/// other error of the source, an empty source, a bank that cannot be written. After an error `target` is unchanged.
pub fn pack(
    source: &Path,
    images: &mut dyn RegionSource,
    target: &Path,
    options: PackOptions,
    progress: &dyn Fn(usize) -> Result<()>,
) -> Result<Report> {
    let mut report = Report::default();
    crate::base::atomic::write(target, |file| {
        let array = options.kind.array();
        let mut bank = Writer::new(file, array, options.dtype, options.feature_size)?;
        if let Some(order) = images.order() {
            bank.reserve(&order)?;
        }
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
            "{} holds no usable {}",
            source.display(),
            images.unit()
        );
        bank.finish()
    })?;
    Ok(report)
}

/// Converts the values of the images to the number format of the bank, in parallel.
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
    /// Adds an image to the bank and counts it.
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
        let largest = self.largest_rounding.as_ref().map(|(largest, _)| *largest);
        if bank.dtype() == Dtype::F16 && largest.is_none_or(|largest| largest < rounding) {
            self.largest_rounding = Some((rounding, image.key.clone()));
        }
        Ok(())
    }

    /// Lists a bad image, or fails if `skip_bad` is false.
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
