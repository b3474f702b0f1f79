//! `--RUN=pack`: makes one bank for each split, from the folder of `.npz` files, from the published archive, or from the
//! files that the data set was published with.

use super::preflight::{check_file, check_folder};
use crate::base::files;
use crate::config::{BankDtype, Config};
use crate::data::features::{FeaturePlace, bank_path, find_archive};
use crate::data::pack::{PackOptions, Report, pack};
use crate::data::source::{FileSource, Layout, RegionSource};
use crate::data::streams::StreamKind;
use crate::datasets::{Benchmark, SplitName};
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
            } else if let Some(source) = source(benchmark, &place, kind)? {
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

/// Where features are packed from.
enum Source {
    /// A folder of `.npz` files, or an archive of them.
    Files(PathBuf),
    /// A folder of the files that the data set was published with.
    Published(PathBuf),
}

/// The folder of features, or else its archive, or else the files that were published.
fn source(
    benchmark: &dyn Benchmark,
    place: &FeaturePlace,
    kind: StreamKind,
) -> Result<Option<Source>> {
    let folder = &place.folder;
    let files = match files::is_folder(folder)? {
        true => Some(folder.clone()),
        false => find_archive(folder)?,
    };
    let published = benchmark.published(folder, kind)?;
    Ok(match (files, published) {
        // A folder can be there for the published files alone.
        (Some(files), Some(published)) if files == *folder && !place.has_files()? => {
            Some(Source::Published(published))
        }
        (Some(files), _) => Some(Source::Files(files)),
        (None, published) => published.map(Source::Published),
    })
}

/// Packs one folder or archive.
fn write_bank(config: &Config, source: &Source, target: &Path, layout: Layout) -> Result<Report> {
    let options = PackOptions {
        kind: layout.kind,
        dtype: match config.data.bank_dtype {
            BankDtype::F16 => Dtype::F16,
            BankDtype::F32 => Dtype::F32,
        },
        feature_size: layout.feature_size,
        skip_bad: config.data.pack_skip_bad,
    };
    let (path, mut images): (_, Box<dyn RegionSource>) = match source {
        Source::Files(path) => (path, Box::new(FileSource::open(path, layout)?)),
        Source::Published(folder) => {
            let benchmark = config.data.benchmark()?;
            let images = benchmark.open_published(folder, layout, options.skip_bad)?;
            (folder, images)
        }
    };
    // How many images an archive has is known only at its end.
    let count = match source {
        Source::Files(folder) if files::is_folder(folder)? => files::entries(folder)?.len(),
        _ => images.size_hint().0,
    };
    let title = format!("Packing {}", path.display());
    let progress = RefCell::new(Progress::new(title, count as u64, !config.run.verbose));
    let show = |done| {
        let mut progress = progress.borrow_mut();
        if progress.is_due() {
            progress.show(done as u64, "images");
        }
        super::stop::check()
    };
    pack(path, &mut *images, target, options, &show)
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
