//! Questions to train on or to answer, with the features of their images.

use crate::config::{Config, Preload, RunMode};
use crate::data::features::{FeatureStore, Features};
use crate::data::streams::{Needs, StreamKind};
use crate::data::{Dataset, ImageId};
use crate::datasets::SplitName;
use crate::models::Network;
use crate::nn::packed::{Packer, StreamSource};
use crate::nn::table::Table;
use crate::report::Progress;
use anyhow::{Context, Result, bail, ensure};
use std::sync::{Arc, Mutex};
use tch::Device;

/// Questions to train on or to answer, with their features.
pub struct Task {
    /// The questions.
    pub dataset: Arc<Dataset>,
    /// The features of all their images.
    pub features: Arc<FeatureStore>,
    /// Words of a question that are used.
    pub max_token: usize,
    /// The most rows of an image, as far as images were looked at.
    pub longest_image: usize,
    /// The features on the devices, with `--PRELOAD=gpu`.
    pub tables: Tables,
}

/// The tables of each feature stream on the devices of a run.
#[derive(Debug, Default)]
pub struct Tables {
    regions: Option<Table>,
    grid: Option<Table>,
}

impl Task {
    /// Opens the features for the questions of these splits. `names` are the question files, for messages.
    pub(super) fn open(
        config: &Config,
        dataset: Dataset,
        splits: &[SplitName],
        needs: Needs,
        max_token: usize,
        names: &str,
    ) -> Result<Task> {
        ensure!(
            !dataset.is_empty(),
            "there is no question to train on or to answer in {names}"
        );
        let (benchmark, places) = (config.data.benchmark()?, config.data.places());
        let place = |kind| places.feature_places(benchmark, splits, kind);
        let features = FeatureStore::open(&dataset, &config.streams()?, needs, &place)?;
        let mut longest_image = 0;
        for stream in features.streams() {
            check_images(&dataset, stream, names)?;
            longest_image = longest_image.max(check_use(stream, config.run.run_mode)?);
        }
        Ok(Task {
            dataset: Arc::new(dataset),
            features: Arc::new(features),
            max_token,
            longest_image,
            tables: Tables::default(),
        })
    }

    /// Loads the features into memory or onto the devices, if the run asks for it.
    pub(super) fn preloaded(mut self, config: &Config, devices: &[Device]) -> Result<Task> {
        let on_device = match config.data.preload {
            Preload::No => return Ok(self),
            Preload::Host => false,
            Preload::Device => true,
        };
        let features = Arc::get_mut(&mut self.features).context("the features are in use")?;
        for (kind, table) in [
            (StreamKind::Regions, &mut self.tables.regions),
            (StreamKind::Grid, &mut self.tables.grid),
        ] {
            if let Some(stream) = features.stream_mut(kind) {
                preload(stream, on_device)?;
                *table = on_device.then(|| Table::of(stream, devices)).transpose()?;
            }
        }
        Ok(self)
    }

    /// The packer of batches of these questions for `net` on `device`.
    pub(crate) fn packer(&self, config: &Config, net: &Network, device: Device) -> Packer {
        let source = |kind, table: &Option<Table>| {
            let features = self.features.stream(kind)?;
            Some(StreamSource {
                feature_size: features.feature_size(),
                table: table.as_ref().and_then(|table| table.on(device)),
            })
        };
        Packer {
            device,
            pin_mem: config.data.pin_mem,
            answers: net.answers(),
            regions: source(StreamKind::Regions, &self.tables.regions),
            grid: source(StreamKind::Grid, &self.tables.grid),
        }
    }
}

/// Checks that every image has features.
fn check_images(dataset: &Dataset, features: &Features, names: &str) -> Result<()> {
    let mut missing = features.missing();
    if missing.is_empty() {
        return Ok(());
    }
    let image_id = |image: usize| -> &ImageId { &dataset.distinct_images()[image] };
    missing.sort_unstable_by_key(|&image| image_id(image));
    let asked_by = |image| (0..dataset.len()).find(|&i| dataset.image(i) == image);
    let named = |&image: &usize| {
        let question = dataset.question_id(asked_by(image)?);
        Some(format!("{} of question {question}", image_id(image)))
    };
    let first: Vec<String> = missing.iter().take(5).filter_map(named).collect();
    bail!(
        "{} images of {names} have no features in {} (first: {}); place the missing .npz files there, or pack \
         the authors' archives with --RUN=pack (and --OVERWRITE=True, if a bank is there already)",
        missing.len(),
        features.places(),
        first.join(", ")
    );
}

/// Says which rows of images are not used, and refuses to train on images without features. Returns the most rows of an
/// image that was looked at, as the network gets them.
fn check_use(features: &Features, mode: RunMode) -> Result<usize> {
    let found = features.survey()?;
    let (images, places) = (found.images, features.places());
    // A grid is taken whole, so that another number of cells is an error when it is read.
    if found.beyond > 0 && features.kind() == StreamKind::Regions {
        crate::note!(
            "{} of {images} images that were looked at have more regions than IMG_FEAT_PAD_SIZE, up to {}: only the first \
             {} are used; --SET IMG_FEAT_PAD_SIZE={} uses all, which takes more memory and time",
            found.beyond,
            found.most,
            features.padded_to(),
            found.most
        );
    }
    let all_empty = images > 0 && found.empty == images;
    ensure!(
        !all_empty || mode != RunMode::Train,
        "all {images} images that were looked at in {places} have no region with a value other than 0; extract them again"
    );
    if found.empty > 0 {
        crate::note!(
            "{} of {images} images that were looked at in {places} have no region with a value other than 0",
            found.empty
        );
        // An image without a region is padded.
        return Ok(features.padded_to());
    }
    Ok(found.most.min(features.padded_to()))
}

/// Reads all images of a stream into memory.
fn preload(features: &mut Features, in_half: bool) -> Result<()> {
    let images = features.images();
    let progress = Mutex::new(Progress::new("Preloading features", images as u64, false));
    features.preload(in_half, &|done| {
        if let Ok(mut progress) = progress.lock()
            && (progress.is_due() || done == images)
        {
            progress.show(done as u64, "");
        }
    })
}
