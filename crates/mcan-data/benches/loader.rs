//! Measures the loader: batches of 64 questions about images of an f16 bank, with the sizes of VQA-v2.
//!
//! `cargo bench -p mcan-data --bench loader`; the argument is the number of worker threads (`NW`).

use divan::Bencher;
use divan::counter::ItemsCount;
use half::f16;
use mcan_data::data::Dataset;
use mcan_data::data::dataset::Sample;
use mcan_data::data::features::{FeaturePlace, FeatureStore, Features, bank_path};
use mcan_data::data::loader::{Loader, LoaderOptions, shuffled};
use mcan_data::data::streams::{StreamKind, StreamSpec};
use mcan_data::datasets::vqa2::FEATURE_FILES;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const IMAGES: usize = 256;
const QUESTIONS: usize = 4 * IMAGES;
const REGIONS: StreamSpec = StreamSpec {
    padded_to: 100,
    width: 2048,
    boxes: None,
};

/// Writes a bank in which image i has 10 + i % 91 regions.
fn write_bank(path: &Path) {
    let counts = (0..IMAGES).map(|image| 10 + image % 91);
    let mut offset = vec![0i64];
    counts.for_each(|n| offset.push(offset[offset.len() - 1] + n as i64));
    let rows = offset[IMAGES] as usize;
    let values =
        (0..rows * REGIONS.width).flat_map(|i| f16::from_f32((i % 97) as f32).to_le_bytes());
    let values: Vec<u8> = values.collect();
    let offset: Vec<u8> = offset.iter().flat_map(|n| n.to_le_bytes()).collect();
    let image_id: Vec<u8> = (0..IMAGES as i64).flat_map(i64::to_le_bytes).collect();
    let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).unwrap();
    let arrays = [
        ("x", view(Dtype::F16, vec![rows, REGIONS.width], &values)),
        ("offset", view(Dtype::I64, vec![IMAGES + 1], &offset)),
        ("image_id", view(Dtype::I64, vec![IMAGES], &image_id)),
    ];
    serialize_to_file(arrays, None, path).unwrap();
}

/// Four questions about each image, of 5 to 14 words.
fn dataset() -> Dataset {
    Dataset::from_samples((0..QUESTIONS as i64).map(|i| Sample {
        question_id: i.into(),
        image_id: (i / 4).into(),
        image_split: None,
        words: vec![2; 5 + i as usize % 10],
        targets: vec![(i as u32 % 3129, 1.0)],
    }))
}

/// The data set and its features, with the folder of the bank.
fn inputs() -> (TempDir, Arc<Dataset>, Arc<FeatureStore>) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("train2014");
    write_bank(&bank_path(&folder));
    let dataset = dataset();
    let image_ids = dataset.distinct_images().into();
    let names = FEATURE_FILES;
    let places = [FeaturePlace {
        folder,
        split: "train",
        names,
    }];
    let splits = vec![None; dataset.distinct_images().len()];
    let features =
        Features::open(&places, StreamKind::Regions, REGIONS, image_ids, &splits).unwrap();
    let store = FeatureStore::of_regions(features);
    (root, Arc::new(dataset), Arc::new(store))
}

#[divan::bench(args = [0, 1, 2])]
fn epoch(bencher: Bencher, workers: usize) {
    let (_root, dataset, features) = inputs();
    let options = LoaderOptions {
        batch_size: 64,
        drop_last: false,
        workers,
        prefetch: 2,
        share_images: false,
        max_token: 14,
        skip: 0,
    };
    bencher.counter(ItemsCount::new(QUESTIONS)).bench(|| {
        let order = shuffled(QUESTIONS, 1, 0);
        let (dataset, features) = (Arc::clone(&dataset), Arc::clone(&features));
        let loader = Loader::new(dataset, features, order, options).unwrap();
        loader
            .map(|batch| batch.unwrap().words.len())
            .sum::<usize>()
    });
}

fn main() {
    divan::main();
}
