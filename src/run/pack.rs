//! `--RUN=pack`: one memory-mapped bank per split, from the folder or straight from the published archive.

use super::outputs::Outputs;
use crate::config::{BankDtype, Config};
use crate::data::{Split, features};
use crate::formats::bank::{self, Dtype};
use crate::report::Progress;
use anyhow::{Result, bail, ensure};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Packs every split that is there and not packed yet.
///
/// # Errors
/// When there is nothing to pack, a member is damaged, or the bank cannot be written.
pub fn run(config: &Config) -> Result<()> {
    super::stop::listen()?;
    let mut packed = 0;
    for split in [Split::Train, Split::Val, Split::Test] {
        let folder = config.features_of(split);
        let target = features::bank_path(&folder);
        if target.exists() && !config.train.overwrite {
            println!(
                "{} is there already (--OVERWRITE=True packs it anew)",
                target.display()
            );
            packed += 1;
        } else if let Some(source) = source(&folder) {
            one(config, &source, &target)?;
            packed += 1;
        }
    }
    ensure!(
        packed > 0,
        "{}: there is no folder or .tar.gz of features named train2014, val2014 or test2015 to pack (--FEAT_PATH)",
        config.data.feature_path.display()
    );
    Ok(())
}

fn source(folder: &Path) -> Option<PathBuf> {
    let archive = features::archive_path(folder);
    if folder.is_dir() {
        Some(folder.into())
    } else {
        archive.is_file().then_some(archive)
    }
}

fn one(config: &Config, source: &Path, target: &Path) -> Result<()> {
    Outputs(config).check_writable(target.parent().map(Path::to_path_buf))?;
    let dtype = match config.data.bank_dtype {
        BankDtype::F16 => Dtype::F16,
        BankDtype::F32 => Dtype::F32,
    };
    let options = bank::pack::Options {
        dtype,
        feature_size: config.feature_size(),
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
    let report = bank::pack::pack(source, target, options, &|done| {
        let mut progress = progress.borrow_mut();
        if progress.is_due() {
            progress.show(done as u64, "images");
        }
        super::stop::check()
    })?;
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
