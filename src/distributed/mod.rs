//! The replicas of a run: one device, several devices of this machine (a thread each), or one device in each process of
//! a job that `torchrun` or Slurm has started, on one machine or many.
//!
//! Each replica holds the whole network and computes its share of every batch. Gradients are summed over the replicas
//! before every optimizer step, so that all copies of the network stay equal. libtorch's c10d connects the replicas:
//! NCCL between GPUs, Gloo between CPUs.

mod devices;
mod job;
mod replica;

pub use replica::Replica;
pub(crate) use replica::StepReduction;

use crate::base::errors::{explain, panic_text};
use crate::base::output;
use crate::config::Config;
use crate::native::group::{Endpoint, Group, Store, prepare_engine};
use anyhow::{Context, Result, anyhow, bail, ensure};
use job::Job;
use std::fmt;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;
use tch::Device;
use tracing::info;

/// Time in which the replicas of this process must end after one of them has failed. Most notice the failure at once.
const GRACE: Duration = Duration::from_secs(20);

/// Whether the environment says that this process is one of several, even if it does not say where the others are.
pub(crate) fn is_one_of_several() -> bool {
    !matches!(Job::from_environment(), Ok(None))
}

/// Connects the replicas of this process to each other and to those of other processes. Returns them, the configuration
/// with the seed that the first process names, and the seed that it has drawn, for a job that names none; `drawn` was
/// drawn here. `check_open_files` checks that so many replicas can be connected in this process.
///
/// # Errors
/// A device that does not exist, a batch that cannot be shared evenly, processes that do not find each other or have
/// different configurations.
pub(crate) fn assemble(
    config: &Config,
    drawn: u64,
    check_open_files: &dyn Fn(usize) -> Result<()>,
) -> Result<(Vec<Replica>, Config, u64)> {
    let mut config = config.clone();
    prepare_engine();
    let timeout = Duration::from_secs(config.run.dist_timeout);
    let Some(job) = Job::from_environment()? else {
        let devices = devices::devices(config.run.gpu.as_deref(), 0, config.train.tf32)?;
        config.check_shares(devices.len())?;
        let replicas = match devices[..] {
            [device] => vec![Replica::alone(device)],
            _ => {
                check_open_files(devices.len())?;
                in_threads(&devices, timeout)?
            }
        };
        return Ok((replicas, config, drawn));
    };
    config.check_shares(job.size)?;
    if job.rank > 0 {
        output::silence_this_thread();
    }
    let devices = devices::devices(config.run.gpu.as_deref(), job.local_rank, config.train.tf32)?;
    let device = device_of(&job, config.run.gpu.as_deref(), &devices)?;
    let replica = join(&job, device, timeout)?;
    let seeds = serde_json::to_string(&(config.run.seed, drawn))?;
    let (named, drawn) = serde_json::from_str(&replica.text_of_first("seed", &seeds)?)?;
    config.run.seed = config.run.seed.or(named);
    check_same_config(&replica, &config)?;
    Ok((vec![replica], config, drawn))
}

/// The device of this process: the CPU, the GPU of its local rank, or entry `local_rank` of `--GPU`.
fn device_of(job: &Job, gpu: Option<&str>, devices: &[Device]) -> Result<Device> {
    if let [device] = devices
        && (gpu.is_none() || !device.is_cuda())
    {
        return Ok(*device);
    }
    devices.get(job.local_rank).copied().with_context(|| {
        format!(
            "--GPU={} has no entry for process {} of this machine (counted from 0); name as many devices as it has processes",
            gpu.unwrap_or_default(),
            job.local_rank
        )
    })
}

/// One replica for each device, connected within this process.
fn in_threads(devices: &[Device], timeout: Duration) -> Result<Vec<Replica>> {
    let store = Arc::new(Store::here()?);
    let join = |rank: usize| {
        let place = (rank, devices.len());
        let group = Group::join(
            &store,
            place,
            devices[rank],
            &Endpoint::Address("127.0.0.1".into()),
            timeout,
        )?;
        Ok(Replica::connected(
            devices[rank],
            place,
            Arc::clone(&store),
            group,
        ))
    };
    std::thread::scope(|scope| {
        let join = &join;
        let start = |rank| Builder::new().spawn_scoped(scope, move || join(rank));
        let threads: Vec<_> = (0..devices.len()).map(start).collect();
        let joined = threads.into_iter().map(|thread| {
            let outcome = thread?.join();
            outcome.unwrap_or_else(|panic| bail!("{}", panic_text(&*panic)))
        });
        joined
            .collect::<Result<Vec<_>>>()
            .context("the devices of --GPU cannot work together")
    })
}

fn join(job: &Job, device: Device, timeout: Duration) -> Result<Replica> {
    let (rank, size, rendezvous) = (job.rank, job.size, &job.rendezvous);
    let cannot = || {
        format!(
            "process {rank} of {size} did not find the others at {}:{} (MASTER_ADDR, MASTER_PORT) within {} s (DIST_TIMEOUT)",
            rendezvous.host,
            rendezvous.port,
            timeout.as_secs()
        )
    };
    info!(rank, size, host = %rendezvous.host, port = rendezvous.port, "joining the other processes");
    let store = Arc::new(Store::at(rendezvous, size, timeout).with_context(cannot)?);
    let group =
        Group::join(&store, (rank, size), device, &endpoint(job), timeout).with_context(cannot)?;
    Ok(Replica::connected(device, (rank, size), store, group))
}

/// The address at which other processes reach this one: the local address of the route to the rendezvous, unless the
/// environment names a network interface, as for PyTorch.
fn endpoint(job: &Job) -> Endpoint {
    let interface = std::env::var("GLOO_SOCKET_IFNAME")
        .ok()
        .filter(|name| !name.is_empty());
    if let Some(name) = interface {
        return Endpoint::Interface(name);
    }
    // Nothing is sent: connecting a datagram socket only chooses a route.
    let address = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket
            .connect((job.rendezvous.host.as_str(), job.rendezvous.port))
            .ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    };
    Endpoint::Address(address().unwrap_or_else(|| "127.0.0.1".into()))
}

/// Checks that all processes have the same configuration, except for paths, devices and output.
fn check_same_config(replica: &Replica, config: &Config) -> Result<()> {
    let mine = config.shared_values();
    let text = serde_json::to_string(&mine)?;
    let theirs: serde_json::Value = serde_json::from_str(&replica.text_of_first("config", &text)?)?;
    for (key, value) in &mine {
        let first = theirs.get(key).unwrap_or(&serde_json::Value::Null);
        ensure!(
            first == value,
            "{} was started with {key} = {value}, and the first one with {first}; start all processes with the same options",
            replica.name()
        );
    }
    // All wait here, so that no process goes on without a refused one.
    replica.broadcast_flag(true).map(drop)
}

/// Checks that the replicas of all processes have read the same questions, words and answers. Returns once all have
/// read their inputs.
///
/// # Errors
/// The replica that has read other inputs, or has failed.
pub(crate) fn check_same_inputs(
    replicas: &[Replica],
    fingerprint: impl FnOnce() -> String,
) -> Result<()> {
    // The replicas of one process share its inputs.
    let [replica] = replicas else { return Ok(()) };
    if replica.is_alone() {
        return Ok(());
    }
    replica.broadcast_flag(true)?;
    let all = replica.texts("inputs", &fingerprint())?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => bail!(
            "process {rank} has read other questions, words or answers ({}) than the first one ({}); give all processes the same files",
            all[rank],
            all[0]
        ),
    }
}

/// Runs `work` for every member, each on its own thread if there are several.
///
/// Returns the first failure. Replicas that wait for the failed one get an error from their connection.
///
/// # Errors
/// The first failure of `work`.
pub(crate) fn run_all<T: Send>(
    mut members: Vec<T>,
    work: impl Fn(&mut T) -> Result<()> + Sync,
) -> Result<()> {
    if let [only] = &mut members[..] {
        return work(only);
    }
    let threads_each = (tch::get_num_threads() / members.len() as i32).max(1);
    let (sender, outcomes) = channel();
    std::thread::scope(|scope| {
        for (rank, mut member) in members.into_iter().enumerate() {
            let (sender, work) = (sender.clone(), &work);
            let replica = move || {
                if rank > 0 {
                    output::silence_this_thread();
                }
                tch::set_num_threads(threads_each);
                let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut member)));
                let outcome =
                    outcome.unwrap_or_else(|panic| Err(anyhow!("{}", panic_text(&*panic))));
                // Sent before the connection is closed, so that the cause arrives before its consequences.
                let _ = sender.send(outcome);
                drop(member);
            };
            Builder::new().spawn_scoped(scope, replica)?;
        }
        drop(sender);
        first_failure(&outcomes)
    })
}

/// The error of a replica that has noticed the failure of another one.
#[derive(Debug)]
pub(crate) struct FailedElsewhere(pub String);

impl fmt::Display for FailedElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FailedElsewhere {}

fn first_failure(outcomes: &Receiver<Result<()>>) -> Result<()> {
    while let Ok(outcome) = outcomes.recv() {
        let Err(mut error) = outcome else { continue };
        loop {
            match outcomes.recv_timeout(GRACE) {
                Ok(Err(cause)) if error.is::<FailedElsewhere>() => error = cause,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {
                    // A GPU operation that waits for a lost replica cannot be cancelled.
                    output::print_error(format_args!("{}", explain(&format!("{error:#}"))));
                    std::process::exit(1);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_reported_and_no_replica_hangs() {
        let replicas = in_threads(&[Device::Cpu; 3], Duration::from_secs(60)).unwrap();
        let error = run_all(replicas, |replica| {
            ensure!(replica.rank != 1, "the one in the middle broke");
            loop {
                replica.broadcast_flag(true)?;
                let _ = replica.gather(tch::Tensor::from_slice(&[1i64]), 1)?;
            }
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "the one in the middle broke"
        );
    }

    #[test]
    fn a_panic_of_one_replica_is_the_failure_of_all() {
        let error = run_all(vec![0, 1], |rank| {
            if *rank == 1 {
                let _ = tch::Tensor::zeros([2], (tch::Kind::Float, Device::Cpu)).view([3]);
            }
            Ok(())
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("shape '[3]' is invalid")
        );
    }

    #[test]
    fn a_process_takes_the_device_at_its_place() {
        let job = |local_rank| {
            let rendezvous = crate::native::group::Rendezvous {
                host: "a".into(),
                port: 1,
                serve: false,
                prefix: String::new(),
            };
            Job {
                rank: 5,
                size: 8,
                local_rank,
                rendezvous,
            }
        };
        let four: Vec<Device> = (0..4).map(Device::Cuda).collect();
        assert_eq!(
            device_of(&job(2), Some("0,1,2,3"), &four).unwrap(),
            Device::Cuda(2)
        );
        assert_eq!(
            device_of(&job(2), Some("cpu"), &[Device::Cpu]).unwrap(),
            Device::Cpu
        );
        assert_eq!(
            device_of(&job(2), None, &[Device::Cuda(2)]).unwrap(),
            Device::Cuda(2)
        );
        assert!(
            device_of(&job(4), Some("0,1,2,3"), &four)
                .unwrap_err()
                .to_string()
                .contains("no entry for process 4")
        );
        assert!(
            device_of(&job(1), Some("0"), &four[..1])
                .unwrap_err()
                .to_string()
                .contains("no entry for process 1")
        );
    }
}
