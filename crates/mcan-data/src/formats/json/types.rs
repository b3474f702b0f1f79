//! Values as other programs write them: ids as text, answers as numbers, a key twice.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;

/// An id: a whole number, or a text that writes one as Python would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int(pub i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(IntVisitor)
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Int, E> {
        Ok(Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Int, E> {
        let beyond = |_| E::custom(format_args!("the number {number} is too large for an id"));
        i64::try_from(number).map(Int).map_err(beyond)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Int, E> {
        // Above, not every whole number can be told.
        const EXACT: f64 = (1u64 << 53) as f64;
        if number.fract() == 0.0 && number.abs() < EXACT {
            return Ok(Int(number as i64));
        }
        Err(E::invalid_type(serde::de::Unexpected::Float(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Int, E> {
        match text.trim().parse::<i64>() {
            // The reference compares ids as texts, for which "07" and "7" differ.
            Ok(number) if number.to_string() != text.trim() => Err(E::custom(format_args!(
                "the id {text:?} begins with a zero or a sign; write it as the number {number}"
            ))),
            Ok(number) => Ok(Int(number)),
            Err(_) => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

/// A text, borrowed from the file unless it has escapes. A number is its digits, as Python's `str` writes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(format!("{number:?}"))))
    }
}

/// Declares the object that an element of a list is, with the keys that are used. Each may be missing or `null`. Of a key
/// that is there twice, the last counts, as in Python.
macro_rules! entry {
    ($(#[$meta:meta])* struct $name:ident<'a>, $expecting:literal { $($field:ident: $ty:ty,)+ }) => {
        $(#[$meta])*
        #[allow(non_snake_case, reason = "fields have the names of the file's keys")]
        struct $name<'a> {
            $($field: Option<$ty>,)+
            borrows: std::marker::PhantomData<&'a str>,
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
                struct Fields<'a>(std::marker::PhantomData<&'a str>);

                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Fields<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    #[allow(non_snake_case, reason = "as above")]
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name<'a>, A::Error> {
                        $(let mut $field = None;)+
                        while let Some(key) = map.next_key::<$crate::formats::json::Text>()? {
                            match &*key {
                                $(stringify!($field) => {
                                    $field = $crate::formats::json::value(&mut map, stringify!($field))?;
                                })+
                                _ => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok($name { $($field,)+ borrows: std::marker::PhantomData })
                    }
                }

                json.deserialize_map(Fields(std::marker::PhantomData))
            }
        }
    };
}
pub(crate) use entry;
