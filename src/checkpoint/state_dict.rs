//! The named tensors of a model, and whether they are those that a model expects.

use super::archive::Archive;
use super::pickle::Value;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{HashMap, HashSet};
use tch::{Kind, Tensor};

/// What wrappers put before every name: `DataParallel`, `torch.compile`, and modules that hold the network.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "model.", "net."];

/// The tensors of a state dict in file order, without the prefixes of wrappers.
///
/// # Errors
/// Entries that are no named tensors, a name that comes twice, and whatever keeps a tensor from being read.
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
        tensors.push((name.to_owned(), archive.tensor(view)?));
    }
    Ok(tensors)
}

/// How much of every name is the wrappers' (one wrapper may hold another).
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

/// The tensors that a model expects, in its order, as float32 on the device they are on. Names are the same if
/// `canonical` makes the same name of them.
///
/// # Errors
/// One error that lists all missing, extra and misshapen tensors, and says what usually causes them; a tensor that is not
/// finite.
pub fn match_shapes(
    state_dict: &[(String, Tensor)],
    expected: &[(String, Vec<i64>)],
    canonical: fn(&str) -> String,
) -> Result<Vec<Tensor>> {
    let held: HashMap<String, &Tensor> = state_dict
        .iter()
        .map(|(name, tensor)| (canonical(name), tensor))
        .collect();
    let (mut found, mut missing, mut misshapen) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in expected {
        match held.get(&canonical(name)) {
            None => missing.push(name.clone()),
            Some(tensor) if tensor.size() != *shape => {
                misshapen.push((name.as_str(), tensor.size(), shape.clone()));
            }
            Some(tensor) => found.push(tensor.f_to_kind(Kind::Float)?),
        }
    }
    let wanted: HashSet<String> = expected.iter().map(|(name, _)| canonical(name)).collect();
    let extra: Vec<_> = state_dict
        .iter()
        .filter(|(name, _)| !wanted.contains(&canonical(name)))
        .collect();
    if missing.is_empty() && misshapen.is_empty() && extra.is_empty() {
        check_finite(expected.iter().map(|(name, _)| name).zip(&found))
            .context("nothing can be computed with it; take an earlier one")?;
        return Ok(found);
    }
    let mut message = format!(
        "the checkpoint does not fit the model. {}",
        advice(&misshapen)
    );
    if !missing.is_empty() {
        message += &format!("\n  missing in it: {}", missing.join(", "));
    }
    if !extra.is_empty() {
        let extra: Vec<_> = extra
            .iter()
            .map(|(name, tensor)| format!("{name} {:?}", tensor.size()))
            .collect();
        message += &format!("\n  unknown to the model: {}", extra.join(", "));
    }
    if !misshapen.is_empty() {
        let shapes = misshapen
            .iter()
            .map(|(name, is, should)| format!("{name} is {is:?}, should be {should:?}"));
        message += &format!(
            "\n  of another shape: {}",
            shapes.collect::<Vec<_>>().join(", ")
        );
    }
    bail!(message);
}

/// Makes sure that no parameter is infinite or not a number.
///
/// # Errors
/// Names the first that is.
pub fn check_finite<'a>(mut named: impl Iterator<Item = (&'a String, &'a Tensor)>) -> Result<()> {
    named.try_for_each(|(name, tensor)| {
        ensure!(
            bool::try_from(tensor.f_isfinite()?.f_all()?)?,
            "its parameter {name} is not finite"
        );
        Ok(())
    })
}

/// What to do about it.
fn advice(misshapen: &[(&str, Vec<i64>, Vec<i64>)]) -> String {
    let (mut advice, mut other) = (Vec::new(), misshapen.is_empty());
    for (name, is, should) in misshapen {
        let only_rows = is.len() == should.len() && is.get(1..) == should.get(1..);
        if *name == "embedding.weight" && only_rows {
            advice.push(
                "The vocabulary differs: the published checkpoints need all four question files (train, val, test, VG)",
            );
        } else if name.starts_with("proj.") && only_rows {
            if !advice.iter().any(|line| line.contains("answer_dict")) {
                advice.push("The answers differ: use the answer_dict.json that the checkpoint was trained with");
            }
        } else {
            other = true;
        }
    }
    if other {
        advice.push(
            "The model differs: give the --MODEL or --CFG that the checkpoint was trained with",
        );
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
