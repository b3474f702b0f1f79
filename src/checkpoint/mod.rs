//! Checkpoints: the model, its optimizer and the state of the run, in PyTorch's own file formats.
//!
//! [`load`] reads what `torch.save` wrote, in the zip format and in the one before PyTorch 1.6, whether by the reference
//! program, by this one, or by another; [`save`] writes what `torch.load(weights_only=True)` reads. Files are read as
//! data: nothing in them is executed, and what is not on the list of known names and opcodes is an error. The rooms:
//! [`pickle`] (values), [`archive`] (where the bytes lie), [`tensor`] (dtypes, strides), [`state_dict`] (names and
//! shapes of a model's tensors), and the typed entries of the optimizer and of the run.

pub mod archive;
mod optimizer_state;
pub mod pickle;
mod run_state;
pub mod state_dict;
pub mod tensor;

pub use optimizer_state::{Algorithm, Moments, OptimizerState};
pub use run_state::RunState;

use anyhow::{Context, Result, bail};
use archive::Archive;
use pickle::Value;
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;
use tensor::TensorView;

/// What a checkpoint file holds.
#[derive(Debug)]
pub struct Checkpoint {
    /// The model's tensors in file order: on the CPU, contiguous, in the stored type, without the prefixes of
    /// wrappers such as `module.`.
    pub state_dict: Vec<(String, Tensor)>,
    /// Adam's state; bare weights have none.
    pub optimizer: Option<OptimizerState>,
    /// The base learning rate.
    pub lr_base: Option<f64>,
    /// The state of the run; only files of ours have it.
    pub mcan: Option<RunState>,
}

/// Reads a checkpoint: a dict with `state_dict` (and `optimizer`, `lr_base`, `mcan`), or a bare state dict.
///
/// # Errors
/// A file that is missing, no checkpoint, damaged, or holds what is neither tensor nor plain data.
pub fn load(path: &Path) -> Result<Checkpoint> {
    load_parts(path, true)
}

/// Reads a checkpoint without its optimizer, whose tensors are never touched.
///
/// # Errors
/// As [`load`].
pub fn load_weights(path: &Path) -> Result<Checkpoint> {
    load_parts(path, false)
}

/// Reads nothing but where the run stood; none in files of others.
///
/// # Errors
/// As [`load`].
pub fn load_state(path: &Path) -> Result<Option<RunState>> {
    let archive = Archive::open(path)?;
    let state = archive.value.get("mcan").map(run_state::read).transpose();
    state.with_context(|| format!("cannot use the checkpoint {}", path.display()))
}

fn load_parts(path: &Path, with_optimizer: bool) -> Result<Checkpoint> {
    let archive = Archive::open(path)?;
    interpret(&archive, with_optimizer)
        .with_context(|| format!("cannot use the checkpoint {}", path.display()))
}

fn interpret(archive: &Archive, with_optimizer: bool) -> Result<Checkpoint> {
    let top = &archive.value;
    let Some(entries) = top.entries() else {
        bail!(
            "it holds {}, not a dict with `state_dict`; save it with torch.save({{'state_dict': ...}})",
            top.kind_name()
        );
    };
    let bare = !entries.is_empty()
        && entries
            .iter()
            .all(|(_, value)| matches!(value, Value::Tensor(_)));
    let state_dict = match top.get("state_dict") {
        Some(state_dict) => state_dict
            .entries()
            .context("its `state_dict` is no dict; save the model's state_dict()")?,
        None if bare => entries,
        None => bail!(
            "it has no `state_dict`; save it with torch.save({{'state_dict': model.state_dict()}})"
        ),
    };
    let optimizer = top
        .get("optimizer")
        .filter(|value| with_optimizer && **value != Value::None);
    let lr_base = match top.get("lr_base") {
        Some(Value::Tensor(view)) if !bare && view.numel()? == 1 => {
            Some(archive.tensor(view)?.f_double_value(&[])?)
        }
        lr_base => lr_base.and_then(Value::as_f64),
    };
    Ok(Checkpoint {
        state_dict: state_dict::read(archive, state_dict)?,
        optimizer: optimizer
            .map(|value| optimizer_state::read(archive, value))
            .transpose()?,
        lr_base,
        mcan: top.get("mcan").map(run_state::read).transpose()?,
    })
}

/// Writes a checkpoint in PyTorch's zip format, whole or not at all. The same state gives the same bytes, but for the
/// name of the folder in the archive, which is the file's.
///
/// # Errors
/// A tensor of a type that checkpoints do not hold, and any failure to write, naming the file.
pub fn save(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut tensor = |tensor: &Tensor| -> Result<Value> {
        let view = TensorView::contiguous(
            tensor.f_kind()?,
            tensor.size(),
            tensors.len().to_string().into(),
        );
        tensors.push(tensor.shallow_clone());
        Ok(Value::Tensor(Arc::new(view)))
    };
    let named = |(name, value): &(String, Tensor)| Ok((Value::str(name), tensor(value)?));
    let state_dict = checkpoint
        .state_dict
        .iter()
        .map(named)
        .collect::<Result<_>>()?;
    let mut entries = vec![("state_dict", Value::OrderedDict(state_dict))];
    if let Some(optimizer) = &checkpoint.optimizer {
        entries.push(("optimizer", optimizer_state::write(optimizer, tensor)?));
    }
    if let Some(lr_base) = checkpoint.lr_base {
        entries.push(("lr_base", Value::Float(lr_base)));
    }
    if let Some(run) = &checkpoint.mcan {
        entries.push(("mcan", run_state::write(run)));
    }
    archive::write(path, &Value::dict(entries), &tensors)
}

#[cfg(test)]
mod tests;
