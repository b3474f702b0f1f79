//! The words that a model knows, in the order that fixes the rows of its embedding.

use crate::formats::strings::Strings;
use anyhow::{Result, bail};

/// Id of padding.
pub const PAD: u32 = 0;
/// Id of every word that is not in the vocabulary.
pub const UNK: u32 = 1;

/// PAD, UNK, then words in order of first appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    words: Strings,
}

impl Vocabulary {
    /// The special words (PAD and UNK first), then these words, each once.
    pub fn new<'a>(special: &[&'static str], words: impl IntoIterator<Item = &'a str>) -> Self {
        // Questions are lower-cased, so no word of theirs is a special one.
        let special = special.iter().map(|&word| word.to_owned());
        let words = words.into_iter().map(str::to_owned);
        Self {
            words: special.chain(words).collect(),
        }
    }

    /// A vocabulary that was kept, as [`words`](Self::words) gave it.
    ///
    /// # Errors
    /// The first two are not PAD and UNK, or a word is there twice.
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

    /// Every word by id.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// How many ids there are, PAD and UNK included: the rows of the embedding.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never: PAD and UNK are always there.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The id of a word, UNK when it is not known.
    pub fn id(&self, word: &str) -> u32 {
        // Not truncated: no file has 2^32 distinct words that `intern` would number.
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
    fn a_kept_vocabulary_with_a_word_twice_or_a_wrong_start_is_refused() {
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
