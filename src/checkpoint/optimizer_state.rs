//! The state of Adam as PyTorch's optimizer saves it, and as a typed struct.

use super::archive::Archive;
use super::pickle::Value;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use tch::Tensor;

/// Adam's state: what its `state_dict` holds beyond the parameters themselves.
#[derive(Debug)]
pub struct AdamState {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// One per parameter, in the order of `param_groups`; `None` for a parameter that was never updated.
    pub moments: Vec<Option<Moments>>,
}

/// Adam's state of one parameter.
#[derive(Debug)]
pub struct Moments {
    /// Updates done.
    pub step: f64,
    /// Running mean of the gradient, shaped like the parameter.
    pub exp_avg: Tensor,
    /// Running mean of its square, shaped like the parameter.
    pub exp_avg_sq: Tensor,
}

/// Reads a PyTorch Adam state dict. Its state is keyed by the numbers in `params`: indices since PyTorch 1.5, object ids
/// before; either way the order in `params` is the order of the parameters.
///
/// # Errors
/// The state of another optimizer, AMSGrad's, or parameter groups that differ.
pub(super) fn read(archive: &Archive, value: &Value) -> Result<AdamState> {
    let groups = value
        .get("param_groups")
        .and_then(Value::as_items)
        .unwrap_or_default();
    let first = groups
        .first()
        .context("its `optimizer` has no param_groups, so it is no optimizer's state")?;
    let mut state = hyperparameters(first)?;
    let mut entries = HashMap::new();
    for (key, entry) in value
        .get("state")
        .and_then(Value::entries)
        .context("its `optimizer` has no state")?
    {
        entries.insert(
            key.as_int::<i128>()
                .context("its optimizer state has a key that is no integer")?,
            entry,
        );
    }
    for group in groups {
        let other = hyperparameters(group)?;
        ensure!(
            (other.lr, other.betas, other.eps, other.weight_decay)
                == (state.lr, state.betas, state.eps, state.weight_decay),
            "its optimizer has parameter groups with different settings; only one set of settings is supported"
        );
        for id in group
            .get("params")
            .and_then(Value::as_items)
            .context("a parameter group lists no params")?
        {
            let id = id
                .as_int::<i128>()
                .context("a parameter of its optimizer has no number")?;
            let moments = entries.remove(&id).map(|entry| moments(archive, entry));
            state.moments.push(
                moments
                    .transpose()
                    .with_context(|| format!("its optimizer state of parameter {id}"))?,
            );
        }
    }
    match entries.keys().next() {
        Some(id) => bail!(
            "its optimizer has state of {id}, which is none of its parameters; the file is damaged"
        ),
        None => Ok(state),
    }
}

fn hyperparameters(group: &Value) -> Result<AdamState> {
    let number = |key: &str| group.get(key).and_then(Value::as_f64);
    let betas = group
        .get("betas")
        .and_then(Value::as_items)
        .and_then(|betas| match betas {
            [first, second] => Some((first.as_f64()?, second.as_f64()?)),
            _ => None,
        });
    let (Some(lr), Some(betas), Some(eps)) = (number("lr"), betas, number("eps")) else {
        bail!(
            "its optimizer is not Adam (no lr, betas and eps); start a new run from its weights without --RESUME"
        );
    };
    for flag in ["amsgrad", "maximize", "decoupled_weight_decay"] {
        ensure!(
            !matches!(group.get(flag), Some(Value::Bool(true))),
            "its optimizer was run with {flag}=True, which is not supported; start a new run without --RESUME"
        );
    }
    Ok(AdamState {
        lr,
        betas,
        eps,
        weight_decay: number("weight_decay").unwrap_or(0.0),
        moments: Vec::new(),
    })
}

fn moments(archive: &Archive, entry: &Value) -> Result<Moments> {
    let tensor = |key: &str| match entry.get(key) {
        Some(Value::Tensor(view)) => archive.tensor(view),
        _ => bail!("has no tensor {key}, so it is not Adam's"),
    };
    // A tensor since PyTorch 1.12, a number before.
    let step = match entry.get("step") {
        Some(Value::Tensor(view)) if view.numel()? == 1 => {
            archive.tensor(view)?.f_double_value(&[])?
        }
        step => step
            .and_then(Value::as_f64)
            .context("has no step, so it is not Adam's")?,
    };
    let (exp_avg, exp_avg_sq) = (tensor("exp_avg")?, tensor("exp_avg_sq")?);
    ensure!(
        exp_avg.size() == exp_avg_sq.size(),
        "exp_avg is {:?} but exp_avg_sq {:?}; the file is damaged",
        exp_avg.size(),
        exp_avg_sq.size()
    );
    Ok(Moments {
        step,
        exp_avg,
        exp_avg_sq,
    })
}

/// The state dict that PyTorch 2.11's Adam would save; `tensor` takes each tensor in and gives its value.
pub(super) fn write(
    state: &AdamState,
    mut tensor: impl FnMut(&Tensor) -> Result<Value>,
) -> Result<Value> {
    let mut entries = Vec::new();
    for (i, moments) in state.moments.iter().enumerate() {
        let Some(moments) = moments else { continue };
        let entry = Value::dict([
            ("step", tensor(&Tensor::from(moments.step as f32))?),
            ("exp_avg", tensor(&moments.exp_avg)?),
            ("exp_avg_sq", tensor(&moments.exp_avg_sq)?),
        ]);
        entries.push((Value::Int(i as i128), entry));
    }
    let group = Value::dict([
        ("lr", Value::Float(state.lr)),
        (
            "betas",
            Value::Tuple(vec![
                Value::Float(state.betas.0),
                Value::Float(state.betas.1),
            ]),
        ),
        ("eps", Value::Float(state.eps)),
        ("weight_decay", Value::Float(state.weight_decay)),
        ("amsgrad", Value::Bool(false)),
        ("maximize", Value::Bool(false)),
        ("foreach", Value::None),
        ("capturable", Value::Bool(false)),
        ("differentiable", Value::Bool(false)),
        ("fused", Value::None),
        ("decoupled_weight_decay", Value::Bool(false)),
        (
            "params",
            Value::List(
                (0..state.moments.len())
                    .map(|i| Value::Int(i as i128))
                    .collect(),
            ),
        ),
    ]);
    Ok(Value::dict([
        ("state", Value::Dict(entries)),
        ("param_groups", Value::List(vec![group])),
    ]))
}
