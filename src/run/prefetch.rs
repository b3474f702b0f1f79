//! The prefetcher: brings the batches of a loader to the device. For a GPU, a thread of its own packs and copies
//! batches on a side stream while the GPU computes on earlier ones. For a CPU, a batch is packed when it is needed.

use crate::base::errors::panic_text;
use crate::data::loader::Loader;
use crate::native::device::{Event, use_side_stream};
use crate::nn::packed::{PackedBatch, Packer};
use anyhow::{Context, Result, anyhow};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Finished batches that each loader thread may have waiting.
pub(super) const LOADED_AHEAD: usize = 2;
/// Batches that may wait on the device, besides the batch that is being copied.
const WAITING: usize = 1;

/// An iterator over the batches of a loader, on the device. It ends after an error.
pub(crate) struct Prefetcher {
    state: State,
}

enum State {
    Here {
        loader: Loader,
        packer: Packer,
    },
    Ahead {
        queue: Receiver<Result<(PackedBatch, Event)>>,
        thread: JoinHandle<()>,
    },
    Ended,
}

impl Prefetcher {
    /// The batches of `loader`, packed by `packer`; ahead of their use if `packer` is for a GPU.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn new(loader: Loader, packer: Packer) -> Result<Prefetcher> {
        let ahead = packer.device.is_cuda();
        Prefetcher::with(loader, packer, ahead)
    }

    fn with(loader: Loader, packer: Packer, ahead: bool) -> Result<Prefetcher> {
        if !ahead {
            return Ok(Prefetcher {
                state: State::Here { loader, packer },
            });
        }
        // The packer's table may still be on its way to the device.
        let begun = Event::now(packer.device)?;
        let (sender, queue) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("prefetch".into())
            .spawn(move || send_all(loader, &packer, &begun, &sender))
            .context("cannot start the thread that prefetches batches")?;
        Ok(Prefetcher {
            state: State::Ahead { queue, thread },
        })
    }

    fn take(&mut self) -> Option<Result<PackedBatch>> {
        match &mut self.state {
            State::Here { loader, packer } => {
                Some(loader.next()?.and_then(|batch| packer.pack(batch)))
            }
            State::Ahead { queue, .. } => match queue.recv() {
                Ok(item) => Some(item.and_then(|(batch, packed)| {
                    batch.adopt(&packed)?;
                    Ok(batch)
                })),
                Err(_) => self.stop().map(Err),
            },
            State::Ended => None,
        }
    }

    /// Ends the thread, if there is one; returns its panic as an error.
    fn stop(&mut self) -> Option<anyhow::Error> {
        let State::Ahead { queue, thread } = std::mem::replace(&mut self.state, State::Ended)
        else {
            return None;
        };
        // Dropping the receiver ends a wait of the thread on a full queue.
        drop(queue);
        let panic = thread.join().err()?;
        Some(anyhow!(
            "the thread that prefetches batches broke down: {}",
            panic_text(&*panic)
        ))
    }
}

impl Iterator for Prefetcher {
    type Item = Result<PackedBatch>;

    fn next(&mut self) -> Option<Result<PackedBatch>> {
        let item = self.take();
        if !matches!(item, Some(Ok(_))) {
            self.stop();
            self.state = State::Ended;
        }
        item
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The work of the prefetching thread.
fn send_all(
    loader: Loader,
    packer: &Packer,
    begun: &Event,
    sender: &SyncSender<Result<(PackedBatch, Event)>>,
) {
    if let Err(error) = use_side_stream(packer.device).and_then(|()| begun.stream_wait()) {
        // Sending fails if the prefetcher was dropped. Then nobody needs the error.
        let _ = sender.send(Err(error));
        return;
    }
    for batch in loader {
        let batch = batch.and_then(|batch| Ok((packer.pack(batch)?, Event::now(packer.device)?)));
        let failed = batch.is_err();
        if sender.send(batch).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::data::ImageId;
    use crate::data::dataset::Sample;
    use crate::data::features::{FeaturePlace, FeatureStore, Features};
    use crate::data::loader::LoaderOptions;
    use crate::data::streams::{StreamKind, StreamSpec};
    use crate::datasets::vqa2::FEATURE_FILES;
    use crate::formats::npz::testing::feature_file;
    use crate::nn::packed::StreamSource;
    use std::path::Path;
    use std::sync::Arc;
    use tch::{Device, Tensor};

    /// Ten questions about images 0 to 9, of which the folder has the first `images`, two a batch.
    fn prefetcher(folder: &Path, images: u64, ahead: bool) -> Prefetcher {
        for id in 0..images {
            let rows: Vec<f32> = (0..8).map(|i| id as f32 + i as f32 / 8.0).collect();
            let file = folder.join(format!("COCO_any_{id:012}.jpg.npz"));
            std::fs::write(file, feature_file(&rows, 4, true, false)).unwrap();
        }
        let sample = |i: u64| Sample {
            question_id: (i as i64).into(),
            image_id: (i as i64).into(),
            image_split: None,
            words: vec![1 + i as u32],
            targets: vec![(0, 1.0)],
        };
        let dataset = Arc::new(Dataset::from_samples((0..10).map(sample)));
        let place = FeaturePlace {
            folder: folder.to_owned(),
            split: "train",
            names: FEATURE_FILES,
        };
        let spec = StreamSpec {
            padded_to: 5,
            width: 4,
            boxes: None,
        };
        let images = dataset.distinct_images().into();
        let regions =
            Features::open(&[place], StreamKind::Regions, spec, images, &[None; 10]).unwrap();
        let features = Arc::new(FeatureStore::of_regions(regions));
        let options = LoaderOptions {
            batch_size: 2,
            drop_last: false,
            workers: 1,
            prefetch: 1,
            share_images: false,
            max_token: 3,
            skip: 0,
        };
        let loader = Loader::new(dataset, features, (0..10).collect(), options).unwrap();
        let packer = Packer {
            device: Device::Cpu,
            pin_mem: true,
            answers: 3,
            regions: Some(StreamSource {
                feature_size: 4,
                table: None,
            }),
            grid: None,
        };
        Prefetcher::with(loader, packer, ahead).unwrap()
    }

    #[test]
    fn batches_are_the_same_ahead_of_their_use_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let all = |ahead| -> Vec<(Tensor, Vec<ImageId>, Tensor, Tensor)> {
            let batches = prefetcher(folder.path(), 10, ahead).map(Result::unwrap);
            batches
                .map(|batch| {
                    (
                        batch.targets(),
                        batch.image_ids,
                        batch.word_ids,
                        batch.regions.unwrap().rows,
                    )
                })
                .collect()
        };
        let (here, ahead) = (all(false), all(true));
        assert_eq!(here.len(), 5);
        assert_eq!(here, ahead);
    }

    #[test]
    fn a_failure_ends_the_batches_with_its_cause() {
        for ahead in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut batches = prefetcher(folder.path(), 5, ahead);
            assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
            let error = batches.next().unwrap().err().unwrap();
            assert!(format!("{error:#}").contains("image 5"), "{error:#}");
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn a_prefetcher_that_is_dropped_early_does_not_hang() {
        let folder = tempfile::tempdir().unwrap();
        let mut batches = prefetcher(folder.path(), 10, true);
        assert!(batches.next().unwrap().is_ok());
    }
}
