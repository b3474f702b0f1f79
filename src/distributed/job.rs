//! The job of several processes that a launcher has started, read from the environment variables of `torchrun` or
//! Slurm.

use crate::native::group::Rendezvous;
use anyhow::{Context, Result, bail, ensure};
use std::io::IsTerminal;

/// The place of this process in a job of several processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Number of this process, from 0.
    pub(crate) rank: usize,
    /// Number of processes.
    pub(crate) size: usize,
    /// Number of this process among those on this machine, from 0.
    pub(crate) local_rank: usize,
    /// The place where the processes find each other.
    pub(crate) rendezvous: Rendezvous,
}

/// A function from the name of an environment variable to its value.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Job {
    /// The job that this process belongs to; `None` if no launcher started it, or if it is the only process.
    ///
    /// # Errors
    /// A variable that is missing or wrong; the message names it.
    pub(crate) fn from_environment() -> Result<Option<Job>> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Job::read(&env, std::io::stdin().is_terminal())
    }

    /// The job that `env` describes. `at_terminal`: whether standard input is a terminal.
    fn read(env: Environment, at_terminal: bool) -> Result<Option<Job>> {
        if env("RANK").is_some() && env("WORLD_SIZE").is_some() {
            if number(env, "WORLD_SIZE")? == 1 && number(env, "RANK")? == 0 {
                return Ok(None);
            }
            let job = torchrun(env).and_then(Job::checked).map(Some);
            return job.with_context(|| believed("RANK and WORLD_SIZE"));
        }
        // Slurm sets this in the processes that srun starts, and not in the script of sbatch. The shell of `srun --pty` has
        // it too, and is the only one of them with a terminal.
        let tasks = number(env, "SLURM_STEP_NUM_TASKS");
        if !tasks.is_ok_and(|tasks| tasks > 1) || at_terminal {
            return Ok(None);
        }
        let job = slurm(env).and_then(Job::checked).map(Some);
        job.with_context(|| believed("SLURM_STEP_NUM_TASKS"))
    }

    fn checked(self) -> Result<Job> {
        ensure!(
            self.rank < self.size,
            "the environment says rank {} of {} processes",
            self.rank,
            self.size
        );
        Ok(self)
    }
}

fn torchrun(env: Environment) -> Result<Job> {
    let rank = number(env, "RANK")?;
    // torchrun may serve the rendezvous itself. Each restart is a new job.
    let served = env("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
    let attempt = env("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into());
    Ok(Job {
        rank,
        size: number(env, "WORLD_SIZE")?,
        local_rank: env("LOCAL_RANK").map_or(Ok(0), |_| number(env, "LOCAL_RANK"))?,
        rendezvous: Rendezvous {
            host: text(env, "MASTER_ADDR")?,
            port: port(env)?.context(missing("MASTER_PORT"))?,
            serve: rank == 0 && !served,
            prefix: format!("mcan/{attempt}"),
        },
    })
}

fn slurm(env: Environment) -> Result<Job> {
    let rank = number(env, "SLURM_PROCID")?;
    let host = match env("MASTER_ADDR") {
        Some(host) => host,
        None => first_host(
            &text(env, "SLURM_STEP_NODELIST").or_else(|_| text(env, "SLURM_JOB_NODELIST"))?,
        )?,
    };
    // Other jobs on the machine get other ports.
    let usual = || Ok::<_, anyhow::Error>(20000 + (number(env, "SLURM_JOB_ID")? % 20000) as u16);
    Ok(Job {
        rank,
        size: number(env, "SLURM_STEP_NUM_TASKS")?,
        local_rank: number(env, "SLURM_LOCALID")?,
        rendezvous: Rendezvous {
            host,
            port: port(env)?.map_or_else(usual, Ok)?,
            serve: rank == 0,
            prefix: format!("mcan/{}", env("SLURM_STEP_ID").unwrap_or_default()),
        },
    })
}

/// The first host of a list as Slurm writes it: `node3`, `gpu[07-09,12],login1`, `rack[2-3]n5`.
fn first_host(list: &str) -> Result<String> {
    let Some((prefix, rest)) = list
        .split_once('[')
        .filter(|(prefix, _)| !prefix.contains(','))
    else {
        return Ok(list.split(',').next().unwrap_or(list).to_string());
    };
    let (range, rest) = rest
        .split_once(']')
        .with_context(|| format!("the list of hosts {list:?} has no ']'"))?;
    let first: String = range.chars().take_while(char::is_ascii_digit).collect();
    let suffix = rest.split(',').next().unwrap_or_default();
    if suffix.contains('[') {
        bail!(
            "this program cannot read the list of hosts {list:?}; set MASTER_ADDR to the machine of rank 0"
        );
    }
    Ok(format!("{prefix}{first}{suffix}"))
}

fn text(env: Environment, name: &str) -> Result<String> {
    env(name).with_context(|| missing(name))
}

fn missing(name: &str) -> String {
    format!("{name} is missing; set it, or start with torchrun or srun")
}

/// The context of an error in a job that these environment variables describe.
fn believed(variables: &str) -> String {
    format!(
        "the environment variables {variables} say that this process is one of several (unset them to run it alone)"
    )
}

fn number(env: Environment, name: &str) -> Result<usize> {
    let value = text(env, name)?;
    value
        .parse()
        .with_context(|| format!("{name}={value} in the environment is not a number"))
}

fn port(env: Environment) -> Result<Option<u16>> {
    let Some(value) = env("MASTER_PORT") else {
        return Ok(None);
    };
    value
        .parse()
        .map(Some)
        .with_context(|| format!("MASTER_PORT={value} in the environment is not a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &str) -> Result<Option<Job>> {
        read_at(variables, false)
    }

    fn read_at(variables: &str, at_terminal: bool) -> Result<Option<Job>> {
        let pairs: Vec<(&str, &str)> = variables
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let env = |name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        Job::read(&env, at_terminal)
    }

    #[test]
    fn a_process_that_nobody_launched_is_alone() {
        assert_eq!(read("HOME=/root RANK=3").unwrap(), None);
        // The script of sbatch, and a shell of srun's.
        assert_eq!(
            read("SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_JOB_ID=7").unwrap(),
            None
        );
        assert_eq!(
            read("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_LOCALID=0").unwrap(),
            None
        );
    }

    #[test]
    fn a_job_of_one_process_is_no_job() {
        for line in [
            "RANK=0 WORLD_SIZE=1",
            "RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 MASTER_ADDR=a MASTER_PORT=1",
            "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1",
        ] {
            assert_eq!(read(line).unwrap(), None, "{line}");
        }
    }

    #[test]
    fn a_shell_that_srun_started_is_no_job_and_its_tasks_are() {
        let line = "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=0 SLURM_JOB_ID=7 SLURM_STEP_NODELIST=a";
        assert_eq!(read_at(line, true).unwrap(), None);
        assert_eq!(read_at(line, false).unwrap().unwrap().size, 4);
    }

    #[test]
    fn a_message_names_the_variables_that_were_believed() {
        for (line, variables) in [
            ("RANK=0 WORLD_SIZE=2", "RANK and WORLD_SIZE"),
            (
                "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2",
                "SLURM_STEP_NUM_TASKS",
            ),
        ] {
            let message = format!("{:#}", read(line).unwrap_err());
            assert!(
                message.contains(variables) && message.contains("unset"),
                "{message}"
            );
        }
    }

    #[test]
    fn torchrun_says_where_a_process_belongs() {
        let line = "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 MASTER_ADDR=node0 MASTER_PORT=29500";
        let job = read(line).unwrap().unwrap();
        assert_eq!((job.rank, job.size, job.local_rank), (5, 8, 1));
        let rendezvous = Rendezvous {
            host: "node0".into(),
            port: 29500,
            serve: false,
            prefix: "mcan/0".into(),
        };
        assert_eq!(job.rendezvous, rendezvous);
        let first = "RANK=0 WORLD_SIZE=8 MASTER_ADDR=node0 MASTER_PORT=29500";
        assert!(read(first).unwrap().unwrap().rendezvous.serve);
        let served =
            format!("{first} TORCHELASTIC_USE_AGENT_STORE=True TORCHELASTIC_RESTART_COUNT=2");
        let rendezvous = read(&served).unwrap().unwrap().rendezvous;
        assert_eq!(
            (rendezvous.serve, rendezvous.prefix.as_str()),
            (false, "mcan/2")
        );
    }

    #[test]
    fn srun_says_where_a_process_belongs() {
        let line = "SLURM_PROCID=2 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=0 SLURM_JOB_ID=123456 SLURM_STEP_ID=1 \
                    SLURM_STEP_NODELIST=gpu[07-09,12]";
        let job = read(line).unwrap().unwrap();
        assert_eq!((job.rank, job.size, job.local_rank), (2, 4, 0));
        let rendezvous = Rendezvous {
            host: "gpu07".into(),
            port: 23456,
            serve: false,
            prefix: "mcan/1".into(),
        };
        assert_eq!(job.rendezvous, rendezvous);
        let rendezvous = read(&format!("{line} MASTER_ADDR=10.0.0.1 MASTER_PORT=4000"))
            .unwrap()
            .unwrap()
            .rendezvous;
        assert_eq!(
            (rendezvous.host.as_str(), rendezvous.port),
            ("10.0.0.1", 4000)
        );
    }

    #[test]
    fn the_first_host_of_a_list_is_found() {
        for (list, first) in [
            ("node3", "node3"),
            ("a,b", "a"),
            ("gpu[07-09,12],login1", "gpu07"),
            ("rack[2-3]n5,x", "rack2n5"),
            ("a,b[1-2]", "a"),
        ] {
            assert_eq!(first_host(list).unwrap(), first);
        }
        assert!(first_host("r[1-2]n[3-4]").is_err() && first_host("n[1").is_err());
    }

    #[test]
    fn a_missing_or_wrong_variable_is_named() {
        for (variables, named) in [
            ("RANK=0 WORLD_SIZE=2 MASTER_PORT=1", "MASTER_ADDR"),
            ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a", "MASTER_PORT"),
            (
                "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=99999",
                "MASTER_PORT=99999",
            ),
            ("RANK=x WORLD_SIZE=2", "RANK=x"),
            (
                "RANK=2 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1",
                "rank 2 of 2",
            ),
            (
                "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0",
                "SLURM_JOB_NODELIST",
            ),
        ] {
            let message = format!("{:#}", read(variables).unwrap_err());
            assert!(message.contains(named), "{message}");
        }
    }
}
