use super::*;
use crate::data::dataset::Sample;
use crate::data::features::tests::{open, pack_folder, rows, write_image};
use crate::data::{ImageId, Values};
use crate::formats::bank::Dtype;
use std::path::Path;

const OPTIONS: LoaderOptions = LoaderOptions {
    batch_size: 4,
    drop_last: false,
    workers: 0,
    prefetch: 2,
    share_images: false,
    max_token: 3,
    skip: 0,
};

/// Sample i is question 100 + i, about image i / 3, with i % 5 words.
fn samples(len: usize) -> Arc<Dataset> {
    let words = [11, 12, 13, 14, 15];
    let sample = |i: usize| Sample {
        question_id: (100 + i as i64).into(),
        image_id: (i as i64 / 3).into(),
        image_split: None,
        words: words[..i % 5].to_vec(),
        targets: match i % 2 {
            0 => vec![(1, 0.3), (7, 1.0)],
            _ => Vec::new(),
        },
    };
    Arc::new(Dataset::from_samples((0..len).map(sample)))
}

/// The features of images 0 to `images` - 1 in `folder`.
fn store(folder: &Path, images: i64) -> Arc<FeatureStore> {
    let regions = open(&[folder.to_owned()], 4, 5, 0..images);
    Arc::new(FeatureStore::of_regions(regions))
}

/// Images 0 to n - 1, image i with i % 4 regions of 4 values, of which the second is zero.
fn features(folder: &Path, n: u64, dtype: Option<Dtype>) -> Arc<FeatureStore> {
    (0..n).for_each(|id| write_image(folder, id, id as usize % 4));
    if let Some(dtype) = dtype {
        pack_folder(folder, dtype);
    }
    store(folder, n as i64)
}

fn batches(features: &Arc<FeatureStore>, order: Vec<usize>, options: LoaderOptions) -> Vec<Batch> {
    let loader = Loader::new(samples(120), Arc::clone(features), order, options).unwrap();
    let expected = loader.batches() - options.skip;
    let batches: Vec<_> = loader.collect::<Result<_>>().unwrap();
    assert_eq!(batches.len(), expected);
    batches
}

#[test]
fn a_batch_has_the_words_features_and_targets_of_its_samples() {
    let root = tempfile::tempdir().unwrap();
    let features = features(&root.path().join("f"), 2, None);
    let batch = &batches(&features, vec![4, 0, 5, 3], OPTIONS)[0];
    assert_eq!(batch.samples, [4, 0, 5, 3]);
    assert_eq!(batch.image_ids, [1, 0, 1, 1].map(ImageId::from));
    assert_eq!(batch.image_of, [0, 1, 2, 3]);
    let regions = batch.regions.as_ref().unwrap();
    assert_eq!(
        regions.counts,
        [1, 5, 1, 1],
        "an image without a region has IMG_FEAT_PAD_SIZE zero rows"
    );
    assert_eq!(regions.all_padding, [false, true, false, false]);
    let one = rows(1, 1);
    assert_eq!(
        regions.values,
        Values::F32([&one[..], &[0.0; 20], &one, &one].concat())
    );
    assert_eq!(
        batch.words,
        [11, 12, 13, 0, 0, 0, 0, 0, 0, 11, 12, 13],
        "cut to MAX_TOKEN, or that many zeros"
    );
    assert_eq!(batch.word_counts, [3, 3, 3, 3]);
    assert_eq!(batch.no_words, [false, true, true, false]);
    assert_eq!(
        batch.targets,
        [(0, 1, 0.3), (0, 7, 1.0), (1, 1, 0.3), (1, 7, 1.0)]
    );
}

#[test]
fn consecutive_questions_share_their_image_if_sharing_is_on() {
    let root = tempfile::tempdir().unwrap();
    let features = features(&root.path().join("f"), 4, None);
    let options = LoaderOptions {
        batch_size: 7,
        share_images: true,
        ..OPTIONS
    };
    let shared = batches(&features, (0..10).collect(), options);
    assert_eq!(shared[0].image_ids, [0, 1, 2].map(ImageId::from));
    assert_eq!(shared[0].image_of, [0, 0, 0, 1, 1, 1, 2]);
    assert_eq!(
        shared[1].image_ids,
        [2, 3].map(ImageId::from),
        "the next batch starts afresh"
    );
    assert_eq!(
        shared[0].regions.as_ref().unwrap().values.len(),
        4 * shared[0]
            .regions
            .as_ref()
            .unwrap()
            .counts
            .iter()
            .sum::<usize>()
    );
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let features = features(&root.path().join("f"), 40, None);
    let order = shuffled(118, 5, 0);
    for drop_last in [false, true] {
        let options = LoaderOptions {
            drop_last,
            ..OPTIONS
        };
        let expected = batches(&features, order.clone(), options);
        assert_eq!(expected.len(), if drop_last { 29 } else { 30 });
        assert_eq!(
            expected.last().unwrap().samples.len(),
            if drop_last { 4 } else { 2 }
        );
        for (workers, prefetch) in [(1, 0), (1, 2), (4, 0), (4, 3), (100, 1)] {
            let options = LoaderOptions {
                workers,
                prefetch,
                ..options
            };
            assert_eq!(
                batches(&features, order.clone(), options),
                expected,
                "{workers} {prefetch}"
            );
            let skipped = batches(
                &features,
                order.clone(),
                LoaderOptions {
                    skip: 11,
                    ..options
                },
            );
            assert_eq!(skipped, expected[11..]);
        }
    }
}

#[test]
fn skipped_batches_are_not_read() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("f");
    let features = features(&folder, 40, None);
    for image in 0..26 {
        std::fs::remove_file(folder.join(format!("COCO_any_{image:012}.jpg.npz"))).ok();
    }
    for workers in [0, 3] {
        let samples = samples(100);
        let options = LoaderOptions {
            skip: 20,
            workers,
            ..OPTIONS
        };
        let all = Arc::clone(&samples);
        let loader = Loader::new(all, Arc::clone(&features), (0..100).collect(), options).unwrap();
        assert_eq!(loader.map(|b| b.unwrap().samples.len()).sum::<usize>(), 20);
        let none = LoaderOptions {
            skip: 1000,
            workers,
            ..OPTIONS
        };
        assert!(
            Loader::new(samples, Arc::clone(&features), (0..100).collect(), none)
                .unwrap()
                .next()
                .is_none()
        );
    }
}

#[test]
fn a_bank_gives_the_batches_of_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let order = || shuffled(118, 9, 3);
    let expected = batches(
        &features(&root.path().join("folder"), 40, None),
        order(),
        OPTIONS,
    );
    let exact = batches(
        &features(&root.path().join("f32"), 40, Some(Dtype::F32)),
        order(),
        OPTIONS,
    );
    assert_eq!(exact, expected);
    let rounded = batches(
        &features(&root.path().join("f16"), 40, Some(Dtype::F16)),
        order(),
        OPTIONS,
    );
    for (mut rounded, exact) in rounded.into_iter().zip(expected) {
        let values = |batch: &Batch| batch.regions.clone().unwrap().values;
        let (Values::F16(r), Values::F32(e)) = (values(&rounded), values(&exact)) else {
            panic!("wrong kinds")
        };
        assert!(
            r.iter()
                .zip(&e)
                .all(|(r, e)| (r.to_f32() - e).abs() <= e.abs() / 2048.0)
        );
        rounded.regions = exact.regions.clone();
        assert_eq!(rounded, exact);
    }
}

#[test]
fn an_error_comes_at_its_batch_and_ends_the_epoch() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("f");
    (0..40).for_each(|id| write_image(&folder, id, 2));
    std::fs::write(folder.join("COCO_any_000000000005.jpg.npz"), "damaged").unwrap();
    let features = store(&folder, 40);
    for workers in [0, 1, 3, 4] {
        let options = LoaderOptions { workers, ..OPTIONS };
        let mut loader = Loader::new(
            samples(120),
            Arc::clone(&features),
            (0..120).collect(),
            options,
        )
        .unwrap();
        for k in 0..3 {
            assert_eq!(loader.next().unwrap().unwrap().samples[0], 4 * k);
        }
        let message = format!("{:#}", loader.next().unwrap().unwrap_err());
        assert!(
            message.contains("question 115") && message.contains("COCO_any_000000000005"),
            "{message}"
        );
        assert!(loader.next().is_none());
        assert!(loader.workers.is_empty());
    }
}

#[test]
fn a_panic_in_a_worker_is_an_error_with_its_cause() {
    let root = tempfile::tempdir().unwrap();
    // Samples from 51 on are about images that were not opened.
    let features = features(&root.path().join("f"), 17, None);
    let options = LoaderOptions {
        workers: 3,
        ..OPTIONS
    };
    let mut loader = Loader::new(samples(100), features, (0..100).collect(), options).unwrap();
    assert_eq!(loader.by_ref().take(12).filter(|b| b.is_ok()).count(), 12);
    let message = format!("{:#}", loader.next().unwrap().unwrap_err());
    assert!(message.contains("index out of bounds"), "{message}");
    assert!(loader.next().is_none());
}

#[test]
fn dropping_the_loader_early_joins_every_thread() {
    let root = tempfile::tempdir().unwrap();
    let features = features(&root.path().join("f"), 400, None);
    for taken in [0, 1, 5] {
        for prefetch in [0, 1, 50] {
            let samples = samples(1200);
            let options = LoaderOptions {
                workers: 4,
                prefetch,
                ..OPTIONS
            };
            let all = Arc::clone(&samples);
            let mut loader =
                Loader::new(all, Arc::clone(&features), (0..1200).collect(), options).unwrap();
            assert_eq!(
                loader.by_ref().take(taken).filter(|b| b.is_ok()).count(),
                taken
            );
            drop(loader);
            assert_eq!(
                Arc::strong_count(&samples),
                1,
                "no thread holds the samples any more"
            );
        }
    }
}

#[test]
fn impossible_requests_are_errors() {
    let root = tempfile::tempdir().unwrap();
    let features = features(&root.path().join("f"), 2, None);
    let new = |order, options| {
        Loader::new(samples(6), Arc::clone(&features), order, options)
            .err()
            .map(|e| e.to_string())
    };
    assert!(new(vec![0, 6], OPTIONS).unwrap().contains("sample 6"));
    assert!(
        new(
            vec![0],
            LoaderOptions {
                batch_size: 0,
                ..OPTIONS
            }
        )
        .unwrap()
        .contains("batch size")
    );
    assert!(
        new(
            vec![],
            LoaderOptions {
                workers: 2,
                ..OPTIONS
            }
        )
        .is_none()
    );
}

#[test]
fn an_order_depends_only_on_seed_and_epoch() {
    let order = shuffled(1000, 1, 0);
    assert_eq!(order, shuffled(1000, 1, 0));
    assert_ne!(order, shuffled(1000, 2, 0));
    assert_ne!(order, shuffled(1000, 1, 1));
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..1000));
    // With another order, the same seed would give another training, and interrupted runs could not continue.
    assert_eq!(shuffled(10, 1, 0), [3, 8, 5, 2, 7, 9, 6, 0, 4, 1]);
}
