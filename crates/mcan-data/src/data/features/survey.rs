//! Looks at the images of a run for those whose features are of little use.

use super::{Features, Place};
use crate::base::files;
use crate::formats::npz;
use anyhow::Result;

/// What [`Features::survey`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Images looked at.
    pub images: usize,
    /// Those with more rows than are used.
    pub beyond: usize,
    /// The most rows of one of them.
    pub most: usize,
    /// Those in files whose values are all zeros, and those in banks without a row.
    pub empty: usize,
}

impl Features {
    /// Looks at images for those whose features are of little use: at all images of banks, and at some, evenly spaced, whose
    /// features are in files, because each must be read.
    ///
    /// # Errors
    /// A damaged bank.
    pub fn survey(&self) -> Result<Survey> {
        const FILES: usize = 64;
        let is_file = |place: &&Place| matches!(place, Place::File { .. });
        let files = self.stored.iter().flatten().filter(is_file).count();
        let every = files.div_ceil(FILES).max(1);
        let (mut survey, mut seen) = (Survey::default(), 0);
        let mut values = Vec::new();
        for place in self.stored.iter().flatten() {
            let rows = match place {
                Place::Bank { bank, index } => bank.image_rows(*index)?,
                Place::File {
                    folder,
                    name,
                    rows_first,
                } => {
                    seen += 1;
                    if (seen - 1) % every != 0 {
                        continue;
                    }
                    values.clear();
                    let wanted = self.wanted(self.spec.padded_to, *rows_first);
                    let path = folder.join(name);
                    // A pipe can be read only once.
                    if !files::look(&path)?.is_some_and(|found| found.is_file()) {
                        continue;
                    }
                    // The run names a damaged file with its question.
                    let Ok(rows) = npz::with_reader(|reader| {
                        reader.counted_rows_of_file(&path, wanted, &mut values)
                    }) else {
                        continue;
                    };
                    survey.empty += usize::from(values.iter().all(|&value| value == 0.0));
                    rows
                }
            };
            survey.images += 1;
            survey.empty += usize::from(rows == 0 && matches!(place, Place::Bank { .. }));
            survey.beyond += usize::from(rows > self.spec.padded_to);
            survey.most = survey.most.max(rows);
        }
        Ok(survey)
    }
}
