//! Word vectors as initial word embeddings.

use crate::config::Config;
use crate::data::embeddings;
use crate::data::vocab::Vocabulary;
use crate::models::Network;
use anyhow::Result;
use std::path::Path;
use tch::Tensor;

/// Copies the vector of each word into the embedding. If there are no vectors, prints a note and keeps the random
/// embedding.
///
/// # Errors
/// When the vectors are damaged or their width is not `WORD_EMBED_SIZE`.
pub(crate) fn initialize(config: &Config, vocabulary: &Vocabulary, net: &Network) -> Result<()> {
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
    let (_, width) = net.word_embedding().size2()?;
    let vectors = embeddings::load(&path, &words, Some(width as usize))?;
    crate::note!(
        "Word vectors: {} of {} words found in {}",
        vectors.found,
        words.len(),
        path.display()
    );
    let values = Tensor::f_from_slice(&vectors.values)?
        .f_view([words.len() as i64, vectors.dimension as i64])?;
    tch::no_grad(|| net.word_embedding().shallow_clone().f_copy_(&values))?;
    Ok(())
}
