//! Turns samples and image features into batches, in the calling thread or in worker threads that read ahead.
//!
//! Batch k is made of the samples `order[k * batch_size..]` and nothing else, so the number of workers changes when a
//! batch is ready, never what is in it. Worker w of NW makes the batches w, w + NW, ... into a bounded queue of its own,
//! and the iterator visits the queues in turn: the order is fixed without any sorting.

mod order;
#[cfg(test)]
mod tests;

pub use order::shuffled;

use super::features::Features;
use super::{Batch, FeatureRows};
use crate::base::errors::panic_text;
use anyhow::{Context, Result, anyhow, ensure};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// What the loader has to know of a dataset; positions run from 0 to `len() - 1`.
pub trait Samples: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The question's id, for messages.
    fn question_id(&self, position: usize) -> i64;
    /// COCO id of the image that it is about.
    fn image_id(&self, position: usize) -> u64;
    /// Word ids without padding, possibly none.
    fn words(&self, position: usize) -> &[u32];
    /// (answer, score) pairs, possibly none.
    fn targets(&self, position: usize) -> &[(u32, f32)];
}

/// How to batch.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Samples per batch, at least 1.
    pub batch_size: usize,
    /// Whether a last batch with fewer samples is left out (training) or kept (evaluation).
    pub drop_last: bool,
    /// `NW`: worker threads; 0 makes each batch when it is asked for.
    pub workers: usize,
    /// Finished batches that each worker may have waiting, besides the one it is working on.
    pub prefetch: usize,
    /// Whether consecutive questions about one image share its rows.
    pub share_images: bool,
    /// `MAX_TOKEN`: further words are cut off, and a question without one gets this many zeros.
    pub max_token: usize,
    /// Batches at the start that are not made: those that an interrupted epoch has had.
    pub skip: usize,
}

/// The batches of one epoch. After an error there are no more. Dropping it early stops and joins its threads.
pub struct Loader {
    plan: Arc<Plan>,
    next: usize,
    workers: Vec<Worker>,
}

struct Worker {
    queue: Receiver<Result<Batch>>,
    thread: JoinHandle<()>,
}

/// What a batch is made from; the same for all workers.
struct Plan {
    samples: Arc<dyn Samples>,
    features: Arc<Features>,
    order: Vec<usize>,
    options: Options,
    batches: usize,
}

impl Loader {
    /// Starts loading the samples at the positions in `order`.
    ///
    /// # Errors
    /// A batch size of zero, a position that `samples` does not have, a thread that cannot be started.
    pub fn new(
        samples: Arc<dyn Samples>,
        features: Arc<Features>,
        order: Vec<usize>,
        mut options: Options,
    ) -> Result<Self> {
        ensure!(
            options.batch_size > 0,
            "the batch size is 0; at least 1 is needed"
        );
        if let Some(outside) = order.iter().find(|&&position| position >= samples.len()) {
            anyhow::bail!(
                "the order names sample {outside}, but there are {}",
                samples.len()
            );
        }
        let whole = order.len() / options.batch_size;
        let batches = if options.drop_last {
            whole
        } else {
            order.len().div_ceil(options.batch_size)
        };
        options.skip = options.skip.min(batches);
        options.workers = options.workers.min(batches - options.skip);
        let plan = Arc::new(Plan {
            samples,
            features,
            order,
            options,
            batches,
        });
        let mut loader = Loader {
            plan,
            next: options.skip,
            workers: Vec::new(),
        };
        for w in 0..options.workers {
            loader
                .workers
                .push(Worker::start(&loader.plan, options.skip + w)?);
        }
        Ok(loader)
    }

    /// Number of batches in the epoch, those skipped included.
    pub fn batches(&self) -> usize {
        self.plan.batches
    }

    fn stop(&mut self) {
        self.next = self.plan.batches;
        // Without its receiver a worker cannot wait on a full queue, so it ends with the batch at hand.
        let threads: Vec<_> = self.workers.drain(..).map(|worker| worker.thread).collect();
        for thread in threads {
            // A panic has been reported by `receive`, or nobody is interested any more.
            let _ = thread.join();
        }
    }

    fn receive(&mut self) -> Result<Batch> {
        let turn = (self.next - self.plan.options.skip) % self.workers.len();
        if let Ok(item) = self.workers[turn].queue.recv() {
            return item;
        }
        // A worker hangs up before its last batch only by panicking.
        let panic = self.workers.swap_remove(turn).thread.join().err();
        let text = panic
            .as_ref()
            .map_or("it gave no reason", |panic| panic_text(&**panic));
        Err(anyhow!("a worker that loads batches broke down: {text}"))
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.plan.batches {
            return None;
        }
        let item = if self.workers.is_empty() {
            self.plan.batch(self.next, &mut 0)
        } else {
            self.receive()
        };
        match item {
            Ok(_) => self.next += 1,
            Err(_) => self.stop(),
        }
        Some(item)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Worker {
    fn start(plan: &Arc<Plan>, first: usize) -> Result<Self> {
        let (sender, queue) = sync_channel(plan.options.prefetch);
        let plan = Arc::clone(plan);
        let thread = std::thread::Builder::new()
            .name(format!("loader-{first}"))
            .spawn(move || plan.work(first, &sender))
            .context("cannot start a thread that loads batches; use a smaller --NW")?;
        Ok(Worker { queue, thread })
    }
}

impl Plan {
    fn work(&self, first: usize, sender: &SyncSender<Result<Batch>>) {
        let mut capacity = 0;
        for k in (first..self.batches).step_by(self.options.workers) {
            let batch = self.batch(k, &mut capacity);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// Makes batch `k`; `capacity` carries the number of region values of the last one to the next.
    fn batch(&self, k: usize, capacity: &mut usize) -> Result<Batch> {
        let Options {
            batch_size,
            share_images,
            max_token,
            ..
        } = self.options;
        let start = k * batch_size;
        let samples = self.order[start..self.order.len().min(start + batch_size)].to_vec();
        let mut regions = self.features.new_rows(*capacity);
        let mut batch = Batch {
            samples: Vec::new(),
            image_ids: Vec::new(),
            image_of: Vec::new(),
            regions: None,
            grid: None,
            words: Vec::new(),
            word_counts: Vec::new(),
            no_words: Vec::new(),
            words_padded_to: max_token,
            targets: Vec::new(),
        };
        for (row, &position) in samples.iter().enumerate() {
            let image_id = self.samples.image_id(position);
            if !(share_images && batch.image_ids.last() == Some(&image_id)) {
                self.push_image(image_id, &mut regions).with_context(|| {
                    format!(
                        "cannot load question {} (image {image_id})",
                        self.samples.question_id(position)
                    )
                })?;
                batch.image_ids.push(image_id);
            }
            batch.image_of.push(batch.image_ids.len() - 1);
            let words = self.samples.words(position);
            let words = &words[..words.len().min(max_token)];
            batch.no_words.push(words.is_empty());
            batch.word_counts.push(if words.is_empty() {
                max_token
            } else {
                words.len()
            });
            batch
                .words
                .extend(words.iter().map(|&word| i64::from(word)));
            if words.is_empty() {
                batch.words.resize(batch.words.len() + max_token, 0);
            }
            let targets = self.samples.targets(position);
            batch.targets.extend(
                targets
                    .iter()
                    .map(|&(answer, score)| (row as u32, answer, score)),
            );
        }
        *capacity = regions.values.len();
        batch.regions = Some(regions);
        batch.samples = samples;
        Ok(batch)
    }

    fn push_image(&self, image_id: u64, out: &mut FeatureRows) -> Result<()> {
        let found = self.features.append(image_id, &mut out.values)?;
        let rows = if found > 0 { found } else { out.padded_to };
        out.values
            .push_zeros(rows - found, self.features.feature_size());
        out.counts.push(rows);
        out.all_padding.push(found == 0);
        Ok(())
    }
}
