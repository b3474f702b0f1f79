//! `cargo xtask check [fast|full]`: the checks of this project, cheapest first.
//!
//! `fast` needs no libtorch: format, scripts, and lints and tests of mcan-data with the rules of the house. `full` goes on
//! with the whole workspace: lints, documentation, dependencies, fuzzing, every test. It ends with the summaries of the
//! tests. `.ci/run` and `./setup.sh test` call `full`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const CARGO_DENY: &str = "0.20.2";

/// The version whose formatting the C++ files have; others differ in details.
const CLANG_FORMAT: &str = "version 14";

/// Seconds for which each fuzz target runs.
const FUZZ_SECONDS: &str = "6";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["check"] | ["check", "fast"] => Checks::new().fast(),
        ["check", "full", ref tests @ ..] => Checks::new().full(tests),
        _ => Err("usage: cargo xtask check [fast|full [WORDS FOR CARGO TEST]]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), String>;

/// The checks, which run in the root folder of the repository.
struct Checks {
    root: PathBuf,
    began: Instant,
}

impl Checks {
    fn new() -> Checks {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Checks {
            root,
            began: Instant::now(),
        }
    }

    fn fast(&self) -> Outcome {
        self.cheap()?;
        self.step("lints of mcan-data");
        let lints = [
            "clippy",
            "--quiet",
            "-p",
            "mcan-data",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        self.cargo(&lints)?;
        self.step("tests of mcan-data");
        self.test(&["-p", "mcan-data"])
    }

    fn full(&self, tests: &[&str]) -> Outcome {
        self.fast()?;
        self.step("lints");
        let lints = [
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        self.cargo(&lints)?;
        self.step("documentation");
        let mut doc = self.command(
            "cargo",
            &[
                "doc",
                "--quiet",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ],
        );
        run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
        self.step("dependencies");
        self.dependencies()?;
        self.step("fuzzing");
        self.fuzz()?;
        self.step("tests of the project's own matrix products, in place of libtorch's");
        let mut own = self.command("cargo", &["test", "-p", "mcan", "--lib", "native::"]);
        run(own.env("MCAN_OWN_PRODUCTS", "1"))?;
        self.step("tests");
        match tests {
            [] => self.test(&["--workspace", "--exclude", "mcan-data"]),
            named => self.test(&[&["--workspace"], named].concat()),
        }
    }

    /// Runs tests. The output of passing tests is shown for what they say they skipped.
    fn test(&self, which: &[&str]) -> Outcome {
        let (test, show) = (["test", "--no-fail-fast"], ["--", "--show-output"]);
        self.cargo(&[&test[..], which, &show].concat())
    }

    /// The checks that compile nothing.
    fn cheap(&self) -> Outcome {
        self.step("format");
        self.cargo(&["fmt", "--all", "--check"])?;
        self.cargo(&["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"])?;
        if self
            .output("clang-format", &["--version"])
            .contains(CLANG_FORMAT)
        {
            let format = "clang-format --dry-run -Werror src/native/*.cpp src/native/*.h";
            run(&mut self.command("bash", &["-c", format]))?;
        } else {
            println!("notice: there is no clang-format of {CLANG_FORMAT} here: C++ is not checked");
        }
        self.step("shell scripts");
        let scripts = "setup.sh .ci/run fuzz/run benches/*.sh";
        if self.succeeds("shellcheck", &["--version"]) {
            let check = format!("shellcheck --severity=warning {scripts}");
            return run(&mut self.command("bash", &["-c", &check]));
        }
        println!("notice: there is no shellcheck here: only the syntax is checked");
        let check = format!("for script in {scripts}; do bash -n $script || exit; done");
        run(&mut self.command("bash", &["-c", &check]))
    }

    /// Checks the crates of the tree against deny.toml.
    fn dependencies(&self) -> Outcome {
        let cache =
            env::var_os("MCAN_CACHE").map_or_else(|| self.root.join("target"), PathBuf::from);
        let tools = cache.join("tools");
        let deny = tools.join("bin/cargo-deny").display().to_string();
        if !self.output(&deny, &["--version"]).contains(CARGO_DENY) {
            let wanted = format!("cargo-deny@{CARGO_DENY}");
            let folder = tools.display().to_string();
            // An unoptimised build takes half the time, and the program is fast enough.
            let install = [
                "install", "--quiet", "--locked", "--debug", "--root", &folder, &wanted,
            ];
            let mut install = self.command("cargo", &install);
            install.env("CARGO_TARGET_DIR", cache.join("target-tools"));
            if run(&mut install).is_err() {
                println!("notice: cargo-deny could not be installed: dependencies are NOT checked");
                return Ok(());
            }
        }
        // cargo-deny looks at the crates of every platform, also those that are not built here.
        if !self.fetch("Cargo.toml")? {
            println!(
                "notice: the crates of other platforms could not be fetched: dependencies are NOT checked"
            );
            return Ok(());
        }
        run(&mut self.command(
            &deny,
            &["--offline", "check", "bans", "licenses", "sources"],
        ))?;
        // No package registry serves the advisories; they are on GitHub alone.
        if self.succeeds("timeout", &["120", &deny, "fetch", "db"]) {
            return run(&mut self.command(&deny, &["--offline", "check", "advisories"]));
        }
        println!("notice: the advisory database could not be fetched: advisories are NOT checked");
        Ok(())
    }

    /// Runs every fuzz target for a few seconds, from the seeds. A corpus that is kept would grow and take longer each
    /// time.
    fn fuzz(&self) -> Outcome {
        if !self.fetch("fuzz/Cargo.toml")? {
            println!("notice: libFuzzer could not be fetched: nothing is fuzzed");
            return Ok(());
        }
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from);
        let corpus = target.join("fuzz-corpus");
        let _ = std::fs::remove_dir_all(&corpus);
        run(self
            .command("fuzz/run", &[FUZZ_SECONDS])
            .env("FUZZ_CORPUS", corpus))
    }

    /// Whether the crates of a manifest can be fetched. A lock file that is older than the manifest is an error: it
    /// must not look like a missing network.
    fn fetch(&self, manifest: &str) -> Result<bool, String> {
        let arguments = ["fetch", "--locked", "--manifest-path", manifest];
        let output = self
            .command("cargo", &arguments)
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && said.contains("--locked") {
            return Err(said.into_owned());
        }
        Ok(output.status.success())
    }

    fn step(&self, name: &str) {
        println!("\n== {name} (after {} s)", self.began.elapsed().as_secs());
    }

    fn cargo(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command("cargo", arguments))
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        command
    }

    fn succeeds(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = self.command(program, arguments);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output();
        output.map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }
}

fn run(command: &mut Command) -> Outcome {
    let name = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name}: {status}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
