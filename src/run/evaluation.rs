//! The common part of `val` and `test`: loads a checkpoint into every replica of this process, and reads the questions.

use super::inputs::Inputs;
use super::plan::{Plan, Prepared, prepare};
use super::{network, stop};
use crate::config::Config;
use crate::distributed::{self, Replica};
use crate::models::Network;
use crate::say;
use anyhow::{Context, Result};

/// A loaded checkpoint, with the questions for it.
pub(super) struct Evaluation {
    /// The plan.
    pub(super) plan: Plan,
    /// The questions, and the vocabulary and answers of the checkpoint.
    pub(super) inputs: Inputs,
    /// The network of each replica of this process.
    pub(super) networks: Vec<(Network, Replica)>,
}

impl Evaluation {
    /// Loads the checkpoint that `config` names and reads the questions.
    pub(super) fn load(config: &Config) -> Result<Evaluation> {
        let Prepared {
            plan,
            replicas,
            checkpoint,
        } = prepare(config)?;
        let path = plan.ckpt_to_load();
        let cannot = || format!("cannot use {}", path.display());
        let checkpoint = checkpoint.with_context(cannot)?;
        say!("{}", plan.config().to_string().trim_end());
        let inputs = Inputs::read(&plan, checkpoint.mcan.as_ref(), &replicas)?;
        distributed::check_same_inputs(&replicas, || inputs.fingerprint())?;
        let with_net = |replica: Replica| {
            let net = network::build(&plan, &inputs, replica.device)?;
            net.assign(&checkpoint.state_dict).with_context(cannot)?;
            Ok((net, replica))
        };
        let networks = replicas.into_iter().map(with_net).collect::<Result<_>>()?;
        stop::listen();
        Ok(Evaluation {
            plan,
            inputs,
            networks,
        })
    }
}
