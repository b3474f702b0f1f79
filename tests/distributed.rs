//! Several replicas on the CPU, in one process and in several: the same results as one, and an end when one is lost.

mod common;

use common::{World, assert_same_state, demo_world, failure, has_no_gradient, python, shared};
use mcan::checkpoint;
use ndarray::Array2;
use ndarray_npy::WriteNpyExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Environment of process `rank` of a job, as `torchrun` sets it.
fn member(
    world: &World,
    (rank, size): (usize, usize),
    address: &str,
    port: u16,
    flags: &[&str],
) -> Command {
    let mut command = common::command(world.folder.path(), &world.line(flags));
    command
        .env("RANK", rank.to_string())
        .env("LOCAL_RANK", rank.to_string())
        .env("WORLD_SIZE", size.to_string())
        .env("MASTER_ADDR", address)
        .env("MASTER_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

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

/// A port that nobody listens at now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Starts all processes of a job.
fn start_job(world: &World, size: usize, flags: &[&str]) -> Vec<Child> {
    let port = free_port();
    (0..size)
        .map(|rank| {
            member(world, (rank, size), "127.0.0.1", port, flags)
                .spawn()
                .unwrap()
        })
        .collect()
}

fn ends(children: Vec<Child>) -> Vec<Output> {
    children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a job to its end and expects success of every process; what the first one printed.
fn job(world: &World, size: usize, flags: &[&str]) -> String {
    let outputs = ends(start_job(world, size, flags));
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
    assert!(
        outputs[1..].iter().all(|output| output.stdout.is_empty()),
        "only the first one speaks"
    );
    String::from_utf8(outputs[0].stdout.clone()).unwrap()
}

/// The losses in a log.
fn losses(world: &World, version: &str) -> Vec<f64> {
    let log = world.log(version);
    log.iter()
        .filter_map(|line| line.split("  loss = ").nth(1)?.parse().ok())
        .collect()
}

fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert!(!a.is_empty() && a.len() == b.len(), "{a:?} {b:?}");
    for (a, b) in a.iter().zip(b) {
        assert!((a / b - 1.0).abs() < tolerance, "{a} is not {b}");
    }
}

/// Largest difference of the parameters of two checkpoints.
fn apart(a: PathBuf, b: PathBuf) -> f64 {
    let (a, b) = (checkpoint::load(&a).unwrap(), checkpoint::load(&b).unwrap());
    let pairs = a
        .state_dict
        .iter()
        .zip(&b.state_dict)
        .filter(|((name, _), _)| !has_no_gradient(name));
    pairs
        .map(|((_, x), (_, y))| (x - y).abs().max().double_value(&[]))
        .fold(0.0, f64::max)
}

const TRAIN: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=SHUFFLE_MODE=external",
    "--SET=MAX_EPOCH=2",
];

/// The golden world, and the flags that train it from the reference's initial parameters.
fn golden_run() -> Option<(World, Vec<String>)> {
    let root = shared("golden/world")?;
    let init = format!(
        "--CKPT_PATH={}",
        root.join("ckpts/ckpt_init/epoch0.pkl").display()
    );
    let fixed = [
        "--RUN=train",
        "--SPLIT=train",
        "--RESUME=True",
        "--MAX_EPOCH=3",
        "--BS=16",
    ]
    .map(str::to_owned);
    Some((World::new(root), fixed.into_iter().chain([init]).collect()))
}

#[test]
fn replicas_train_the_golden_world_to_the_losses_of_one() {
    let Some((world, run)) = golden_run() else {
        return;
    };
    let run: Vec<&str> = run.iter().map(String::as_str).collect();
    world.succeed(&[&run[..], &["--VERSION=one"]].concat());
    for (version, devices) in [("two", "--GPU=cpu,cpu"), ("four", "--GPU=cpu,cpu,cpu,cpu")] {
        world.succeed(&[&run[..], &[&format!("--VERSION={version}"), devices]].concat());
    }
    for (version, size) in [("job of two", 2), ("job of four", 4)] {
        job(
            &world,
            size,
            &[&run[..], &[&format!("--VERSION={version}")]].concat(),
        );
    }
    for version in ["two", "four", "job of two", "job of four"] {
        assert_close(&losses(&world, version), &losses(&world, "one"), 1e-4);
        let accuracies = |version| {
            world
                .log(version)
                .into_iter()
                .filter(|line| line.starts_with("Overall"))
                .collect()
        };
        let (theirs, ours): (Vec<String>, Vec<String>) = (accuracies("one"), accuracies(version));
        assert_eq!(theirs, ours);
        let ckpt = |version: &str| world.path(&format!("ckpts/ckpt_{version}/epoch3.pkl"));
        let difference = apart(ckpt("one"), ckpt(version));
        assert!(
            difference < 1e-4,
            "{version}: parameters {difference} apart"
        );
    }
}

#[test]
fn as_many_replicas_and_accumulated_parts_draw_the_same_dropout() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=parts", "--ACCU=4"]].concat());
    world.succeed(&[&TRAIN[..], &["--VERSION=both", "--ACCU=2", "--GPU=cpu,cpu"]].concat());
    world.succeed(&[&TRAIN[..], &["--VERSION=replicas", "--GPU=cpu,cpu,cpu,cpu"]].concat());
    for version in ["both", "replicas"] {
        assert_close(&losses(&world, version), &losses(&world, "parts"), 1e-4);
    }
}

#[test]
fn checkpoints_of_several_replicas_go_on_bit_for_bit_and_with_any_number() {
    let world = demo_world();
    job(
        &world,
        3,
        &[&TRAIN[..], &["--VERSION=whole", "--BS=12"]].concat(),
    );
    job(
        &world,
        3,
        &[&TRAIN[..], &["--VERSION=part", "--BS=12", "--MAX_EPOCH=1"]].concat(),
    );
    let go_on = [
        &TRAIN[..],
        &[
            "--VERSION=part",
            "--BS=12",
            "--RESUME=True",
            "--CKPT_V=part",
            "--CKPT_E=1",
        ],
    ]
    .concat();
    job(&world, 3, &go_on);
    let ckpt = |version: &str, epoch| world.path(&format!("ckpts/ckpt_{version}/epoch{epoch}.pkl"));
    assert_same_state(&ckpt("whole", 2), &ckpt("part", 2));
    assert_eq!(world.log("whole"), world.log("part"));
    // Another number draws other dropout.
    for (version, size) in [("three", 3), ("two", 2), ("one", 1)] {
        let first = format!("--CKPT_PATH={}", ckpt("whole", 1).display());
        let version_flag = format!("--VERSION={version}");
        let flags = [
            "--BS=12",
            "--RESUME=True",
            "--CKPT_E=1",
            "--SET=DROPOUT_R=0",
            &first,
            &version_flag,
        ];
        job(&world, size, &[&TRAIN[..], &flags].concat());
        let difference = apart(ckpt("three", 2), ckpt(version, 2));
        assert!(
            difference < 1e-4,
            "{size} processes: parameters {difference} apart"
        );
    }
    // Nothing in a checkpoint tells how many made it.
    let keys = |version: &str| {
        let held = checkpoint::load(&ckpt(version, 2)).unwrap();
        (
            held.state_dict
                .iter()
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>(),
            held.mcan.unwrap().config,
        )
    };
    let ((ours, config), (theirs, _)) = (keys("whole"), keys("one"));
    assert!(ours == theirs && !config.to_string().contains("RANK"));
}

#[test]
fn val_and_test_are_shared_and_answered_in_order() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=v", "--SET=MAX_EPOCH=1"]].concat());
    let files = [
        "results/cache/result_run_v.json",
        "results/result_test/result_run_v_epoch1.json",
    ];
    let answer = |devices: &str| {
        let val = world.succeed(&["--RUN=val", "--CKPT_V=v", "--CKPT_E=1", devices]);
        world.succeed(&[
            "--RUN=test",
            "--CKPT_V=v",
            "--CKPT_E=1",
            "--SAVE_PRED=True",
            devices,
        ]);
        let npz = std::fs::read(world.path("results/pred/result_run_v_epoch1.npz")).unwrap();
        (
            val.lines()
                .filter(|line| line.contains(" : "))
                .map(str::to_owned)
                .collect::<Vec<_>>(),
            files.map(|file| world.read(file)),
            npz,
        )
    };
    let alone = answer("--GPU=cpu");
    for devices in ["--GPU=cpu,cpu", "--GPU=cpu,cpu,cpu,cpu,cpu"] {
        assert!(answer(devices) == alone, "{devices}");
    }
    job(&world, 3, &["--RUN=val", "--CKPT_V=v", "--CKPT_E=1"]);
    job(&world, 3, &["--RUN=test", "--CKPT_V=v", "--CKPT_E=1"]);
    assert_eq!(files.map(|file| world.read(file)), alone.1);
}

#[test]
fn a_batch_that_cannot_be_shared_is_refused() {
    let world = demo_world();
    let message = world.fail(&[&TRAIN[..], &["--GPU=cpu,cpu,cpu"]].concat());
    assert!(
        message.contains("BATCH_SIZE = 16") && message.contains("3 devices"),
        "{message}"
    );
    let message = world.fail(&[&TRAIN[..], &["--GPU=cpu,0"]].concat());
    assert!(message.contains("--GPU=cpu,0"), "{message}");
}

/// Long enough to be under way.
const LONG: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=MAX_EPOCH=500",
    "--EVAL_EE=False",
];

fn wait_for(path: PathBuf) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "{} does not appear",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_process_ends_the_job_and_another_number_goes_on() {
    let world = demo_world();
    for lost in [0, 1] {
        let version = format!("--VERSION=lost{lost}");
        let mut children = start_job(&world, 2, &[&LONG[..], &[&version]].concat());
        let folder = world.path(&format!("ckpts/ckpt_lost{lost}"));
        wait_for(folder.join("epoch2.pkl"));
        children[lost].kill().unwrap();
        let begun = Instant::now();
        let outputs = ends(children);
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the other one hangs"
        );
        let message = failure(&outputs[1 - lost]);
        assert!(
            message.contains(&format!("replica {} of 2", 1 - lost)) && message.contains("another"),
            "{message}"
        );
        let last = (1..500)
            .rev()
            .find(|epoch| folder.join(format!("epoch{epoch}.pkl")).exists())
            .unwrap();
        checkpoint::load(&folder.join(format!("epoch{last}.pkl"))).unwrap();
        let (from, to) = (
            format!("--CKPT_E={last}"),
            format!("--SET=MAX_EPOCH={}", last + 1),
        );
        let version_flag = format!("--CKPT_V=lost{lost}");
        let flags = [
            "--RUN=train",
            "--SPLIT=train",
            "--EVAL_EE=False",
            "--RESUME=True",
            &version,
            &version_flag,
            &from,
            &to,
        ];
        job(&world, 4, &flags);
        assert!(folder.join(format!("epoch{}.pkl", last + 1)).exists());
    }
}

#[test]
fn features_that_are_not_finite_are_named_whichever_replica_has_them() {
    let world = demo_world();
    let folder = world.root.join("datasets/coco_extract/train2014");
    let mut images: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    images.sort();
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&images[7]).unwrap());
    archive
        .start_file("x.npy", zip::write::SimpleFileOptions::default())
        .unwrap();
    Array2::from_elem((2048, 10), f32::NAN)
        .write_npy(&mut archive)
        .unwrap();
    archive.finish().unwrap();
    for seed in ["--SEED=1", "--SEED=2", "--SEED=3"] {
        let message = world.fail(
            &[
                &TRAIN[..],
                &["--GPU=cpu,cpu", "--OVERWRITE=True", "--VERSION=n", seed],
            ]
            .concat(),
        );
        let file = images[7].file_name().unwrap().to_string_lossy();
        assert!(
            message.contains(&*file) && message.contains("not finite"),
            "{message}"
        );
    }
}

#[test]
fn a_signal_to_one_process_stops_all_with_the_state_saved_once() {
    let world = demo_world();
    let whole = [
        &TRAIN[..],
        &["--SET=MAX_EPOCH=500", "--EVAL_EE=False", "--VERSION=v"],
    ]
    .concat();
    for (asked, name, status) in [(1, "TERM", 143), (0, "INT", 130)] {
        let children = start_job(&world, 2, &[&whole[..], &["--OVERWRITE=True"]].concat());
        wait_for(world.path("ckpts/ckpt_v/epoch1.pkl"));
        let sent = Command::new("kill")
            .args([format!("-{name}"), children[asked].id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let outputs = ends(children);
        for output in &outputs {
            assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
        }
        let advice = |rank: usize| {
            stderr(&outputs[rank])
                .lines()
                .any(|line| line.contains("--RESUME=True"))
        };
        assert!(advice(0) && !advice(1), "the first one says how to go on");
        std::fs::remove_dir_all(world.path("ckpts/ckpt_v")).unwrap();
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
    assert_close(&losses(&world, "four"), &losses(&world, "one"), 1e-4);
    if let Some((world, run)) = golden_run() {
        let run: Vec<&str> = run.iter().map(String::as_str).collect();
        world.succeed(&[&run[..], &["--VERSION=one"]].concat());
        succeed(&world, &[&run[..], &["--VERSION=four"]].concat());
        assert_close(&losses(&world, "four"), &losses(&world, "one"), 1e-4);
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
        begun.elapsed() < Duration::from_secs(60),
        "it took {:?}",
        begun.elapsed()
    );
    checkpoint::load(&world.path("ckpts/ckpt_cut/epoch1.pkl")).unwrap();
}

/// `torchrun` with two processes of the program.
fn torchrun(world: &World, flags: &[&str]) -> Option<Command> {
    let mut command = Command::new(python()?);
    command.args([
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]);
    command
        .arg(env!("CARGO_BIN_EXE_mcan"))
        .args(world.line(flags))
        .current_dir(world.folder.path());
    command
        .env("OMP_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

#[test]
fn torchrun_starts_and_stops_a_job() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=one", "--ACCU=2"]].concat());
    let Some(mut run) = torchrun(&world, &[&TRAIN[..], &["--VERSION=two"]].concat()) else {
        return;
    };
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_close(&losses(&world, "two"), &losses(&world, "one"), 1e-4);

    let Some(mut run) = torchrun(&world, &[&LONG[..], &["--VERSION=stopped"]].concat()) else {
        return;
    };
    let child = run.spawn().unwrap();
    wait_for(world.path("ckpts/ckpt_stopped/epoch1.pkl"));
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert!(
        text.contains("stopped by Ctrl-C in epoch") && text.contains("--RESUME=True"),
        "{text}"
    );
    let folder = world.path("ckpts/ckpt_stopped");
    let saved = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let saved: Vec<PathBuf> = saved
        .filter(|path| path.extension().is_some_and(|kind| kind == "pkl"))
        .collect();
    assert!(
        !saved.is_empty() && saved.iter().all(|path| checkpoint::load(path).is_ok()),
        "{saved:?}"
    );
}

#[test]
fn a_process_that_is_slow_to_start_is_waited_for() {
    let world = demo_world();
    let port = free_port();
    let flags = [&TRAIN[..], &["--VERSION=slow", "--SET=MAX_EPOCH=1"]].concat();
    let first = member(&world, (0, 2), "127.0.0.1", port, &flags)
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let second = member(&world, (1, 2), "127.0.0.1", port, &flags)
        .spawn()
        .unwrap();
    for output in ends(vec![first, second]) {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn a_wrong_address_a_missing_process_and_a_port_in_use_are_told() {
    let world = demo_world();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let flags = [&TRAIN[..], &["--VERSION=x", "--SET=DIST_TIMEOUT=3"]].concat();
    for (rank, address, port, cause) in [
        (
            1,
            "no-such-host.invalid",
            free_port(),
            "no-such-host.invalid",
        ),
        (1, "127.0.0.1", free_port(), "127.0.0.1"),
        (0, "127.0.0.1", free_port(), "1/2 clients joined"),
        (0, "127.0.0.1", port, "in use"),
    ] {
        let begun = Instant::now();
        let message = failure(
            &member(&world, (rank, 2), address, port, &flags)
                .output()
                .unwrap(),
        );
        assert!(begun.elapsed() < Duration::from_secs(60), "{message}");
        assert!(
            message.contains(cause) && message.contains("MASTER_PORT"),
            "{message}"
        );
    }
}

#[test]
fn processes_that_are_told_different_things_are_refused() {
    let world = demo_world();
    let port = free_port();
    let flags = |bs| [&TRAIN[..], &["--VERSION=x", bs]].concat();
    let first = member(&world, (0, 2), "127.0.0.1", port, &flags("--BS=8"))
        .spawn()
        .unwrap();
    let second = member(&world, (1, 2), "127.0.0.1", port, &flags("--BS=16"))
        .output()
        .unwrap();
    let message = failure(&second);
    assert!(
        message.contains("BATCH_SIZE = 16") && message.contains('8'),
        "{message}"
    );
    failure(&first.wait_with_output().unwrap());
}

#[test]
fn other_modes_are_not_started_several_times() {
    let world = demo_world();
    let message = failure(
        &member(&world, (0, 2), "127.0.0.1", 1, &["--RUN=pack"])
            .output()
            .unwrap(),
    );
    assert!(message.contains("without torchrun"), "{message}");
}
