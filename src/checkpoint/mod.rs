//! Checkpoints: a model, its optimizer and the state of the run, in PyTorch's file formats.
//!
//! [`load`] reads the files of the reference, of this program and of other programs that use `torch.save`; [`save`]
//! writes files that `torch.load(weights_only=True)` reads. [`pt`] knows the formats and executes
//! nothing that is in a file. This room gives the entries a meaning: [`state_dict`] (names and shapes of a model's
//! tensors), the optimizer, the run.

mod optimizer_state;
mod run_state;
pub mod state_dict;
mod tensor;

pub use optimizer_state::{Algorithm, Moments, OptimizerState};
pub use run_state::RunState;

use crate::base::files;
use crate::formats::pickle::{TensorView, Value};
use crate::formats::pt::{self, Archive};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

/// The content of a checkpoint file.
#[derive(Debug)]
pub struct Checkpoint {
    /// The model's tensors in file order, without the prefixes of wrappers such as `module.`. They are on the CPU,
    /// contiguous, and in the stored dtype.
    pub state_dict: Vec<(String, Tensor)>,
    /// The state of the optimizer. Bare weights have none.
    pub optimizer: Option<OptimizerState>,
    /// The base learning rate.
    pub lr_base: Option<f64>,
    /// Finished epochs. OpenVQA continues from this number. Files of the reference lack it.
    pub epoch: Option<u64>,
    /// The state of the run. Only files of this program have it.
    pub mcan: Option<RunState>,
}

/// Reads a checkpoint: a dict with `state_dict` (and `optimizer`, `lr_base`, `epoch`, `mcan`), or a bare state dict. Other entries
/// are ignored.
///
/// # Errors
/// The file is missing, damaged or no checkpoint, or an entry has something that is neither tensor nor plain data.
pub fn load(path: &Path) -> Result<Checkpoint> {
    load_parts(path, true)
}

/// Reads a checkpoint without its optimizer; the bytes of the optimizer's tensors stay unread.
///
/// # Errors
/// As [`load`].
pub fn load_weights(path: &Path) -> Result<Checkpoint> {
    load_parts(path, false)
}

/// Reads only the state of the run. Files of other programs have none.
///
/// # Errors
/// As [`load`].
pub fn load_state(path: &Path) -> Result<Option<RunState>> {
    let archive = open(path)?;
    let state = archive.value.get("mcan").map(run_state::read).transpose();
    state.with_context(|| unusable(path))
}

fn load_parts(path: &Path, with_optimizer: bool) -> Result<Checkpoint> {
    let archive = open(path)?;
    interpret(&archive, with_optimizer).with_context(|| unusable(path))
}

fn unusable(path: &Path) -> String {
    format!("cannot use the checkpoint {}", path.display())
}

fn open(path: &Path) -> Result<Archive> {
    let metadata = files::look(path)?.with_context(|| {
        format!(
            "cannot find the checkpoint {}; check --CKPT_V and --CKPT_E, or --CKPT_PATH",
            path.display()
        )
    })?;
    ensure!(
        !metadata.is_dir(),
        "{} is a folder, not a checkpoint; name the .pkl file in it",
        path.display()
    );
    ensure!(
        !metadata.is_file() || metadata.len() > 0,
        "the checkpoint {} is empty; copy or download it again",
        path.display()
    );
    Archive::open(path).with_context(|| format!("cannot read the checkpoint {}", path.display()))
}

fn interpret(archive: &Archive, with_optimizer: bool) -> Result<Checkpoint> {
    let top = &archive.value;
    let (state_dict, is_bare) = parameters(top)?;
    let optimizer = top
        .get("optimizer")
        .filter(|value| with_optimizer && **value != Value::None);
    let lr_base = match top.get("lr_base") {
        Some(Value::Tensor(view)) if !is_bare && view.numel()? == 1 => {
            Some(tensor::read(archive, view)?.f_double_value(&[])?)
        }
        lr_base => lr_base.and_then(Value::as_f64),
    };
    Ok(Checkpoint {
        state_dict: state_dict::read(archive, state_dict)?,
        optimizer: optimizer
            .map(|value| optimizer_state::read(archive, value))
            .transpose()?,
        lr_base,
        epoch: top.get("epoch").and_then(run_state::read_epoch),
        mcan: top.get("mcan").map(run_state::read).transpose()?,
    })
}

/// The names under which programs save a state dict.
const NAMES: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// The entries of the state dict, and whether the file has nothing else.
fn parameters(top: &Value) -> Result<(&[(Value, Value)], bool)> {
    let Some(entries) = top.entries() else {
        bail!(
            "it holds {}, not a dict with `state_dict`; save it with torch.save({{'state_dict': ...}})",
            top.kind_name()
        );
    };
    let is_tensor = |(_, value): &(Value, Value)| matches!(value, Value::Tensor(_));
    let is_bare = !entries.is_empty() && entries.iter().all(is_tensor);
    // Other programs have other names for it.
    let found = NAMES.iter().find_map(|name| Some((name, top.get(name)?)));
    match found {
        Some((name, state_dict)) if !is_bare => match state_dict.entries() {
            Some(entries) => Ok((entries, is_bare)),
            None => bail!(
                "its `{name}` is {}; save the model's state_dict()",
                state_dict.kind_name()
            ),
        },
        Some(_) => Ok((entries, is_bare)),
        None if is_bare => Ok((entries, is_bare)),
        None => bail!(
            "it has no `state_dict`; save it with torch.save({{'state_dict': model.state_dict()}})"
        ),
    }
}

/// Writes a checkpoint as a zip archive of PyTorch, whole or not at all. The same state gives the same bytes, except for
/// the name of the folder in the archive, which is that of the file.
///
/// # Errors
/// Checkpoints have no tensors of a given dtype, or the file cannot be written.
pub fn save(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut view = |tensor: &Tensor| -> Result<Value> {
        let key = tensors.len().to_string().into();
        let dtype = tensor::dtype(tensor.f_kind()?)?;
        tensors.push(tensor.shallow_clone());
        let view = TensorView::contiguous(dtype, tensor.size(), key);
        Ok(Value::Tensor(Arc::new(view)))
    };
    let state_dict = checkpoint
        .state_dict
        .iter()
        .map(|(name, tensor)| Ok((Value::str(name), view(tensor)?)))
        .collect::<Result<_>>()?;
    let mut entries = vec![("state_dict", Value::OrderedDict(state_dict))];
    if let Some(optimizer) = &checkpoint.optimizer {
        entries.push(("optimizer", optimizer_state::write(optimizer, view)?));
    }
    if let Some(lr_base) = checkpoint.lr_base {
        entries.push(("lr_base", Value::Float(lr_base)));
    }
    if let Some(epoch) = checkpoint.epoch {
        entries.push(("epoch", Value::Int(epoch.into())));
    }
    if let Some(run) = &checkpoint.mcan {
        entries.push(("mcan", run_state::write(run)));
    }
    pt::write(path, &Value::dict(entries), tensors.len(), |i, bytes| {
        tensor::copy_to(&tensors[i], bytes)
    })
}

#[cfg(test)]
mod tests;
