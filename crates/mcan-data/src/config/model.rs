//! The keys of model families. The callers of this room supply them, because no room below `models` knows a family.

use super::error::ConfigError;
use super::table::{Key, Keys};
use crate::data::Convention;
use anyhow::Result;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The model families that a configuration can name, supplied by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The families that `MODEL_USE` can name.
    pub families: &'static [FamilyKeys],
    /// The name of the family of a configuration without `MODEL_USE`, which is the reference's.
    pub default_family: &'static str,
}

/// The convention of a configuration: OpenVQA's if `MODEL_USE` names a family.
pub(super) fn convention(model_use: Option<&str>) -> Convention {
    match model_use {
        Some(_) => Convention::OpenVqa,
        None => Convention::Reference,
    }
}

/// The keys of a model family.
#[derive(Clone, Copy, Debug)]
pub struct FamilyKeys {
    /// The name of the family, a value of `MODEL_USE`.
    pub name: &'static str,
    /// The keys of the family, made by [`keys!`](crate::keys!).
    pub keys: &'static [Key],
    /// Values that are computed from the keys and printed with them. They cannot be set.
    pub derived: &'static [Key],
    /// The check of values that have the right types.
    pub check: fn(&ModelValues) -> Result<(), ConfigError>,
}

impl Schema {
    /// The family that `model_use` names, or the default family.
    ///
    /// # Errors
    /// An unknown name; the error lists the families.
    pub fn family(&self, model_use: Option<&str>) -> Result<&'static FamilyKeys, ConfigError> {
        let name = model_use.unwrap_or(self.default_family);
        let found = self.families.iter().find(|family| family.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.families.iter().map(|family| family.name).collect();
            let message = format!(
                "MODEL_USE = {name}: there is no such family of models, only {}",
                names.join(", ")
            );
            ConfigError::new("MODEL_USE", message)
        })
    }
}

/// The values of the keys of a model family.
#[derive(Clone, Debug, Default)]
pub struct ModelValues {
    /// The name of the family.
    pub family: String,
    /// The value of each key of the family, and the derived values.
    pub values: Map<String, Value>,
    derived: &'static [Key],
}

impl PartialEq for ModelValues {
    fn eq(&self, other: &ModelValues) -> bool {
        (&self.family, &self.values) == (&other.family, &other.values)
    }
}

impl ModelValues {
    /// `values` of the keys of `family`, and the derived values.
    pub(super) fn new(family: &FamilyKeys, values: Map<String, Value>) -> ModelValues {
        let mut model = ModelValues {
            family: family.name.to_owned(),
            values,
            derived: family.derived,
        };
        model.derive();
        model
    }

    fn derive(&mut self) {
        for key in self.derived {
            if let Some(computed) = key.computed {
                let value = (computed.value)(&self.values);
                self.values.insert(key.name.to_owned(), value);
            }
        }
    }

    /// The values as `T`, the struct of the family.
    ///
    /// # Errors
    /// When `T` is the struct of another family.
    pub fn keys<T: Keys>(&self) -> Result<T> {
        Ok(serde_json::from_value(Value::Object(self.values.clone()))?)
    }

    /// Replaces the values by the values of `keys`, the struct of the family.
    ///
    /// # Errors
    /// When a value has no form in JSON.
    pub fn set_keys<T: Keys>(&mut self, keys: &T) -> Result<()> {
        if let Value::Object(values) = serde_json::to_value(keys)? {
            self.values.extend(values);
            self.derive();
        }
        Ok(())
    }

    /// The value of `key` if the family has this key and its value is a count.
    pub fn size(&self, key: &str) -> Option<usize> {
        self.values
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|value| usize::try_from(value).ok())
    }
}

impl Serialize for ModelValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.serialize(serializer)
    }
}
