//! The state of an optimizer, between PyTorch's dict and a struct.

use super::tensor;
use crate::formats::pickle::Value;
use crate::formats::pt::Archive;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use tch::Tensor;

/// An optimizer with two moments for each parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Adam (Kingma and Ba, 2015): the second moment is the running mean of the squared gradient.
    Adam,
    /// Adamax (the same paper, section 7.1): the second moment is a running maximum.
    Adamax,
}

impl Algorithm {
    /// PyTorch's name for the second moment.
    fn second_name(self) -> &'static str {
        match self {
            Algorithm::Adam => "exp_avg_sq",
            Algorithm::Adamax => "exp_inf",
        }
    }
}

/// The state of an optimizer, without the parameters.
#[derive(Debug)]
pub struct OptimizerState {
    /// The optimizer.
    pub algorithm: Algorithm,
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and the second moment.
    pub betas: (f64, f64),
    /// Offset of the denominator.
    pub eps: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// The moments of each parameter, in the order of `param_groups`. A parameter that was never updated has none.
    pub moments: Vec<Option<Moments>>,
}

/// The state of one parameter.
#[derive(Debug)]
pub struct Moments {
    /// Number of updates.
    pub step: f64,
    /// Running mean of the gradient, shaped like the parameter.
    pub exp_avg: Tensor,
    /// The second moment, shaped like the parameter.
    pub second: Tensor,
}

/// Reads the state dict of PyTorch's Adam or Adamax. The keys of its state are the numbers in `params`: indices since
/// PyTorch 1.5, object ids before. In both cases the order of `params` is the order of the parameters.
///
/// # Errors
/// The state is of another optimizer or of AMSGrad, or parameter groups have different settings.
pub(super) fn read(archive: &Archive, value: &Value) -> Result<OptimizerState> {
    let groups = value
        .get("param_groups")
        .and_then(Value::as_items)
        .unwrap_or_default();
    let first = groups
        .first()
        .context("its `optimizer` has no param_groups, so it is no optimizer's state")?;
    let algorithm = algorithm(first, value.get("state"));
    let mut state = hyperparameters(first, algorithm)?;
    let mut entries = entries_by_id(value)?;
    for group in groups {
        let other = hyperparameters(group, algorithm)?;
        ensure!(
            (other.lr, other.betas, other.eps, other.weight_decay)
                == (state.lr, state.betas, state.eps, state.weight_decay),
            "its optimizer has parameter groups with different settings; only one set of settings is supported"
        );
        for id in ids(group)? {
            let moments = entries
                .remove(&id)
                .map(|entry| moments(archive, entry, algorithm))
                .transpose()
                .with_context(|| format!("its optimizer state of parameter {id}"))?;
            state.moments.push(moments);
        }
    }
    match entries.keys().next() {
        Some(id) => bail!(
            "its optimizer has state of {id}, which is none of its parameters; the file is damaged"
        ),
        None => Ok(state),
    }
}

/// The state of each parameter, by the number of the parameter.
fn entries_by_id(value: &Value) -> Result<HashMap<i128, &Value>> {
    let state = value.get("state").and_then(Value::entries);
    let state = state.context("its `optimizer` has no state")?;
    let mut entries = HashMap::new();
    for (key, entry) in state {
        let id = key.as_int();
        let id = id.context("its optimizer state has a key that is no integer")?;
        entries.insert(id, entry);
    }
    Ok(entries)
}

/// The numbers of the parameters of a group.
fn ids(group: &Value) -> Result<Vec<i128>> {
    let params = group.get("params").and_then(Value::as_items);
    let params = params.context("a parameter group lists no params")?;
    let id = |id: &Value| {
        id.as_int()
            .context("a parameter of its optimizer has no number")
    };
    params.iter().map(id).collect()
}

/// The optimizer, by the name of the second moment. Without moments, only groups of Adam have the flag `amsgrad`.
fn algorithm(group: &Value, state: Option<&Value>) -> Algorithm {
    let has_second = |algorithm: Algorithm| {
        let entries = state.and_then(Value::entries).unwrap_or_default();
        entries
            .iter()
            .any(|(_, entry)| entry.get(algorithm.second_name()).is_some())
    };
    let says_amsgrad = group.get("amsgrad").is_some();
    if has_second(Algorithm::Adamax) || !says_amsgrad && !has_second(Algorithm::Adam) {
        Algorithm::Adamax
    } else {
        Algorithm::Adam
    }
}

fn hyperparameters(group: &Value, algorithm: Algorithm) -> Result<OptimizerState> {
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
            "its optimizer is neither Adam nor Adamax (no lr, betas and eps); start a new run from its weights without --RESUME"
        );
    };
    for flag in ["amsgrad", "maximize", "decoupled_weight_decay"] {
        ensure!(
            !matches!(group.get(flag), Some(Value::Bool(true))),
            "its optimizer was run with {flag}=True, which is not supported; start a new run without --RESUME"
        );
    }
    Ok(OptimizerState {
        algorithm,
        lr,
        betas,
        eps,
        weight_decay: number("weight_decay").unwrap_or(0.0),
        moments: Vec::new(),
    })
}

fn moments(archive: &Archive, entry: &Value, algorithm: Algorithm) -> Result<Moments> {
    let tensor = |key: &str| match entry.get(key) {
        Some(Value::Tensor(view)) => tensor::read(archive, view),
        _ => bail!("has no tensor {key}, so it is neither Adam's nor Adamax's"),
    };
    // The step is a tensor since PyTorch 1.12, and a number before.
    let step = match entry.get("step") {
        Some(Value::Tensor(view)) if view.numel()? == 1 => {
            tensor::read(archive, view)?.f_double_value(&[])?
        }
        step => step
            .and_then(Value::as_f64)
            .context("has no step, so it is neither Adam's nor Adamax's")?,
    };
    let name = algorithm.second_name();
    let (exp_avg, second) = (tensor("exp_avg")?, tensor(name)?);
    ensure!(
        exp_avg.size() == second.size(),
        "exp_avg is {:?} but {name} {:?}; the file is damaged",
        exp_avg.size(),
        second.size()
    );
    Ok(Moments {
        step,
        exp_avg,
        second,
    })
}

/// The state dict that the optimizer of PyTorch 2.11 would save. `tensor` stores a tensor and returns its value.
pub(super) fn write(
    state: &OptimizerState,
    mut tensor: impl FnMut(&Tensor) -> Result<Value>,
) -> Result<Value> {
    let mut entries = Vec::new();
    for (i, moments) in state.moments.iter().enumerate() {
        let Some(moments) = moments else { continue };
        let entry = Value::dict([
            ("step", tensor(&Tensor::from(moments.step as f32))?),
            ("exp_avg", tensor(&moments.exp_avg)?),
            (state.algorithm.second_name(), tensor(&moments.second)?),
        ]);
        entries.push((Value::Int(i as i128), entry));
    }
    Ok(Value::dict([
        ("state", Value::Dict(entries)),
        ("param_groups", Value::List(vec![param_group(state)])),
    ]))
}

/// The only parameter group: all settings, and the numbers of the parameters.
fn param_group(state: &OptimizerState) -> Value {
    let betas = [state.betas.0, state.betas.1].map(Value::Float);
    let flag = |name| (name, Value::Bool(false));
    let mut group = vec![
        ("lr", Value::Float(state.lr)),
        ("betas", Value::Tuple(betas.into())),
        ("eps", Value::Float(state.eps)),
        ("weight_decay", Value::Float(state.weight_decay)),
    ];
    match state.algorithm {
        Algorithm::Adam => group.extend([
            flag("amsgrad"),
            flag("maximize"),
            ("foreach", Value::None),
            flag("capturable"),
            flag("differentiable"),
            ("fused", Value::None),
            flag("decoupled_weight_decay"),
        ]),
        Algorithm::Adamax => group.extend([
            ("foreach", Value::None),
            flag("maximize"),
            flag("differentiable"),
            flag("capturable"),
        ]),
    }
    let params = (0..state.moments.len()).map(|i| Value::Int(i as i128));
    group.push(("params", Value::List(params.collect())));
    Value::dict(group)
}
