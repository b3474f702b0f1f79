//! Starting a new training from the weights of a checkpoint: words and answers are matched by name.

use crate::checkpoint::Checkpoint;
use crate::models::{NamedRows, Sizes};
use crate::run::train::Trainer;
use anyhow::{Context, Result};
use rustc_hash::FxHashMap;

impl Trainer<'_> {
    /// Copies the parameters of `checkpoint` into the network. Rows of words and answers that the checkpoint does not have
    /// keep their initial values, and their number is said. A checkpoint that does not say which words and answers its
    /// rows are of must have as many as this run; they are taken in their order.
    ///
    /// # Errors
    /// A checkpoint of another network.
    pub fn start_from(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.plan.ckpt_to_load();
        let cannot = || format!("cannot start from the weights of {}", path.display());
        let (config, inputs) = (self.plan.config(), self.inputs);
        let (words, answers) = (inputs.vocabulary.len(), inputs.answers.len());
        let state = checkpoint.mcan.as_ref();
        if let Some(state) = state {
            super::resume::check_same_network(self.plan, &state.config).with_context(cannot)?;
        }
        let rows = match state {
            Some(state) => NamedRows {
                words: matches(&state.vocabulary, inputs.vocabulary.words()),
                answers: matches(&state.answers, inputs.answers.answers()),
            },
            None => NamedRows {
                words: (0..words as i64).map(Some).collect(),
                answers: (0..answers as i64).map(Some).collect(),
            },
        };
        let sizes = |words, answers| Sizes {
            words,
            answers,
            ..self.net.sizes()
        };
        let of_checkpoint = match state {
            Some(state) => sizes(state.vocabulary.len(), state.answers.len()),
            None => sizes(words, answers),
        };
        self.net
            .start_from(&config.model, &checkpoint.state_dict, &of_checkpoint, &rows)
            .with_context(cannot)?;
        let known = |rows: &[Option<i64>]| rows.iter().flatten().count();
        let how = match state {
            Some(_) => "matched by name",
            None => "which the file does not name, in their order",
        };
        crate::note!(
            "Starting from the weights of {}: {} of {words} words and {} of {answers} answers have theirs ({how}); the others \
             are new",
            path.display(),
            known(&rows.words),
            known(&rows.answers)
        );
        Ok(())
    }
}

/// For each of the names `now`, its position in `before`.
fn matches<'a>(before: &[String], now: impl Iterator<Item = &'a str>) -> Vec<Option<i64>> {
    let position: FxHashMap<&str, i64> = before.iter().map(String::as_str).zip(0..).collect();
    now.map(|name| position.get(name).copied()).collect()
}
