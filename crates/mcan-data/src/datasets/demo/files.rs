//! The files of every demo data set: JSON, and arrays in `.npz`.

use super::world::Regions;
use crate::base::atomic;
use crate::formats::npz::{Storage, Writer};
use anyhow::Result;
use serde::Serialize;
use std::io::{Seek, Write};
use std::path::Path;

/// Writes a JSON file.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    atomic::write(path, |file| Ok(serde_json::to_writer(file, value)?))
}

/// Writes the regions of an image as GQA's features were published: stored, one region after the other.
pub(super) fn write_regions(path: &Path, regions: &Regions) -> Result<()> {
    let count = regions.boxes.len();
    let shape = [count, regions.features.len() / count];
    atomic::write(path, |file| {
        let mut archive = Writer::new(file, Storage::Plain);
        write_array(&mut archive, "x", false, &shape, &regions.features)?;
        let boxes = regions.boxes.as_flattened();
        write_array(&mut archive, "bbox", false, &[count, 4], boxes)?;
        write_number(&mut archive, "width", regions.width)?;
        write_number(&mut archive, "height", regions.height)?;
        archive.finish()
    })
}

/// Writes the (cells, `width`) values of a grid as they were published: stored, in Fortran order.
pub(super) fn write_grid(path: &Path, grid: &[f32], width: usize) -> Result<()> {
    let shape = [grid.len() / width, width];
    atomic::write(path, |file| {
        let mut archive = Writer::new(file, Storage::Plain);
        write_array(&mut archive, "x", true, &shape, &by_columns(grid, width))?;
        archive.finish()
    })
}

/// The values of a matrix of `columns` columns, column after column.
pub(super) fn by_columns(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |column| values[column..].iter().step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

/// Writes one array of an `.npz` file.
pub(super) fn write_array<W: Write + Seek>(
    archive: &mut Writer<W>,
    name: &str,
    fortran_order: bool,
    shape: &[usize],
    values: &[f32],
) -> Result<()> {
    archive.start(name, "<f4", fortran_order, shape)?;
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    archive.write(&bytes)
}

/// Writes a number as an array without dimensions.
pub(super) fn write_number<W: Write + Seek>(
    archive: &mut Writer<W>,
    name: &str,
    number: i64,
) -> Result<()> {
    archive.start(name, "<i8", false, &[])?;
    archive.write(&number.to_le_bytes())
}
