//! Parses, resolves, runs, and turns the outcome into an exit status.

use mcan::cli::Args;
use mcan::config::Config;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    wait_without_spinning();
    // tch panics where libtorch throws, mostly out of memory. Nobody should see a C++ stack trace for that.
    std::panic::set_hook(Box::new(|_| ()));
    let outcome = catch_unwind(AssertUnwindSafe(|| Config::resolve(&args).and_then(mcan::engine::run)));
    let message = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it broke down without a reason").to_string()
        }
    };
    eprintln!("mcan: {}", mcan::engine::explain(&message));
    ExitCode::FAILURE
}

/// Starts the program anew with OpenMP's passive wait policy, which is read only when libtorch is loaded.
///
/// libtorch's threads otherwise spin while they wait for each other, and next to the loader's threads or any other busy
/// program they wait for a core that a spinning thread holds. The user's own OpenMP settings win.
fn wait_without_spinning() {
    use std::os::unix::process::CommandExt;
    let is_set = |name| std::env::var_os(name).is_some();
    if is_set("OMP_WAIT_POLICY") || is_set("GOMP_SPINCOUNT") {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // Only comes back when it fails; then the run is merely slower.
        let _ = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env("OMP_WAIT_POLICY", "passive")
            .exec();
    }
}
