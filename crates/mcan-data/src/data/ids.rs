//! Names of questions and images.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The name of a question or of an image.
///
/// A number takes no memory of its own, so a million questions stay cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A number, as in VQA-v2.
    Number(i64),
    /// A number that counts anew in each split, as CLEVR's images do: image 7 of val is not image 7 of train.
    InSplit(&'static str, u32),
    /// A text, as in GQA; `"07"` and `"7"` differ.
    Text(Arc<str>),
}

/// The name of a question.
pub type QuestionId = Id;

/// The name of an image.
pub type ImageId = Id;

impl Id {
    /// The number, if the name is nothing else.
    pub fn number(&self) -> Option<i64> {
        match self {
            Id::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<i64> for Id {
    fn from(number: i64) -> Id {
        Id::Number(number)
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Id {
        Id::Text(text.into())
    }
}

/// A name from the command line or a file name: digits without a leading zero are a number, all else is a text.
impl std::str::FromStr for Id {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Id, Self::Err> {
        let number = text.parse().ok().filter(|n: &i64| n.to_string() == text);
        Ok(number.map_or_else(|| Id::from(text), Id::Number))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Id::Number(number) => number.fmt(f),
            Id::InSplit(split, number) => write!(f, "{split}/{number}"),
            Id::Text(text) => text.fmt(f),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Id::Number(number) => number.serialize(serializer),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an id: a number or a text")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id::Number(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Id, E> {
                let invalid = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                i64::try_from(number).map(Id::Number).map_err(invalid)
            }

            fn visit_str<E>(self, text: &str) -> Result<Id, E> {
                Ok(Id::from(text))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_leading_zeros_differ() {
        assert_ne!(Id::from("07"), Id::from("7"));
        assert_ne!(Id::from("7"), Id::from(7));
        assert_eq!(Id::from("07").to_string(), "07");
        let parsed = |text: &str| text.parse::<Id>().unwrap();
        assert_eq!(parsed("7"), Id::Number(7));
        assert_eq!(parsed("07"), Id::from("07"));
        assert_eq!(parsed("n7"), Id::from("n7"));
    }

    #[test]
    fn ids_of_two_splits_differ() {
        assert_ne!(Id::InSplit("val", 7), Id::InSplit("train", 7));
        assert_eq!(Id::InSplit("val", 7).to_string(), "val/7");
    }

    #[test]
    fn json_keeps_numbers_and_texts_apart() {
        for id in [Id::Number(-7), Id::from("007")] {
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id, "{json}");
        }
        assert!(serde_json::from_str::<Id>("1.5").is_err());
    }
}
