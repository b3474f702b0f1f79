//! The loader makes batches of samples and image features, on the calling thread or on worker threads that read ahead.
//!
//! Batch k is made of the samples at `order[k * batch_size..]`, so that its content does not depend on the number of
//! workers. Worker w of NW makes the batches w, w + NW, ... and puts them into a bounded queue of its own. The iterator
//! takes a batch from each queue in turn, which gives the batches in order.

mod order;
#[cfg(test)]
mod tests;

pub use order::shuffled;

use super::features::FeatureStore;
use super::vocab::PAD;
use super::{Batch, Dataset};
use crate::base::errors::panic_text;
use anyhow::{Context, Result, anyhow, ensure};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How the loader makes batches.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Samples per batch, at least 1.
    pub batch_size: usize,
    /// Whether a last batch with fewer samples is left out.
    pub drop_last: bool,
    /// `NW`, the number of worker threads; with 0 the calling thread makes the batches.
    pub workers: usize,
    /// The number of finished batches in the queue of each worker.
    pub prefetch: usize,
    /// Whether consecutive questions about the same image share its rows.
    pub share_images: bool,
    /// `MAX_TOKEN`: further words are cut off, and a question without a word gets this many words of padding.
    pub max_token: usize,
    /// The number of batches at the start that are left out, because an interrupted epoch has had them.
    pub skip: usize,
}

/// The batches of one epoch. The first error ends the epoch. Dropping the loader stops and joins its threads.
pub struct Loader {
    plan: Arc<BatchPlan>,
    next: usize,
    workers: Vec<Worker>,
}

struct Worker {
    queue: Receiver<Result<Batch>>,
    thread: JoinHandle<()>,
}

/// The inputs of all batches, shared by the workers.
struct BatchPlan {
    dataset: Arc<Dataset>,
    features: Arc<FeatureStore>,
    order: Vec<usize>,
    options: LoaderOptions,
    batches: usize,
}

impl Loader {
    /// Starts loading the samples at the positions in `order`. `features` were opened for `dataset`.
    ///
    /// # Errors
    /// A batch size of 0, a position that `dataset` does not have, a thread that cannot be started.
    pub fn new(
        dataset: Arc<Dataset>,
        features: Arc<FeatureStore>,
        order: Vec<usize>,
        mut options: LoaderOptions,
    ) -> Result<Self> {
        ensure!(
            options.batch_size > 0,
            "the batch size is 0; at least 1 is needed"
        );
        if let Some(outside) = order.iter().find(|&&position| position >= dataset.len()) {
            anyhow::bail!(
                "the order names sample {outside}, but there are {}",
                dataset.len()
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
        let plan = Arc::new(BatchPlan {
            dataset,
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

    /// The number of batches of the epoch, with the skipped ones.
    pub fn batches(&self) -> usize {
        self.plan.batches
    }

    fn stop(&mut self) {
        self.next = self.plan.batches;
        // Dropping the receivers unblocks workers that wait for room in their queues; each ends after its current batch.
        let threads: Vec<_> = self.workers.drain(..).map(|worker| worker.thread).collect();
        for thread in threads {
            // `receive` has reported a panic, or nobody needs further batches.
            let _ = thread.join();
        }
    }

    fn receive(&mut self) -> Result<Batch> {
        let turn = (self.next - self.plan.options.skip) % self.workers.len();
        if let Ok(item) = self.workers[turn].queue.recv() {
            return item;
        }
        // A worker that closes its queue before its last batch has panicked.
        let panic = self.workers.swap_remove(turn).thread.join().err();
        let text = panic
            .as_ref()
            .map_or("no reason is known", |panic| panic_text(&**panic));
        Err(anyhow!("a thread that loads batches broke down: {text}"))
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.plan.batches {
            return None;
        }
        let item = if self.workers.is_empty() {
            self.plan.batch(self.next, &mut [0; 2])
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
    fn start(plan: &Arc<BatchPlan>, first: usize) -> Result<Self> {
        let (sender, queue) = sync_channel(plan.options.prefetch);
        let plan = Arc::clone(plan);
        let thread = std::thread::Builder::new()
            .name(format!("loader-{first}"))
            .spawn(move || plan.work(first, &sender))
            .context("cannot start a thread that loads batches; use a smaller --NW")?;
        Ok(Worker { queue, thread })
    }
}

impl BatchPlan {
    /// Makes every `workers`-th batch, from `first` on.
    fn work(&self, first: usize, sender: &SyncSender<Result<Batch>>) {
        let mut capacity = [0; 2];
        for k in (first..self.batches).step_by(self.options.workers) {
            let batch = self.batch(k, &mut capacity);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// Makes batch `k`. `capacity` holds the numbers of feature values of the last batch, as an estimate for the next one.
    fn batch(&self, k: usize, capacity: &mut [usize; 2]) -> Result<Batch> {
        let LoaderOptions {
            batch_size,
            max_token,
            ..
        } = self.options;
        let start = k * batch_size;
        let samples = &self.order[start..self.order.len().min(start + batch_size)];
        let mut batch = Batch {
            samples: samples.to_vec(),
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
        self.add_images(samples, &mut batch, capacity)?;
        for (row, &position) in samples.iter().enumerate() {
            self.add_words(position, &mut batch);
            let targets = self.dataset.targets(position).iter();
            batch
                .targets
                .extend(targets.map(|&(answer, score)| (row as u32, answer, score)));
        }
        Ok(batch)
    }

    /// Adds the features of the images of the samples.
    fn add_images(
        &self,
        samples: &[usize],
        batch: &mut Batch,
        capacity: &mut [usize; 2],
    ) -> Result<()> {
        let (dataset, features) = (&self.dataset, &self.features);
        let mut rows = features.new_rows(*capacity);
        let mut last = None;
        for &position in samples {
            let image = dataset.image(position);
            if !self.options.share_images || last != Some(image) {
                features.append(image, &mut rows).with_context(|| {
                    let question = dataset.question_id(position);
                    let image = dataset.image_id(position);
                    format!("cannot load question {question} (image {image})")
                })?;
                batch.image_ids.push(features.image_id(image).clone());
                last = Some(image);
            }
            batch.image_of.push(batch.image_ids.len() - 1);
        }
        for (capacity, rows) in capacity.iter_mut().zip(&rows) {
            *capacity = rows.as_ref().map_or(0, |rows| rows.values.len());
        }
        [batch.regions, batch.grid] = rows;
        Ok(())
    }

    /// Adds the words of a sample; for a question without a word, `MAX_TOKEN` words of padding.
    fn add_words(&self, position: usize, batch: &mut Batch) {
        let max_token = self.options.max_token;
        let words = self.dataset.words(position);
        let words = &words[..words.len().min(max_token)];
        batch.no_words.push(words.is_empty());
        batch
            .words
            .extend(words.iter().map(|&word| i64::from(word)));
        if words.is_empty() {
            batch
                .words
                .resize(batch.words.len() + max_token, PAD.into());
            batch.word_counts.push(max_token);
        } else {
            batch.word_counts.push(words.len());
        }
    }
}
