//! The words that a model knows. Their order is the order of the rows of the embedding.

use crate::formats::strings::Strings;
use anyhow::{Result, bail};

/// The id of padding.
pub(crate) const PAD: u32 = 0;
/// The id of all words that are not in the vocabulary.
const UNK: u32 = 1;

/// The vocabulary: PAD, UNK, then words in order of first appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    words: Strings,
}

impl Vocabulary {
    /// A vocabulary of the special words, which begin with PAD and UNK, and these words, each once.
    pub fn new<'a>(special: &[&'static str], words: impl IntoIterator<Item = &'a str>) -> Self {
        // Words of questions are in lower case, so that none equals a special word.
        let special = special.iter().map(|&word| word.to_owned());
        let words = words.into_iter().map(str::to_owned);
        Self {
            words: special.chain(words).collect(),
        }
    }

    /// The vocabulary of a checkpoint, as [`words`](Self::words) gave it.
    ///
    /// # Errors
    /// The first two words are not PAD and UNK, or a word occurs twice.
    pub fn from_words(words: Vec<String>) -> Result<Self> {
        if !matches!(&words[..], [pad, unk, ..] if pad == "PAD" && unk == "UNK") {
            bail!("the vocabulary does not begin with PAD and UNK");
        }
        let mut distinct = Strings::default();
        for word in words {
            if let (at, false) = distinct.insert_full(word) {
                bail!("the vocabulary has the word {:?} twice", distinct[at]);
            }
        }
        Ok(Self { words: distinct })
    }

    /// All words, by id.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// The number of words with PAD and UNK, which is the number of rows of the embedding.
    #[expect(clippy::len_without_is_empty, reason = "PAD and UNK are always there")]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether the model knows a word.
    pub fn contains(&self, word: &str) -> bool {
        self.words.contains(word)
    }

    /// The id of a word; that of UNK for an unknown word.
    pub(crate) fn id(&self, word: &str) -> u32 {
        // Not truncated: `intern` numbers fewer than 2^32 words of a file.
        self.words.get_index_of(word).map_or(UNK, |at| at as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(words: &[&str]) -> Result<Vocabulary> {
        Vocabulary::from_words(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn words_follow_the_special_ones_and_unknown_words_are_unk() {
        let words = Vocabulary::new(&["PAD", "UNK", "CLS"], ["what", "is", "what"]);
        assert!(words.words().eq(["PAD", "UNK", "CLS", "what", "is"]));
        assert_eq!((words.id("is"), words.id("that")), (4, UNK));
    }

    #[test]
    fn a_vocabulary_with_a_word_twice_or_a_wrong_start_is_an_error() {
        let twice = vocabulary(&["PAD", "UNK", "what", "what"])
            .unwrap_err()
            .to_string();
        assert_eq!(twice, "the vocabulary has the word \"what\" twice");
        assert!(
            vocabulary(&["UNK", "PAD"])
                .unwrap_err()
                .to_string()
                .contains("PAD and UNK")
        );
        assert!(vocabulary(&[]).is_err());
    }

    #[test]
    fn words_come_back_as_they_were_given() {
        let words = ["PAD", "UNK", "b", "a"];
        assert!(vocabulary(&words).unwrap().words().eq(words));
    }
}
