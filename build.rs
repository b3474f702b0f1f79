//! Compiles `src/native` against libtorch's headers and sets the run path, so that the binary finds libtorch by itself.

use std::env;
use std::path::{Path, PathBuf};

const NATIVE: [&str; 12] = [
    "native",
    "gemm",
    "linear",
    "norm",
    "attention",
    "varlen",
    "testing",
    "device",
    "random",
    "weights",
    "group",
    "nccl",
];
const HEADERS: [&str; 5] = ["common.h", "gemm.h", "mask.h", "group.h", "gloo/context.h"];

fn main() {
    for file in NATIVE
        .map(|name| format!("{name}.cpp"))
        .iter()
        .map(String::as_str)
        .chain(HEADERS)
    {
        println!("cargo:rerun-if-changed=src/native/{file}");
    }
    // Clippy, which sets this, runs build scripts of its own and links nothing: it need not wait for the C++.
    println!("cargo:rerun-if-env-changed=CLIPPY_ARGS");
    if env::var_os("CLIPPY_ARGS").is_some() {
        return;
    }
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
    if let Some(folders) = nccl_headers(&lib) {
        native.includes(folders).define("MCAN_NCCL", None);
    }
    native
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include("src/native")
        .include(include.join("torch/csrc/api/include"))
        .files(NATIVE.map(|name| format!("src/native/{name}.cpp")))
        // Debug information about libtorch's headers would double the time of compiling.
        .debug(false)
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

/// Folders with the headers of CUDA and NCCL, which libtorch's interface to NCCL includes: those of the packages that
/// pip has installed beside torch, or of the system. None where libtorch has no CUDA, or some are missing.
fn nccl_headers(lib: &Path) -> Option<Vec<PathBuf>> {
    const NEEDED: [&str; 5] = [
        "nccl.h",
        "cuda_runtime_api.h",
        "cusparse.h",
        "crt/host_config.h",
        "nv/target",
    ];
    let packages = lib.parent()?.parent()?.join("nvidia");
    let toolkit = env::var_os("CUDA_HOME")
        .map_or_else(|| "/usr/local/cuda".into(), PathBuf::from)
        .join("include");
    let mut folders = ["cu13/include", "cu13/include/cccl", "nccl/include"]
        .map(|name| packages.join(name))
        .to_vec();
    folders.extend([toolkit.join("cccl"), toolkit, "/usr/include".into()]);
    let found = lib.join("libtorch_cuda.so").exists()
        && NEEDED
            .iter()
            .all(|header| folders.iter().any(|folder| folder.join(header).exists()));
    folders.retain(|folder| folder.exists() && folder != Path::new("/usr/include"));
    found.then_some(folders)
}

/// The OpenMP runtime that came with libtorch.
fn openmp(lib: &Path) -> Option<PathBuf> {
    let files = lib
        .read_dir()
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    files.into_iter().find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("libgomp"))
    })
}
