//! Ids of questions and images.

use std::fmt;
use std::sync::Arc;

/// The id of a question or of an image.
///
/// A number needs no memory on the heap, so that a million questions stay cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A number, as in VQA-v2.
    Number(i64),
    /// A number within a split, as in CLEVR, where image 7 of val is not image 7 of train.
    InSplit(&'static str, u32),
    /// A text, as in GQA; `"07"` and `"7"` differ.
    Text(Arc<str>),
}

/// Defines a type of ids, so that the id of a question cannot stand where the id of an image is due.
macro_rules! ids {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Id);

        impl<T: Into<Id>> From<T> for $name {
            fn from(id: T) -> $name {
                $name(id.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

ids! {
    /// The id of a question.
    QuestionId
}

ids! {
    /// The id of an image.
    ImageId
}

impl Id {
    /// The number of an [`Id::Number`].
    pub(crate) fn number(&self) -> Option<i64> {
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

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Id::Number(number) => number.fmt(f),
            Id::InSplit(split, number) => write!(f, "{split}/{number}"),
            Id::Text(text) => text.fmt(f),
        }
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
    }

    #[test]
    fn ids_of_two_splits_differ() {
        assert_ne!(Id::InSplit("val", 7), Id::InSplit("train", 7));
        assert_eq!(Id::InSplit("val", 7).to_string(), "val/7");
    }
}
