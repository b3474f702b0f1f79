//! Separate hosts, made of network namespaces: they train together, and notice one that falls silent.

use super::job::{LONG, ends, member, stderr, wait_for};
use super::{TRAIN, golden_run};
use crate::common::{World, assert_close, demo_world, failure};
use mcan::checkpoint;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Network namespaces that act as separate hosts, each with one address, on a bridge in a namespace of its own.
struct Hosts {
    tag: String,
    count: usize,
}

impl Hosts {
    /// `None` after saying that the test is skipped.
    fn new(tag: &str, count: usize) -> Option<Hosts> {
        let hosts = Hosts {
            tag: format!("mcan-{}-{tag}", std::process::id()),
            count,
        };
        let made = hosts.make();
        if let Err(reason) = &made {
            eprintln!("skipped: network namespaces cannot be made here ({reason})");
        }
        made.is_ok().then_some(hosts)
    }

    fn make(&self) -> Result<(), String> {
        let hub = self.name("hub");
        ip(&["netns", "add", &hub])?;
        ip(&[
            "-n", &hub, "link", "add", "name", "bridge0", "type", "bridge",
        ])?;
        ip(&["-n", &hub, "link", "set", "bridge0", "up"])?;
        for i in 0..self.count {
            let (host, port, address) = (
                self.name(i),
                format!("port{i}"),
                format!("{}/24", self.address(i)),
            );
            ip(&["netns", "add", &host])?;
            ip(&[
                "link", "add", &port, "netns", &hub, "type", "veth", "peer", "name", "eth0",
                "netns", &host,
            ])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge0", "up"])?;
            ip(&["-n", &host, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &host, "link", "set", "eth0", "up"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn name(&self, host: impl std::fmt::Display) -> String {
        format!("{}-{host}", self.tag)
    }

    fn address(&self, host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// Starts one process of a job on each host.
    fn start_job(&self, world: &World, flags: &[&str]) -> Vec<Child> {
        let start = |rank| {
            let inner = member(world, (rank, self.count), &self.address(0), 29500, flags);
            let mut command = Command::new("ip");
            command
                .args(["netns", "exec", &self.name(rank)])
                .arg(inner.get_program())
                .args(inner.get_args());
            command.envs(
                inner
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
            command
                .env("LOCAL_RANK", "0")
                .current_dir(world.folder.path());
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        (0..self.count).map(start).collect()
    }

    /// Pulls the plug of one host.
    fn cut_off(&self, host: usize) {
        ip(&[
            "-n",
            &self.name("hub"),
            "link",
            "set",
            &format!("port{host}"),
            "down",
        ])
        .unwrap();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in (0..self.count)
            .map(|i| self.name(i))
            .chain([self.name("hub")])
        {
            let _ = ip(&["netns", "del", &host]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("ip {}: {told}", arguments.join(" ")))
    }
}

#[test]
fn separate_hosts_train_to_the_losses_of_one_and_notice_one_that_falls_silent() {
    let Some(hosts) = Hosts::new("h", 4) else {
        return;
    };
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=one", "--ACCU=4"]].concat());
    let succeed = |world: &World, flags: &[&str]| {
        for output in ends(hosts.start_job(world, flags)) {
            assert!(output.status.success(), "{}", stderr(&output));
        }
    };
    succeed(&world, &[&TRAIN[..], &["--VERSION=four"]].concat());
    assert_close(&world.losses("four"), &world.losses("one"), 1e-4);
    if let Some((world, run)) = golden_run() {
        let run: Vec<&str> = run.iter().map(String::as_str).collect();
        world.succeed(&[&run[..], &["--VERSION=one"]].concat());
        succeed(&world, &[&run[..], &["--VERSION=four"]].concat());
        assert_close(&world.losses("four"), &world.losses("one"), 1e-4);
    }

    let children = hosts.start_job(
        &world,
        &[&LONG[..], &["--VERSION=cut", "--SET=DIST_TIMEOUT=5"]].concat(),
    );
    wait_for(world.path("ckpts/ckpt_cut/epoch1.pkl"));
    hosts.cut_off(2);
    let begun = Instant::now();
    for output in ends(children) {
        assert!(failure(&output).contains("of 4"), "{}", stderr(&output));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(300),
        "it took {:?}",
        begun.elapsed()
    );
    checkpoint::load(&world.path("ckpts/ckpt_cut/epoch1.pkl")).unwrap();
}
