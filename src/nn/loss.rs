//! The losses: each is a sum over the questions of a micro-batch. x are logits and t targets, both (B, answers).

use crate::datasets::LossKind;
use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

/// The summed loss of a micro-batch.
///
/// # Shapes
/// logits, targets (B, answers) -> (), float32
///
/// # Errors
/// When libtorch is out of memory.
pub fn loss(kind: LossKind, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    match kind {
        LossKind::BinaryCrossEntropy => binary_cross_entropy(logits, targets),
        LossKind::CrossEntropy => cross_entropy(logits, targets),
        LossKind::Divergence => divergence(logits, targets),
    }
}

/// -Σ t log σ(x) + (1 - t) log(1 - σ(x)), the loss of MCAN (Yu et al., section 4.3)
fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(logits.f_binary_cross_entropy_with_logits(
        targets,
        None::<&Tensor>,
        None::<&Tensor>,
        Reduction::Sum,
    )?)
}

/// -Σ t log softmax(x); t is 1 for the answer and 0 elsewhere
fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let log_probabilities = logits.f_log_softmax(1, Kind::Float)?; // (B, answers)
    Ok(targets
        .f_mul(&log_probabilities)?
        .f_sum(Kind::Float)?
        .f_neg()?)
}

/// Σ t (log t - log softmax(x)), 0 where t is 0; the loss of MFB and MFH (Yu et al., 2017, section 3.3)
fn divergence(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let log_probabilities = logits.f_log_softmax(1, Kind::Float)?; // (B, answers)
    Ok(log_probabilities.f_kl_div(targets, Reduction::Sum, false)?)
}
