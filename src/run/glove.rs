//! Initial word embeddings from GloVe vectors, when these are there.

use crate::config::Config;
use crate::data::embeddings;
use crate::data::vocab::Vocabulary;
use crate::models::mcan::Net;
use anyhow::{Context, Result};
use std::path::Path;
use tch::Tensor;

/// Writes the vector of each word into the embedding; without vectors says so and leaves it random.
///
/// # Errors
/// When the vectors are damaged or have another width than `WORD_EMBED_SIZE`.
pub fn initialize(config: &Config, vocabulary: &Vocabulary, net: &Net) -> Result<()> {
    let folders = [
        Path::new("."),
        Path::new("datasets"),
        &config.data.dataset_path,
    ];
    let Some(path) = embeddings::find(config.data.glove_path.as_deref(), &folders)? else {
        crate::note!(
            "No word vectors found: starting from random embeddings. ./setup.sh data fetches them; --GLOVE_PATH names \
             them; --SET USE_GLOVE=false silences this."
        );
        return Ok(());
    };
    let words: Vec<&str> = vocabulary.words().collect();
    let width = config
        .model
        .size("WORD_EMBED_SIZE")
        .context("the model has no word vectors")?;
    let vectors = embeddings::load_of_width(&path, &words, width)?;
    crate::note!(
        "Word vectors: {} of {} words found in {}",
        vectors.found,
        words.len(),
        path.display()
    );
    let embedding = net
        .parameters
        .tensors
        .first()
        .context("the network has no embedding")?;
    let values = Tensor::f_from_slice(&vectors.values)?
        .f_view([words.len() as i64, vectors.dimension as i64])?;
    tch::no_grad(|| embedding.shallow_clone().f_copy_(&values))?;
    Ok(())
}
