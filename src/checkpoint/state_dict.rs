//! State dicts: the named tensors of a model, and their comparison with the names and shapes that a model expects.

use super::tensor;
use crate::formats::pickle::Value;
use crate::formats::pt::Archive;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{HashMap, HashSet};
use tch::{Kind, Tensor};

/// The prefixes that wrappers put before every name: `DataParallel`, `torch.compile`, and modules with the network in an
/// attribute.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "model.", "net."];

/// The tensors of a state dict in file order, without the prefixes of wrappers.
///
/// # Errors
/// An entry is no named tensor, a name occurs twice, or a tensor cannot be read.
pub(super) fn read(archive: &Archive, entries: &[(Value, Value)]) -> Result<Vec<(String, Tensor)>> {
    let names: Vec<&str> = entries.iter().filter_map(|(key, _)| key.as_str()).collect();
    let prefix_bytes = shared_prefix_bytes(&names);
    let (mut tensors, mut seen) = (Vec::with_capacity(entries.len()), HashSet::new());
    for (key, value) in entries {
        let (Some(name), Value::Tensor(view)) = (key.as_str(), value) else {
            bail!(
                "its state_dict holds {} under {key:?}, not a named tensor",
                value.kind_name()
            );
        };
        let name = &name[prefix_bytes..];
        if !seen.insert(name) {
            bail!("its state_dict holds {name:?} twice; the file is damaged");
        }
        tensors.push((name.to_owned(), tensor::read(archive, view)?));
    }
    Ok(tensors)
}

/// The length of the prefixes that all names share. One wrapper may contain another.
fn shared_prefix_bytes(names: &[&str]) -> usize {
    let mut bytes = 0;
    while let Some(wrapper) = WRAPPERS.iter().find(|wrapper| {
        let has_it = |name: &&str| name[bytes..].starts_with(**wrapper);
        !names.is_empty() && names.iter().all(has_it)
    }) {
        bytes += wrapper.len();
    }
    bytes
}

const OTHER_MODEL: &str =
    "The model differs: give the --MODEL or --CFG that the checkpoint was trained with";

/// The sizes that a model takes from its data.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Words of the vocabulary.
    pub words: i64,
    /// Answers of the list.
    pub answers: i64,
}

/// The tensors that a model expects, in the model's order, as float32 on the device that they are on. Two names are the
/// same if `canonical` returns the same name for them. `rows` tell the usual cause of a misfit. Of a weight whose weight
/// norm was removed, g is the norm.
///
/// # Errors
/// Tensors are missing, unknown to the model, or of another shape: one error lists all of them, with the usual cause. Or
/// a tensor is not finite.
pub fn match_shapes(
    state_dict: &[(String, Tensor)],
    expected: &[(String, Vec<i64>)],
    rows: Rows,
    canonical: fn(&str) -> String,
) -> Result<Vec<Tensor>> {
    let mut held: HashMap<String, Tensor> = HashMap::new();
    for (name, tensor) in state_dict {
        let known = canonical(name);
        if let Some(weight) = without_norm(name, &known) {
            let norm = tensor.f_to_kind(Kind::Float)?.f_norm()?;
            held.insert(format!("{weight}_g"), norm);
        }
        held.insert(known, tensor.shallow_clone());
    }
    let (mut found, mut misfits) = (Vec::new(), Misfits::default());
    for (name, shape) in expected {
        match held.get(&canonical(name)) {
            None => misfits.missing.push(name),
            Some(tensor) if tensor.size() != *shape => {
                misfits.misshapen.push((name, tensor.size(), shape));
            }
            Some(tensor) => found.push(tensor.f_to_kind(Kind::Float)?),
        }
    }
    let wanted: HashSet<String> = expected.iter().map(|(name, _)| canonical(name)).collect();
    let is_unknown = |(name, _): &&(String, Tensor)| !wanted.contains(&canonical(name));
    misfits.unknown = state_dict.iter().filter(is_unknown).collect();
    if !misfits.is_empty() {
        bail!(misfits.message(rows));
    }
    check_finite(expected.iter().map(|(name, _)| name).zip(&found))
        .context("nothing can be computed with it; take an earlier one")?;
    Ok(found)
}

/// The name of a weight, without `_v`, if its tensor `name` is the product of v and g; `known` is the model's name.
fn without_norm<'a>(name: &str, known: &'a str) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let weight = known.strip_suffix("_v")?;
    (last(name) == last(weight)).then_some(weight)
}

/// The tensors of a state dict that do not fit a model.
#[derive(Default)]
struct Misfits<'a> {
    missing: Vec<&'a str>,
    unknown: Vec<&'a (String, Tensor)>,
    /// Name, shape in the state dict, shape in the model.
    misshapen: Vec<(&'a str, Vec<i64>, &'a [i64])>,
}

impl Misfits<'_> {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unknown.is_empty() && self.misshapen.is_empty()
    }

    fn message(&self, rows: Rows) -> String {
        let mut message = format!(
            "the checkpoint does not fit the model. {}",
            advice(&self.misshapen, rows)
        );
        let mut list = |title: &str, entries: Vec<String>| {
            if !entries.is_empty() {
                message += &format!("\n  {title}: {}", entries.join(", "));
            }
        };
        let missing = self.missing.iter().map(|name| (*name).to_owned());
        list("missing in it", missing.collect());
        let unknown = self.unknown.iter();
        let unknown = unknown.map(|(name, tensor)| format!("{name} {:?}", tensor.size()));
        list("unknown to the model", unknown.collect());
        let misshapen = self.misshapen.iter();
        let misshapen =
            misshapen.map(|(name, is, should)| format!("{name} is {is:?}, should be {should:?}"));
        list("of another shape", misshapen.collect());
        message
    }
}

/// Checks that all values of all parameters are finite.
///
/// # Errors
/// A value is infinite or NaN. The error names the first such parameter.
pub fn check_finite<'a>(mut named: impl Iterator<Item = (&'a String, &'a Tensor)>) -> Result<()> {
    named.try_for_each(|(name, tensor)| {
        ensure!(
            bool::try_from(tensor.f_isfinite()?.f_all()?)?,
            "its parameter {name} is not finite"
        );
        Ok(())
    })
}

/// The usual cause of a misfit, and the remedy. A parameter that lacks or has too many rows shows which list differs:
/// the embedding has a row for each word, the last layer one for each answer.
fn advice(misshapen: &[(&str, Vec<i64>, &[i64])], rows: Rows) -> String {
    let mut advice = Vec::new();
    let mut add = |text| {
        if !advice.contains(&text) {
            advice.push(text);
        }
    };
    for (_, is, should) in misshapen {
        let only_rows = is.len() == should.len() && is.get(1..) == should.get(1..);
        match should.first() {
            Some(&count) if only_rows && count == rows.words => add(
                "The vocabulary differs: it is made of the questions of all splits, so all question files must be \
                 there, as when the checkpoint was trained",
            ),
            Some(&count) if only_rows && count == rows.answers => {
                add(
                    "The answers differ: use the file of answers with which the checkpoint was trained",
                );
            }
            _ => add(OTHER_MODEL),
        }
    }
    if misshapen.is_empty() {
        add(OTHER_MODEL);
    }
    advice.join(". ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_before_every_name_are_left_out() {
        for (names, prefix) in [
            (&["module.a", "module.b.c"][..], "module."),
            (
                &["module._orig_mod.a", "module._orig_mod.b"],
                "module._orig_mod.",
            ),
            (&["_orig_mod.module.net.a"], "_orig_mod.module.net."),
            (&["model.a", "net.b"], ""),
            (&["module.a", "b"], ""),
            (&["module.model.a", "module.b"], "module."),
            (&["a", "b"], ""),
            (&[], ""),
        ] {
            assert_eq!(shared_prefix_bytes(names), prefix.len(), "{names:?}");
        }
    }
}
