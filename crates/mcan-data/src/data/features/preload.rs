//! Features that a run holds in memory, or in a table on the device.

use super::{Features, Rows};
use crate::data::Values;
use crate::data::values::ZERO_ROW;
use anyhow::{Context, Result, bail};
use half::f16;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

impl Features {
    /// Reads all images into memory, in parallel. With `in_half` they are rounded to f16, for [`Features::move_to_table`].
    ///
    /// `progress` gets the number of images read so far, on any thread.
    ///
    /// # Errors
    /// Names an image without features, a damaged file, or with `in_half` an image whose values are too large for f16.
    pub fn preload(&mut self, in_half: bool, progress: &(dyn Fn(usize) + Sync)) -> Result<()> {
        let done = AtomicUsize::new(0);
        let load = |image: usize| -> Result<(Values, Vec<f32>)> {
            let (mut values, mut boxes) = (self.no_values(0), Vec::new());
            self.append(image, &mut values, self.needs.boxes.map(|_| &mut boxes))?;
            if in_half {
                let named = || {
                    format!(
                        "image {} in {}",
                        self.image_ids[image],
                        self.place_of(image)
                    )
                };
                values = values.rounded(self.spec.width).with_context(named)?;
            }
            values.shrink_to_fit();
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok((values, boxes))
        };
        let images = (0..self.stored.len()).into_par_iter();
        let (images, boxes) = images
            .map(load)
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        (self.rows, self.boxes) = (Rows::InMemory(images), boxes);
        Ok(())
    }

    /// The number of rows of a table of the preloaded images: one row of zeros, and their rows.
    pub fn rows_for_a_table(&self) -> usize {
        let rows = |values: &Values| values.len() / self.spec.width;
        match &self.rows {
            Rows::InMemory(images) => 1 + images.iter().map(rows).sum::<usize>(),
            Rows::Stored | Rows::InTable(_) => 1,
        }
    }

    /// Moves the preloaded images, which are in f16, to a table on the device. `take` gets the table in order, in pieces of
    /// whole rows. Afterwards a batch holds row numbers of the table in place of values.
    ///
    /// # Errors
    /// Those of `take`, and an image that is not in f16.
    pub fn move_to_table(&mut self, take: &mut dyn FnMut(&[f16]) -> Result<()>) -> Result<()> {
        const PIECE: usize = 1 << 24; // values
        let width = self.spec.width;
        let Rows::InMemory(images) = std::mem::replace(&mut self.rows, Rows::Stored) else {
            bail!("only preloaded features can go into a table")
        };
        let mut table = Vec::with_capacity(images.len());
        let (mut piece, mut row) = (vec![f16::ZERO; width], ZERO_ROW + 1);
        for (image, values) in images.into_iter().enumerate() {
            let Values::F16(values) = values else {
                bail!(
                    "the features of image {} are not in f16",
                    self.image_ids[image]
                )
            };
            let end = row + (values.len() / width) as i64;
            table.push(row..end);
            row = end;
            piece.extend(values);
            if piece.len() >= PIECE {
                take(&piece)?;
                piece.clear();
            }
        }
        if !piece.is_empty() {
            take(&piece)?;
        }
        self.rows = Rows::InTable(table);
        Ok(())
    }
}
