//! `--RUN=pack`: makes one bank for each split, from the folder of `.npz` files or from the published archive.

use super::preflight::check_writable;
use crate::config::{BankDtype, Config};
use crate::data::features::{archive_path, bank_path};
use crate::data::pack::{PackOptions, pack};
use crate::data::source::{FileSource, Layout};
use crate::data::streams::StreamKind;
use crate::datasets::SplitName;
use crate::formats::bank::Dtype;
use crate::report::Progress;
use anyhow::{Result, bail, ensure};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Packs the features of every split that are found and not packed yet.
///
/// # Errors
/// When there is nothing to pack, a member is damaged, or the bank cannot be written.
pub(crate) fn run(config: &Config) -> Result<()> {
    super::stop::listen()?;
    let mut packed = 0;
    let (benchmark, places) = (config.data.benchmark()?, config.data.places());
    let splits: Vec<SplitName> = benchmark.splits().iter().map(|split| split.name).collect();
    let streams = config.streams()?;
    let kinds = [StreamKind::Regions, StreamKind::Grid];
    let streams = kinds
        .into_iter()
        .filter_map(|kind| Some((kind, streams.get(kind)?)));
    let mut names = Vec::new();
    for (kind, spec, place) in streams.flat_map(|(kind, spec)| {
        let found = places
            .feature_places(benchmark, &splits, kind)
            .unwrap_or_default();
        found.into_iter().map(move |place| (kind, spec, place))
    }) {
        let folder = &place.folder;
        let target = bank_path(folder);
        names.extend(
            folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
        if target.exists() && !config.train.overwrite {
            println!(
                "{} is there already (--OVERWRITE=True packs it again)",
                target.display()
            );
            packed += 1;
        } else if let Some(source) = source(folder) {
            let layout = Layout {
                kind,
                names: place.names,
                feature_size: spec.width,
            };
            pack_one(config, &source, &target, layout)?;
            packed += 1;
        }
    }
    ensure!(
        packed > 0,
        "{}: there is no folder or .tar.gz of features named {} to pack (--FEAT_PATH)",
        places.feature_folder(benchmark).display(),
        one_of(&names)
    );
    Ok(())
}

/// Names as in "train, val or test".
fn one_of(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// The folder of features, or else its archive.
fn source(folder: &Path) -> Option<PathBuf> {
    let archive = archive_path(folder);
    if folder.is_dir() {
        Some(folder.into())
    } else {
        archive.is_file().then_some(archive)
    }
}

/// Packs one folder or archive, and prints what was packed.
fn pack_one(config: &Config, source: &Path, target: &Path, layout: Layout) -> Result<()> {
    check_writable(target.parent().map(Path::to_path_buf))?;
    let dtype = match config.data.bank_dtype {
        BankDtype::F16 => Dtype::F16,
        BankDtype::F32 => Dtype::F32,
    };
    let options = PackOptions {
        kind: layout.kind,
        dtype,
        feature_size: layout.feature_size,
        skip_bad: config.data.pack_skip_bad,
    };
    let images = if source.is_dir() {
        std::fs::read_dir(source)?.count() as u64
    } else {
        0
    };
    let progress = RefCell::new(Progress::new(
        format!("Packing {}", source.display()),
        images,
        !config.run.verbose,
    ));
    let report = pack(
        source,
        &mut FileSource::open(source, layout)?,
        target,
        options,
        &|done| {
            let mut progress = progress.borrow_mut();
            if progress.is_due() {
                progress.show(done as u64, "images");
            }
            super::stop::check()
        },
    )?;
    drop(progress);
    println!(
        "{}: {} images, {} regions",
        target.display(),
        report.images,
        report.regions
    );
    if let Some((error, image)) = report.largest_rounding.filter(|(error, _)| *error > 0.0) {
        println!("  largest rounding to f16: {error:e} (image {image})");
    }
    for skipped in &report.skipped {
        println!("  left out: {skipped}");
    }
    if report.images == 0 {
        bail!("{} holds no image that could be packed", source.display());
    }
    Ok(())
}
