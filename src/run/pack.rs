//! `--RUN=pack`: makes one bank for each split, from the folder of `.npz` files or from the published archive.

use super::preflight::{check_file, check_folder};
use crate::base::files;
use crate::config::{BankDtype, Config};
use crate::data::features::{bank_path, find_archive};
use crate::data::pack::{PackOptions, Report, pack};
use crate::data::source::{FileSource, Layout};
use crate::data::streams::StreamKind;
use crate::datasets::SplitName;
use crate::formats::bank::Dtype;
use crate::report::Progress;
use crate::say;
use anyhow::{Result, ensure};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Packs the features of every split that are found and not packed yet.
///
/// # Errors
/// When there is nothing to pack, a member is damaged, or the bank cannot be written.
pub(crate) fn run(config: &Config) -> Result<()> {
    super::stop::listen();
    let (benchmark, places) = (config.data.benchmark()?, config.data.places());
    let splits: Vec<SplitName> = benchmark.splits().iter().map(|split| split.name).collect();
    let streams = config.streams()?;
    let (mut jobs, mut there, mut names) = (Vec::new(), 0, Vec::new());
    for kind in [StreamKind::Regions, StreamKind::Grid] {
        let Some(spec) = streams.get(kind) else {
            continue;
        };
        for place in places.feature_places(benchmark, &splits, kind)? {
            let layout = Layout {
                kind,
                names: place.names,
                feature_size: spec.width,
            };
            let target = bank_path(&place.folder);
            if files::exists(&target)? && !config.train.overwrite {
                let target = target.display();
                say!("{target} is there already (--OVERWRITE=True packs it again)");
                there += 1;
            } else if let Some(source) = source(&place.folder)? {
                jobs.push((source, target, layout));
            }
            let name = place.folder.file_name();
            names.extend(name.map(|name| name.to_string_lossy().into_owned()));
        }
    }
    ensure!(
        there + jobs.len() > 0,
        "{}: there is no folder, .tar.gz or .tar of features named {} to pack (--FEAT_PATH)",
        places.feature_folder(benchmark)?.display(),
        one_of(&names)
    );
    // Packing one split takes long; that the bank of the next cannot be written is found before.
    for (_, target, _) in &jobs {
        let folder = target.parent().unwrap_or(Path::new("."));
        check_folder(folder, "--FEAT_PATH")?;
        check_file(target)?;
    }
    for (source, target, layout) in &jobs {
        let report = write_bank(config, source, target, *layout)?;
        print(&report, target, layout.kind);
    }
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
fn source(folder: &Path) -> Result<Option<PathBuf>> {
    match files::is_folder(folder)? {
        true => Ok(Some(folder.into())),
        false => find_archive(folder),
    }
}

/// Packs one folder or archive.
fn write_bank(config: &Config, source: &Path, target: &Path, layout: Layout) -> Result<Report> {
    let options = PackOptions {
        kind: layout.kind,
        dtype: match config.data.bank_dtype {
            BankDtype::F16 => Dtype::F16,
            BankDtype::F32 => Dtype::F32,
        },
        feature_size: layout.feature_size,
        skip_bad: config.data.pack_skip_bad,
    };
    // How many images an archive has is known only at its end.
    let images = match files::is_folder(source)? {
        true => files::entries(source)?.len() as u64,
        false => 0,
    };
    let title = format!("Packing {}", source.display());
    let progress = RefCell::new(Progress::new(title, images, !config.run.verbose));
    let show = |done| {
        let mut progress = progress.borrow_mut();
        if progress.is_due() {
            progress.show(done as u64, "images");
        }
        super::stop::check()
    };
    let mut images = FileSource::open(source, layout)?;
    pack(source, &mut images, target, options, &show)
}

fn print(report: &Report, target: &Path, kind: StreamKind) {
    let (bank, rows) = (target.display(), kind.array().rows());
    say!("{bank}: {} images, {} {rows}", report.images, report.rows);
    if let Some((error, image)) = &report.largest_rounding
        && *error > 0.0
    {
        say!("  largest rounding to f16: {error:e} (image {image})");
    }
    for skipped in &report.skipped {
        say!("  left out: {skipped}");
    }
}
