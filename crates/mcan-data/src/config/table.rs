//! The table of keys: what a key is, and the macros that declare keys and the words that a key may have.
//!
//! A key is declared once, in [`keys!`](crate::keys!), with its field, type, default, description, flag and marks. The
//! struct with its defaults, the flag with its help, the page `docs/src/keys.md` and the answers to "may it change on
//! resume?" and "may it differ between processes?" are made from that declaration.

use crate::data::Convention;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a key is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The network.
    Model,
    /// Which data is read, and how.
    Data,
    /// Optimisation.
    Train,
    /// What the run does and what it writes.
    Run,
    /// The machine: devices, threads, memory.
    Machine,
}

/// What a resumed run may do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResume {
    /// A run that continues in the middle of an epoch needs the same value.
    MustMatch,
    /// It may have another value.
    MayChange,
    /// It describes the machine, which may be another one.
    MachinesOwn,
    /// It says where a run starts and what it is called; the command that resumes a run gives it anew.
    GivenAnew,
}

/// How the values of a key are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or False.
    Bool,
    /// True, False or one of these words.
    BoolOr(&'static [&'static str]),
    /// An integer that is not negative.
    Count,
    /// A number.
    Number,
    /// Any text; a number is read as its digits.
    Text,
    /// A file or folder.
    Path,
    /// A file or folder for each split.
    Paths,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A value that only a configuration file or `--SET` can give, described in words.
    Other(&'static str),
}

/// The command-line flag of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name without the dashes.
    pub name: &'static str,
    /// What its value is called in the help text; the flag's name if absent.
    pub value_name: Option<&'static str>,
}

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in configuration files and after `--SET`.
    pub name: &'static str,
    /// How its values are written.
    pub kind: Kind,
    /// Its default value.
    pub default: fn() -> Value,
    /// What stands for an absent default, such as "the seed".
    pub absent: Option<&'static str>,
    /// What it means; the first line has a sentence of its own.
    pub doc: &'static str,
    /// Its flag, if it has one.
    pub flag: Option<Flag>,
    /// The words that are its values, where the data sets decide.
    pub one_of: Option<fn() -> Vec<&'static str>>,
    /// A list that its description ends with.
    pub listing: Option<fn() -> Vec<String>>,
    /// What it is about.
    pub scope: Scope,
    /// What a resumed run may do with it.
    pub on_resume: OnResume,
    /// Whether it may differ between the processes of a job.
    pub per_process: bool,
    /// Whether the reference lacks it.
    pub is_ours: bool,
    /// How a key is computed from others, in place of being set.
    pub computed: Option<Computed>,
    /// Whether a value has the type of this key.
    pub check: fn(Value) -> serde_json::Result<()>,
}

/// How a key of a model is computed from the other keys of that model.
#[derive(Clone, Copy, Debug)]
pub struct Computed {
    /// Whether that holds for the reference's configurations only, and OpenVQA's set it.
    pub in_reference_only: bool,
    /// Its value.
    pub value: fn(&Map<String, Value>) -> Value,
}

impl Key {
    /// A key without flag that may change on resume. Used by [`keys!`](crate::keys!).
    pub const fn new<T: KeyType>(
        name: &'static str,
        doc: &'static str,
        scope: Scope,
        default: fn() -> Value,
    ) -> Key {
        Key {
            name,
            kind: T::KIND,
            default,
            absent: None,
            doc,
            flag: None,
            one_of: None,
            listing: None,
            scope,
            on_resume: OnResume::MayChange,
            // The files of a job may lie elsewhere on each machine.
            per_process: matches!(T::KIND, Kind::Path | Kind::Paths),
            is_ours: false,
            computed: None,
            check: |value| serde_json::from_value::<T>(value).map(drop),
        }
    }

    /// Mark: the key has a flag of this name.
    pub const fn flag(mut self, name: &'static str) -> Key {
        self.flag = Some(Flag {
            name,
            value_name: None,
        });
        self
    }

    /// Mark: what the value of the flag is called in the help text.
    pub const fn value(mut self, value_name: &'static str) -> Key {
        if let Some(flag) = &mut self.flag {
            flag.value_name = Some(value_name);
        }
        self
    }

    /// Mark: its values are words of the data sets. The data set of a run may have fewer.
    pub const fn one_of(mut self, words: fn() -> Vec<&'static str>) -> Key {
        self.one_of = Some(words);
        self
    }

    /// Mark: its description ends with this list.
    pub const fn listing(mut self, list: fn() -> Vec<String>) -> Key {
        self.listing = Some(list);
        self
    }

    /// Mark: what stands for an absent default.
    pub const fn absent(mut self, text: &'static str) -> Key {
        self.absent = Some(text);
        self
    }

    /// Mark: the reference lacks this key.
    pub const fn ours(mut self) -> Key {
        self.is_ours = true;
        self
    }

    /// Mark: a run that continues in the middle of an epoch needs the same value.
    pub const fn must_match(mut self) -> Key {
        self.on_resume = OnResume::MustMatch;
        self
    }

    /// Mark: the command that resumes a run gives it anew.
    pub const fn given_anew(mut self) -> Key {
        self.on_resume = OnResume::GivenAnew;
        self
    }

    /// Mark: it describes the machine, so that it may differ between runs and between processes.
    pub const fn machine(mut self) -> Key {
        self.scope = Scope::Machine;
        self.on_resume = OnResume::MachinesOwn;
        self.per_process = true;
        self
    }

    /// Mark: it is about the network, whatever its group is.
    pub const fn about_model(mut self) -> Key {
        self.scope = Scope::Model;
        self
    }

    /// Mark: it may differ between the processes of a job.
    pub const fn per_process(mut self) -> Key {
        self.per_process = true;
        self
    }

    /// Mark: it is computed from the other keys of the model and cannot be set.
    pub const fn computed(mut self, value: fn(&Map<String, Value>) -> Value) -> Key {
        self.computed = Some(Computed {
            in_reference_only: false,
            value,
        });
        self
    }

    /// Mark: in the reference's configurations it is computed from the other keys of the model; in OpenVQA's it is set.
    pub const fn computed_in_reference(mut self, value: fn(&Map<String, Value>) -> Value) -> Key {
        self.computed = Some(Computed {
            in_reference_only: true,
            value,
        });
        self
    }

    /// Whether it is computed, in configurations that follow this convention.
    pub fn is_computed(&self, convention: Convention) -> bool {
        let is_reference = convention == Convention::Reference;
        self.computed
            .is_some_and(|computed| is_reference || !computed.in_reference_only)
    }

    /// Its description in one paragraph, without the final stop.
    pub fn help(&self) -> String {
        let lines: Vec<&str> = self.doc.lines().map(str::trim).collect();
        let text = lines.join(" ");
        let text = text.trim();
        let text = text.strip_suffix('.').unwrap_or(text);
        match self.listing {
            Some(list) => format!("{text}: {}", list().join(", ")),
            None => text.to_owned(),
        }
    }

    /// Its default as a user writes it, or what stands for it; empty if there is none.
    pub fn default_text(&self) -> String {
        match ((self.default)(), self.absent) {
            (_, Some(text)) => text.to_owned(),
            (Value::Null, None) => String::new(),
            (Value::Bool(true), None) => "True".into(),
            (Value::Bool(false), None) => "False".into(),
            (Value::String(text), None) => text,
            (value, None) => value.to_string(),
        }
    }

    /// How its values are written, in words.
    pub fn type_text(&self) -> String {
        if let Some(words) = self.one_of {
            return words().join(", ");
        }
        match self.kind {
            Kind::Bool => "True or False".into(),
            Kind::BoolOr(words) => format!("True, False or {}", words.join(", ")),
            Kind::Count => "count".into(),
            Kind::Number => "number".into(),
            Kind::Text => "text".into(),
            Kind::Path => "path".into(),
            Kind::Paths => "path for each split".into(),
            Kind::Words(words) => {
                let words: Vec<&str> = words
                    .iter()
                    .map(|&word| if word.is_empty() { "''" } else { word })
                    .collect();
                words.join(", ")
            }
            Kind::Other(text) => text.into(),
        }
    }
}

/// A type that the value of a key may have.
pub trait KeyType: Serialize + DeserializeOwned {
    /// How its values are written.
    const KIND: Kind;
}

/// A group of keys: a struct that [`keys!`](crate::keys!) has made.
pub trait Keys: Serialize + DeserializeOwned + Default {
    /// Its keys, in the order of the fields.
    const KEYS: &'static [Key];
}

macro_rules! key_types {
    ($($ty:ty => $kind:expr),+ $(,)?) => {
        $(impl KeyType for $ty { const KIND: Kind = $kind; })+
    };
}

key_types! {
    bool => Kind::Bool,
    usize => Kind::Count,
    u64 => Kind::Count,
    f64 => Kind::Number,
    String => Kind::Text,
    PathBuf => Kind::Path,
    BTreeMap<String, PathBuf> => Kind::Paths,
    Vec<u64> => Kind::Other("list of counts"),
    (f64, f64) => Kind::Other("two numbers"),
}

impl<T: KeyType> KeyType for Option<T> {
    const KIND: Kind = T::KIND;
}

/// The upper-case form of the name of a field. Used by [`keys!`](crate::keys!).
pub const fn upper<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = name.as_bytes()[i].to_ascii_uppercase();
        i += 1;
    }
    bytes
}

/// Declares a group of keys: a struct with one field per key, its defaults, and its table [`Keys::KEYS`].
///
/// ```text
/// keys! {
///     /// Sizes of the network.
///     pub struct MyKeys: Model {
///         /// Width of every layer.
///         hidden_size: usize = 512;
///         /// Questions per optimizer step.
///         batch_size: usize = 64 => flag("BS"), must_match;
///     }
/// }
/// ```
///
/// The key is the name of the field in capitals. The word after the colon is the [`Scope`] of the keys; the marks behind
/// `=>` are the methods of [`Key`]. Fields behind a semicolon and `not_keys:` belong to the struct but are no keys.
#[macro_export]
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $scope:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $ty:ty = $default:expr $(=> $($mark:ident $(($($arg:expr),*))?),+)?;
            )+
            $(not_keys: $(
                $(#[doc = $other_doc:literal])+
                $other:ident: $other_ty:ty;
            )+)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
        $vis struct $name {
            $(
                $(#[doc = $doc])+
                pub $field: $ty,
            )+
            $($(
                $(#[doc = $other_doc])+
                #[serde(skip)]
                pub $other: $other_ty,
            )+)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $($field: $default,)+
                    $($($other: Default::default(),)+)?
                }
            }
        }

        impl $crate::config::table::Keys for $name {
            const KEYS: &'static [$crate::config::table::Key] = &[$({
                const N: usize = stringify!($field).len();
                const BYTES: [u8; N] = $crate::config::table::upper(stringify!($field));
                const NAME: &str = match ::std::str::from_utf8(&BYTES) {
                    Ok(name) => name,
                    Err(_) => "",
                };
                $crate::config::table::Key::new::<$ty>(
                    NAME,
                    concat!($($doc, "\n"),+),
                    $crate::config::table::Scope::$scope,
                    || $crate::config::table::json_of::<$ty>($default),
                )$($(.$mark($($($arg),*)?))+)?
            }),+];
        }
    };
}

/// Declares an enum whose variants are words of the configuration.
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        $vis enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl $crate::config::table::KeyType for $name {
            const KIND: $crate::config::table::Kind =
                $crate::config::table::Kind::Words($name::WORDS);
        }
    };
}

/// `value` as JSON. Used by [`keys!`](crate::keys!).
pub fn json_of<T: Serialize>(value: T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
