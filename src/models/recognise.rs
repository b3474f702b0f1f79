//! Whose checkpoint is it? Names and shapes of its tensors tell the program and the model.

use super::{FAMILIES, Family, Shapes};
use crate::data::Convention;

/// The model of a checkpoint.
#[derive(Clone, Copy)]
pub(crate) struct Recognised {
    /// Its family.
    pub(crate) family: &'static Family,
    /// The program that has a checkpoint with such names.
    pub(crate) convention: Convention,
    /// The configuration of the published checkpoint of this kind: a value of `--MODEL`.
    pub(crate) model: &'static str,
}

/// The layer for image features in checkpoints of the reference; OpenVQA has another name for it.
const OF_REFERENCE: &str = "img_feat_linear.weight";

/// The model of a checkpoint with these tensors; none if it has the signs of no family.
pub(crate) fn recognise(shapes: &Shapes) -> Option<Recognised> {
    let has = |name: &str, of: &Family| {
        let mut names = shapes.iter().map(|(name, _)| (of.canonical_name)(name));
        names.any(|known| known == name)
    };
    let family = FAMILIES
        .into_iter()
        .find(|family| has(family.sign, family))?;
    let canonical: Vec<_> = shapes
        .iter()
        .map(|(name, shape)| ((family.canonical_name)(name), shape.clone()))
        .collect();
    let convention = match has(OF_REFERENCE, family) {
        true => Convention::Reference,
        false => Convention::OpenVqa,
    };
    Some(Recognised {
        family,
        convention,
        model: (family.published)(&canonical),
    })
}

impl Recognised {
    /// The program and the model, for messages.
    pub(crate) fn description(self) -> String {
        let program = match self.convention {
            Convention::Reference => "mcan-vqa",
            Convention::OpenVqa => "OpenVQA",
        };
        format!("the model {} of {program}", self.family.keys.name)
    }
}
