//! Adam (Kingma & Ba, 2015) in one fused pass over all parameters, with the state that PyTorch's Adam saves.

use crate::checkpoint::{AdamState, Moments};
use crate::config::TrainConfig;
use crate::native::{self, AdamStep};
use anyhow::{Context, Result, bail, ensure};
use tch::{Kind, Tensor};

/// Float32, in which PyTorch counts the steps, counts no further.
const MOST_STEPS: f64 = (1 << 24) as f64;

/// Adam over a fixed list of parameters.
#[derive(Debug)]
pub struct Adam {
    params: Vec<Tensor>,
    exp_avg: Vec<Tensor>,
    exp_avg_sq: Vec<Tensor>,
    /// Steps that the moments have seen; it corrects their bias.
    steps: u64,
    lr: f64,
    betas: (f64, f64),
    eps: f64,
}

impl Adam {
    /// Zero moments for `params`.
    pub fn new(params: &[Tensor], config: &TrainConfig) -> Adam {
        Adam {
            params: params.iter().map(Tensor::shallow_clone).collect(),
            exp_avg: params.iter().map(|p| p.detach().zeros_like()).collect(),
            exp_avg_sq: params.iter().map(|p| p.detach().zeros_like()).collect(),
            steps: 0,
            lr: 0.0,
            betas: config.opt_betas,
            eps: config.opt_eps,
        }
    }

    /// Takes over a saved state; hyper-parameters of the state win, as in PyTorch's `load_state_dict`.
    ///
    /// # Errors
    /// When the state belongs to other parameters.
    pub fn load(&mut self, state: &AdamState) -> Result<()> {
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
        let (b1, b2) = state.betas;
        ensure!(
            state.lr.is_finite()
                && (0.0..1.0).contains(&b1)
                && (0.0..1.0).contains(&b2)
                && (0.0..1.0).contains(&state.eps),
            "its optimizer has lr {}, betas ({b1}, {b2}) and eps {}, with which nothing can be computed",
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
            "its optimizer has taken {steps} steps, which none has"
        );
        for (i, moments) in state.moments.iter().enumerate() {
            match moments {
                Some(moments) if moments.step == steps => self.load_moments(i, moments)?,
                Some(moments) => {
                    bail!(
                        "its optimizer has taken {} steps for parameter {i}, but {steps} for others",
                        moments.step
                    )
                }
                None if steps == 0.0 => {}
                None => bail!("its optimizer has no moments for parameter {i}"),
            }
        }
        self.steps = steps as u64;
        (self.lr, self.betas, self.eps) = (state.lr, state.betas, state.eps);
        Ok(())
    }

    fn load_moments(&mut self, i: usize, moments: &Moments) -> Result<()> {
        for (mine, saved) in [
            (&mut self.exp_avg[i], &moments.exp_avg),
            (&mut self.exp_avg_sq[i], &moments.exp_avg_sq),
        ] {
            ensure!(
                mine.size() == saved.size(),
                "its optimizer has moments of shape {:?} for parameter {i} of shape {:?}",
                saved.size(),
                mine.size()
            );
            let finite = bool::try_from(saved.f_isfinite()?.f_all()?)?;
            ensure!(
                finite,
                "its optimizer has moments for parameter {i} that are not finite; take an earlier checkpoint"
            );
            mine.f_copy_(saved)?;
        }
        Ok(())
    }

    /// The state as PyTorch's `Adam.state_dict()` has it. Shares memory with the optimizer.
    pub fn state(&self) -> AdamState {
        let moments = self.exp_avg.iter().zip(&self.exp_avg_sq).map(|(m, v)| {
            (self.steps > 0).then(|| Moments {
                step: self.steps as f64,
                exp_avg: m.shallow_clone(),
                exp_avg_sq: v.shallow_clone(),
            })
        });
        AdamState {
            lr: self.lr,
            betas: self.betas,
            eps: self.eps,
            weight_decay: 0.0,
            moments: moments.collect(),
        }
    }

    /// Forgets the gradients of the last step.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn zero_grad(&self) -> Result<()> {
        native::clear_grads(&self.params)
    }

    /// One step at learning rate `lr` along the gradients that the parameters hold, their joint norm clipped to
    /// `grad_norm_clip` when that is positive.
    ///
    /// # Errors
    /// When a parameter has no gradient or memory runs out.
    pub fn step(&mut self, lr: f64, grad_norm_clip: f64) -> Result<()> {
        let grads: Vec<Tensor> = self.params.iter().map(Tensor::grad).collect();
        ensure!(
            grads.iter().all(Tensor::defined),
            "a parameter has no gradient"
        );
        if grad_norm_clip > 0.0 {
            clip_grad_norm(&grads, grad_norm_clip);
        }
        self.steps += 1;
        self.lr = lr;
        let device = self.params.first().context("no parameters")?.device();
        // Filled on the device: a copy from here would wait until it has done all that it was asked.
        let step = Tensor::f_full([], self.steps as f64, (Kind::Float, device))?;
        let with = AdamStep {
            lr,
            betas: self.betas,
            eps: self.eps,
        };
        native::fused_adam(
            &self.params,
            &grads,
            (&self.exp_avg, &self.exp_avg_sq),
            &step,
            with,
        )
    }
}

/// Scales `grads` so that their joint norm is at most `max_norm`, as PyTorch's `clip_grad_norm_`; no value leaves the
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
