//! Adam and Adamax (Kingma and Ba, 2015), with the state that PyTorch's optimizers save.

use crate::checkpoint::{Algorithm, Moments, OptimizerState};
use crate::native::{self, AdamStep};
use anyhow::{Context, Result, bail, ensure};
use tch::{Kind, Tensor};

/// PyTorch stores the step count as float32, which is exact up to 2^24.
const MOST_STEPS: f64 = (1 << 24) as f64;

/// The hyper-parameters of an optimizer.
#[derive(Clone, Copy, Debug)]
pub struct HyperParameters {
    /// Which optimizer.
    pub algorithm: Algorithm,
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Offset of the denominator.
    pub eps: f64,
}

/// An optimizer over a fixed list of parameters.
#[derive(Debug)]
pub struct Optimizer {
    hyper: HyperParameters,
    params: Vec<Tensor>,
    exp_avg: Vec<Tensor>,
    second: Vec<Tensor>,
    /// Steps taken so far, for the correction of the moments' bias.
    steps: u64,
    lr: f64,
}

impl Optimizer {
    /// An optimizer of `params` whose moments are zero.
    pub fn new(params: &[Tensor], hyper: HyperParameters) -> Optimizer {
        let zeros = || params.iter().map(|p| p.detach().zeros_like()).collect();
        Optimizer {
            hyper,
            params: params.iter().map(Tensor::shallow_clone).collect(),
            exp_avg: zeros(),
            second: zeros(),
            steps: 0,
            lr: 0.0,
        }
    }

    /// Replaces the decay rates of the moments, and the offset of the denominator.
    pub(crate) fn set_hyper_parameters(&mut self, hyper: HyperParameters) {
        self.hyper = hyper;
    }

    /// Continues from a saved state. The saved hyper-parameters replace the present ones, as in PyTorch's
    /// `load_state_dict`.
    ///
    /// # Errors
    /// A state of other parameters or of another optimizer.
    pub(crate) fn load(&mut self, state: &OptimizerState) -> Result<()> {
        let steps = self.check(state)?;
        for (i, moments) in state.moments.iter().enumerate() {
            match moments {
                Some(moments) if moments.step == steps => self.load_moments(i, moments)?,
                Some(moments) => bail!(
                    "its optimizer has taken {} steps for parameter {i}, but {steps} for others",
                    moments.step
                ),
                None if steps == 0.0 || !self.params[i].requires_grad() => {}
                None => bail!("its optimizer has no moments for parameter {i}"),
            }
        }
        self.steps = steps as u64;
        (self.lr, self.hyper.betas, self.hyper.eps) = (state.lr, state.betas, state.eps);
        Ok(())
    }

    /// Checks that this optimizer can continue from `state`; returns the steps taken.
    fn check(&self, state: &OptimizerState) -> Result<f64> {
        ensure!(
            state.algorithm == self.hyper.algorithm,
            "its optimizer is {:?}, but the configuration's OPT is {:?}",
            state.algorithm,
            self.hyper.algorithm
        );
        ensure!(
            state.moments.len() == self.params.len(),
            "its optimizer has {} parameters, this model has {}",
            state.moments.len(),
            self.params.len()
        );
        ensure!(
            state.weight_decay == 0.0,
            "its optimizer uses a weight decay of {}",
            state.weight_decay
        );
        let ((b1, b2), share) = (state.betas, 0.0..1.0);
        ensure!(
            state.lr.is_finite()
                && [b1, b2, state.eps]
                    .iter()
                    .all(|value| share.contains(value)),
            "its optimizer has lr {}, betas ({b1}, {b2}) and eps {}, of which at least one is not valid",
            state.lr,
            state.eps
        );
        let steps = state
            .moments
            .iter()
            .flatten()
            .map(|m| m.step)
            .fold(0.0, f64::max);
        ensure!(
            steps.fract() == 0.0 && steps < MOST_STEPS,
            "its optimizer's saved step count {steps} is not valid"
        );
        Ok(steps)
    }

    fn load_moments(&mut self, i: usize, moments: &Moments) -> Result<()> {
        for (mine, saved) in [
            (&mut self.exp_avg[i], &moments.exp_avg),
            (&mut self.second[i], &moments.second),
        ] {
            ensure!(
                mine.size() == saved.size(),
                "its optimizer has moments of shape {:?} for parameter {i} of shape {:?}",
                saved.size(),
                mine.size()
            );
            ensure!(
                is_finite(saved)?,
                "its optimizer has moments for parameter {i} that are not finite; take an earlier checkpoint"
            );
            mine.f_copy_(saved)?;
        }
        Ok(())
    }

    /// Checks that all moments are finite.
    ///
    /// # Errors
    /// A moment that is not; the message has the number of its parameter.
    pub(crate) fn check_finite(&self) -> Result<()> {
        for (i, moments) in self.exp_avg.iter().zip(&self.second).enumerate() {
            ensure!(
                is_finite(moments.0)? && is_finite(moments.1)?,
                "the optimizer's moments of parameter {i} are not finite"
            );
        }
        Ok(())
    }

    /// The state as PyTorch's `state_dict()` has it. Shares memory with the optimizer.
    pub fn state(&self) -> OptimizerState {
        let moments = self.exp_avg.iter().zip(&self.second).zip(&self.params).map(
            |((first, second), parameter)| {
                (self.steps > 0 && parameter.requires_grad()).then(|| Moments {
                    step: self.steps as f64,
                    exp_avg: first.shallow_clone(),
                    second: second.shallow_clone(),
                })
            },
        );
        OptimizerState {
            algorithm: self.hyper.algorithm,
            lr: self.lr,
            betas: self.hyper.betas,
            eps: self.hyper.eps,
            weight_decay: 0.0,
            moments: moments.collect(),
        }
    }

    /// Drops the gradients of the last step.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn zero_grad(&self) -> Result<()> {
        native::clear_grads(&self.params)
    }

    /// One step at learning rate `lr` along the gradients of the parameters. When `grad_norm_clip` is positive, their
    /// joint norm is clipped to it.
    ///
    /// # Errors
    /// A parameter without a gradient, or no memory left.
    pub fn step(&mut self, lr: f64, grad_norm_clip: f64) -> Result<()> {
        let used = self.used();
        let grads: Vec<Tensor> = used.iter().map(|&i| self.params[i].grad()).collect();
        ensure!(
            grads.iter().all(Tensor::defined),
            "a parameter has no gradient"
        );
        if grad_norm_clip > 0.0 {
            clip_grad_norm(&grads, grad_norm_clip);
        }
        self.steps += 1;
        self.lr = lr;
        match self.hyper.algorithm {
            Algorithm::Adam => self.adam(&used, &grads),
            Algorithm::Adamax => self.adamax(&used, &grads),
        }
    }

    /// The numbers of the parameters that have gradients.
    fn used(&self) -> Vec<usize> {
        let params = self.params.iter().enumerate();
        let used = params.filter(|(_, parameter)| parameter.requires_grad());
        used.map(|(i, _)| i).collect()
    }

    /// m += (1 - β₁) (g - m);  v += (1 - β₂) (g² - v);  p -= lr m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)
    fn adam(&self, used: &[usize], grads: &[Tensor]) -> Result<()> {
        let of_used = |all: &[Tensor]| -> Vec<Tensor> {
            used.iter().map(|&i| all[i].shallow_clone()).collect()
        };
        let device = self.params.first().context("no parameters")?.device();
        // Filled on the device: a copy from the host would wait for all earlier work of the device.
        let step = Tensor::f_full([], self.steps as f64, (Kind::Float, device))?;
        let with = AdamStep {
            lr: self.lr,
            betas: self.hyper.betas,
            eps: self.hyper.eps,
        };
        native::fused_adam(
            &of_used(&self.params),
            grads,
            (&of_used(&self.exp_avg), &of_used(&self.second)),
            &step,
            with,
        )
    }

    /// m += (1 - β₁) (g - m);  u = max(β₂ u, |g| + ε);  p -= lr / (1 - β₁ᵗ) m / u
    fn adamax(&self, used: &[usize], grads: &[Tensor]) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let HyperParameters {
            betas: (b1, b2),
            eps,
            ..
        } = self.hyper;
        let bias_correction = 1.0 - b1.powf(self.steps as f64);
        for (&i, grad) in used.iter().zip(grads) {
            let [mut p, mut m, mut u] =
                [&self.params[i], &self.exp_avg[i], &self.second[i]].map(Tensor::shallow_clone);
            let _ = m.f_lerp_(grad, 1.0 - b1)?;
            let largest = u
                .f_mul_scalar(b2)?
                .f_maximum(&grad.f_abs()?.f_add_scalar(eps)?)?;
            u.f_copy_(&largest)?;
            let _ = p.f_addcdiv_(&m.f_mul_scalar(-self.lr / bias_correction)?, &u)?;
        }
        Ok(())
    }
}

/// Whether all values of `tensor` are finite.
fn is_finite(tensor: &Tensor) -> Result<bool> {
    Ok(bool::try_from(tensor.f_isfinite()?.f_all()?)?)
}

/// Scales `grads` so that their joint norm is at most `max_norm`, as PyTorch's `clip_grad_norm_`. No value leaves the
/// device.
fn clip_grad_norm(grads: &[Tensor], max_norm: f64) {
    let norms: Vec<Tensor> = grads.iter().map(Tensor::norm).collect();
    let total = Tensor::stack(&norms, 0).norm();
    let factor = (total + 1e-6).reciprocal() * max_norm;
    let factor = factor.clamp_max(1.0);
    for grad in grads {
        let _ = grad.shallow_clone().g_mul_(&factor.to_kind(Kind::Float));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_are_not_finite_are_noticed() {
        let params = [Tensor::ones([2], (Kind::Float, tch::Device::Cpu))];
        let hyper = HyperParameters {
            algorithm: Algorithm::Adam,
            betas: (0.9, 0.98),
            eps: 1e-9,
        };
        let optimizer = Optimizer::new(&params, hyper);
        optimizer.check_finite().unwrap();
        for moment in [&optimizer.exp_avg, &optimizer.second] {
            let mut moment = moment[0].shallow_clone();
            let _ = moment.fill_(f64::NAN);
            let message = optimizer.check_finite().unwrap_err().to_string();
            assert!(message.contains("parameter 0"), "{message}");
            let _ = moment.fill_(0.0);
        }
    }
}
