//! The features of all images of a run on its devices. A batch then has row numbers in place of features.

use crate::data::features::Features;
use crate::native::device;
use anyhow::{Context, Result, ensure};
use half::f16;
use std::sync::Mutex;
use tch::{Device, IndexOp, Kind, Tensor};

/// (rows, F) half-precision features, one copy on each device of the run.
#[derive(Debug)]
pub(crate) struct Table {
    /// Locked, because tch lets one thread at a time use a tensor.
    copies: Mutex<Vec<Tensor>>,
}

impl Table {
    /// Moves the features in memory to `devices`. From then on, `features` gives row numbers of this table.
    ///
    /// # Errors
    /// A device with too little memory; the message names the flag.
    pub(crate) fn of(features: &mut Features, devices: &[Device]) -> Result<Table> {
        let size = features.feature_size();
        let rows = features.rows_for_a_table();
        let mut copies: Vec<Tensor> = Vec::new();
        for &device in devices {
            if !copies.iter().any(|copy| copy.device() == device) {
                copies.push(empty_table(rows, size, device)?);
            }
        }
        let mut next = 0;
        features.move_to_table(&mut |values| {
            let count = (values.len() / size) as i64;
            for copy in &copies {
                let values =
                    device::send(values, copy.device(), false)?.f_view([count, size as i64])?;
                copy.i(next..next + count).f_copy_(&values)?;
            }
            next += count;
            Ok(())
        })?;
        ensure!(
            next == rows as i64,
            "{next} rows of features for a table of {rows}"
        );
        Ok(Table {
            copies: Mutex::new(copies),
        })
    }

    /// The copy on `device`; absent if the run does not use the device.
    pub(crate) fn on(&self, device: Device) -> Option<Tensor> {
        let copies = self.copies.lock().ok()?;
        copies
            .iter()
            .find(|copy| copy.device() == device)
            .map(Tensor::shallow_clone)
    }
}

/// A table whose values are not set.
fn empty_table(rows: usize, size: usize, device: Device) -> Result<Tensor> {
    let bytes = (rows * size * size_of::<f16>()) as u64;
    let gb = |bytes: u64| bytes as f64 / 1e9;
    if let Some(free) = device::free_memory(device) {
        ensure!(
            bytes < free,
            "--PRELOAD=gpu: the features of this run take {:.1} GB, and {device:?} has {:.1} GB free; use --PRELOAD=True, \
             which holds them in the memory of the machine",
            gb(bytes),
            gb(free)
        );
    }
    Tensor::f_empty([rows as i64, size as i64], (Kind::Half, device)).with_context(|| {
        format!(
            "--PRELOAD=gpu: there is no room on {device:?} for {:.1} GB of features",
            gb(bytes)
        )
    })
}
