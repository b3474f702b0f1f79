//! Compiles `src/native` against libtorch's headers and sets the run path, so that the binary finds libtorch by itself.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=src/native");
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        panic!("torch-sys did not say where libtorch is; run ./setup.sh libtorch first");
    };
    // A run path must hold when the program is started from any folder.
    let lib = lib.canonicalize().unwrap_or(lib);
    let include = lib.with_file_name("include");
    let mut native = cc::Build::new();
    // libtorch's own OpenMP, so that both share its threads. Without the flag at::parallel_for has one thread.
    if let Some(runtime) = openmp(&lib) {
        native.flag("-fopenmp");
        println!("cargo:rustc-link-arg={}", runtime.display());
    }
    native
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(
            ["native", "gemm", "linear", "norm", "attention", "varlen", "testing", "device", "weights"]
                .map(|name| format!("src/native/{name}.cpp")),
        )
        // The kernels live from their loops being vectorised, in debug builds too: tests train whole models.
        .opt_level(3)
        .compile("mcan_native");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    if lib.join("libtorch_cuda.so").exists() {
        // No symbol of libtorch_cuda is referenced, so the linker would drop it, and with it every CUDA device.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch_cuda");
        println!("cargo:rustc-link-arg=-Wl,--as-needed");
    }
}

/// The OpenMP runtime that came with libtorch.
fn openmp(lib: &Path) -> Option<PathBuf> {
    let files = lib.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libgomp")))
}
