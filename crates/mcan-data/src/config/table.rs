//! The table of keys: the properties of a key, and the types that its value can have.
//!
//! A key is declared once, in [`keys!`](crate::keys!), with its field, type, default, description, flag and marks. The
//! declaration gives the struct with its defaults, the flag with its help, the page `docs/src/keys.md`, and whether the key
//! may change on resume or differ between processes.

use crate::data::Convention;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The subject of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The network.
    Model,
    /// The data and how it is read.
    Data,
    /// Optimisation.
    Train,
    /// What the run does and what it writes.
    Run,
    /// The machine: devices, threads, memory.
    Machine,
}

/// Whether a resumed run may change a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResume {
    /// The run needs the same value: with another one the parameters mean something else.
    MustMatch,
    /// A run that continues in the middle of an epoch needs the same value.
    MustMatchWithinEpoch,
    /// The value may change, and the new one is used.
    MayChange,
    /// The key describes the machine, which may be another one.
    MachinesOwn,
    /// The key says where a run starts or what its name is. The command that resumes a run gives it anew.
    GivenAnew,
}

/// The form of the values of a key.
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
    /// Any text. A number is read as its digits.
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
    /// The name without the dashes.
    pub name: &'static str,
    /// The name of its value in the help text; if absent, the name of the flag.
    pub value_name: Option<&'static str>,
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name in configuration files and after `--SET`.
    pub name: &'static str,
    /// The form of the values.
    pub kind: Kind,
    /// The default value.
    pub default: fn() -> Value,
    /// A text for an absent default, such as "the seed".
    pub absent: Option<&'static str>,
    /// The description; its first line is a sentence.
    pub doc: &'static str,
    /// The flag, if the key has one.
    pub flag: Option<Flag>,
    /// A list at the end of the description.
    pub listing: Option<fn() -> Vec<String>>,
    /// The subject.
    pub scope: Scope,
    /// Whether a resumed run may change the key.
    pub on_resume: OnResume,
    /// Whether the value may differ between the processes of a job.
    pub per_process: bool,
    /// Whether the reference does not have the key.
    pub is_ours: bool,
    /// How the key is computed from other keys; absent for a key that can be set.
    pub computed: Option<Computed>,
    /// The check that a value has the type of the key.
    pub check: fn(Value) -> serde_json::Result<()>,
}

/// How a key of a model is computed from the other keys of that model.
#[derive(Clone, Copy, Debug)]
pub struct Computed {
    /// Whether the key is computed in configurations of the reference only; those of OpenVQA set it.
    pub in_reference_only: bool,
    /// The function that computes the value.
    pub value: fn(&Map<String, Value>) -> Value,
}

impl Key {
    /// A key without flag. On resume, keys of models must match, and others may change. Used by [`keys!`](crate::keys!).
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
            listing: None,
            scope,
            on_resume: match scope {
                Scope::Model => OnResume::MustMatch,
                _ => OnResume::MayChange,
            },
            // Each machine of a job may have its files in another place.
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

    /// Mark: the name of the value of the flag in the help text.
    pub const fn value(mut self, value_name: &'static str) -> Key {
        if let Some(flag) = &mut self.flag {
            flag.value_name = Some(value_name);
        }
        self
    }

    /// Mark: the description ends with this list.
    pub const fn listing(mut self, list: fn() -> Vec<String>) -> Key {
        self.listing = Some(list);
        self
    }

    /// Mark: the text for an absent default.
    pub const fn absent(mut self, text: &'static str) -> Key {
        self.absent = Some(text);
        self
    }

    /// Mark: the reference does not have this key.
    pub const fn ours(mut self) -> Key {
        self.is_ours = true;
        self
    }

    /// Mark: a resumed run needs the same value.
    pub const fn must_match(mut self) -> Key {
        self.on_resume = OnResume::MustMatch;
        self
    }

    /// Mark: a run that continues in the middle of an epoch needs the same value.
    pub const fn must_match_within_epoch(mut self) -> Key {
        self.on_resume = OnResume::MustMatchWithinEpoch;
        self
    }

    /// Mark: a resumed run may change the value.
    pub const fn may_change(mut self) -> Key {
        self.on_resume = OnResume::MayChange;
        self
    }

    /// Mark: the command that resumes a run gives the key anew.
    pub const fn given_anew(mut self) -> Key {
        self.on_resume = OnResume::GivenAnew;
        self
    }

    /// Mark: the key describes the machine, so that it may differ between runs and between processes.
    pub const fn machine(mut self) -> Key {
        self.scope = Scope::Machine;
        self.on_resume = OnResume::MachinesOwn;
        self.per_process = true;
        self
    }

    /// Mark: the subject of the key is the network, not that of its group.
    pub const fn about_model(mut self) -> Key {
        self.scope = Scope::Model;
        self
    }

    /// Mark: the value may differ between the processes of a job.
    pub const fn per_process(mut self) -> Key {
        self.per_process = true;
        self
    }

    /// Mark: the key is computed from other keys of the model and cannot be set.
    pub const fn computed(mut self, value: fn(&Map<String, Value>) -> Value) -> Key {
        self.computed = Some(Computed {
            in_reference_only: false,
            value,
        });
        self
    }

    /// Mark: configurations of the reference compute the key from other keys of the model; those of OpenVQA set it.
    pub const fn computed_in_reference(mut self, value: fn(&Map<String, Value>) -> Value) -> Key {
        self.computed = Some(Computed {
            in_reference_only: true,
            value,
        });
        self
    }

    /// Whether the key is computed in configurations that follow this convention.
    pub(crate) fn is_computed(&self, convention: Convention) -> bool {
        let is_reference = convention == Convention::Reference;
        self.computed
            .is_some_and(|computed| is_reference || !computed.in_reference_only)
    }

    /// The description in one line, without the final full stop.
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

    /// The default as a user writes it, or the text for an absent default; empty if there is none.
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

    /// The form of the values, in words.
    pub(crate) fn type_text(&self) -> String {
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

/// A type that the value of a key can have.
pub trait KeyType: Serialize + DeserializeOwned {
    /// The form of the values.
    const KIND: Kind;
}

/// A group of keys: a struct made by [`keys!`](crate::keys!).
pub trait Keys: Serialize + DeserializeOwned + Default {
    /// The keys, in the order of the fields.
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
