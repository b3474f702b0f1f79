//! `dicts.json` of GQA: `[answer to index, index to answer, word to id, words of the longest question]`.

use crate::base::atomic;
use crate::data::answers::AnswerList;
use crate::data::vocab::Vocabulary;
use crate::datasets::{Lists, WordList};
use crate::formats::json::{Int, JsonFile, Text};
use crate::formats::python_json::write_python_json;
use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
#[serde(
    expecting = "a list of three objects and a number: answers to indices, indices to answers, words to ids, and the \
                     words of the longest question"
)]
struct Parts<'a>(
    IndexMap<String, Int>,
    #[serde(borrow)] IndexMap<String, Text<'a>>,
    IndexMap<String, Int>,
    Int,
);

/// The words that a question may have, as with `MAX_TOKEN`: a recurrent network of some models takes as many steps.
const MOST_WORDS: usize = 1 << 13;

/// Reads the file at `path`.
///
/// # Errors
/// A file of another shape, or parts that disagree. Each error names the file.
pub fn read(path: &Path) -> Result<Lists> {
    let source = JsonFile::open(path)?;
    let Parts(index_of, answer_at, id_of, longest) = source.parse()?;
    let parse = || -> Result<Lists> {
        let answers = AnswerList::from_halves(index_of, &answer_at)?;
        let mut words: Vec<(String, Int)> = id_of.into_iter().collect();
        words.sort_by_key(|(_, id)| id.0);
        for (expected, (word, Int(id))) in (0..).zip(&words) {
            ensure!(
                *id == expected,
                "word {word:?} has id {id}; {expected} is expected"
            );
        }
        let words = words.into_iter().map(|(word, _)| word).collect();
        let words_of_longest = longest.0;
        let longest = usize::try_from(words_of_longest).ok();
        let longest = longest.filter(|longest| (1..=MOST_WORDS).contains(longest));
        let longest = longest.with_context(|| {
            format!(
                "its longest question has {words_of_longest} words; 1 to {MOST_WORDS} are possible"
            )
        })?;
        Ok(Lists {
            answers,
            words: Some(WordList {
                vocabulary: Vocabulary::from_words(words)?,
                longest,
            }),
        })
    };
    parse().with_context(|| {
        let name = source.name();
        format!("{name} is damaged (take it from OpenVQA again, or move it away to have it made from the questions)")
    })
}

/// Writes the file at `path`, but replaces none.
///
/// # Errors
/// The file cannot be written, or there is one.
pub(super) fn save_new(path: &Path, lists: &Lists) -> Result<()> {
    let words = lists.words.as_ref().context("there are no words")?;
    let numbered = |texts: &mut dyn Iterator<Item = &str>| -> IndexMap<String, usize> {
        texts.map(str::to_owned).zip(0..).collect()
    };
    let index_of = numbered(&mut lists.answers.answers());
    let answer_at: IndexMap<String, &str> = (0..)
        .map(|i: usize| i.to_string())
        .zip(lists.answers.answers())
        .collect();
    let id_of = numbered(&mut words.vocabulary.words());
    atomic::write_new(path, |writer| {
        let parts = (&index_of, &answer_at, &id_of, words.longest);
        Ok(write_python_json(writer, &parts)?)
    })
}
