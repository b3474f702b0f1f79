//! The runs: one file for each mode of `--RUN`, and what the modes share.

mod demo;
mod evaluation;
mod glove;
pub mod inputs;
mod limits;
mod loss_monitor;
pub(crate) mod network;
mod pack;
pub mod plan;
pub mod predict;
mod prefetch;
pub(crate) mod preflight;
mod score;
pub mod stop;
mod test;
pub mod train;
mod val;

use crate::config::{Config, RunMode};
use crate::distributed;
use anyhow::{Result, ensure};
use tracing::info;

/// Runs the mode that `--RUN` names.
///
/// # Errors
/// The error of the run, with advice on what to do about it.
pub fn run(config: Config) -> Result<()> {
    stop::take_over(&config.run.stop_signals)?;
    limits::prepare()?;
    let mode = config.run.run_mode;
    info!(?mode, "run");
    note_useless_workers(config.data.num_workers);
    let runs_in_a_job = matches!(mode, RunMode::Train | RunMode::Val | RunMode::Test);
    ensure!(
        runs_in_a_job || !distributed::is_one_of_several(),
        "the environment (RANK and WORLD_SIZE, or SLURM_STEP_NUM_TASKS) says that this process is one of several, but only \
         train, val and test are shared among processes; start this without torchrun or srun, or unset the variables"
    );
    match mode {
        RunMode::Train => train::run(&config, None),
        RunMode::Val => val::run(&config),
        RunMode::Test => test::run(&config),
        RunMode::Score => score::run(&config),
        RunMode::Pack => pack::run(&config),
        RunMode::Demo => demo::run(&config),
    }
}

/// Prints a notice if `NUM_WORKERS` is limited.
fn note_useless_workers(asked: usize) {
    let useful = plan::useful_workers(asked);
    if asked > useful {
        crate::note!(
            "NUM_WORKERS = {asked} is more than is useful on this machine; {useful} threads read features (--NW)"
        );
    }
}
