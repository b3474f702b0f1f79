//! Compiles `src/native` against libtorch's headers and sets the run path, so that the binary finds libtorch.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The libtorch whose interfaces `src/native` uses, among them ones without a promise of stability.
const LIBTORCH: &str = "2.11";

const SOURCES: [&str; 14] = [
    "adam",
    "attention",
    "common",
    "device",
    "dropout",
    "gemm",
    "group",
    "linear",
    "nccl",
    "norm",
    "random",
    "rows",
    "varlen",
    "weights",
];
/// Linked into tests only: see `ffi.rs`.
const TESTING: &str = "testing";

/// The names of Gloo that ProcessGroupGloo.hpp of libtorch 2.11 mentions. Gloo itself is inside libtorch_cpu, but the
/// Gloo headers that libtorch's headers include are not part of it. ProcessGroupGloo holds these classes by pointer, so
/// declarations suffice: none of them is created here, and their layout is never used.
const GLOO_CONTEXT: &str = r#"// Written by build.rs for libtorch 2.11.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace rendezvous {
// The base of ProcessGroupGloo::GlooStore, whose inline functions override these.
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(const std::string &key, const std::vector<char> &data) = 0;
  virtual std::vector<char> get(const std::string &key) = 0;
  virtual void wait(const std::vector<std::string> &keys) = 0;
  virtual void wait(const std::vector<std::string> &keys, const std::chrono::milliseconds &timeout) = 0;
};
}  // namespace rendezvous

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

}  // namespace gloo
"#;
/// Headers of Gloo that libtorch's headers include without using a name of theirs.
const GLOO_EMPTY: [&str; 4] = [
    "algorithm.h",
    "common/error.h",
    "rendezvous/store.h",
    "transport/device.h",
];

fn main() {
    println!("cargo:rerun-if-changed=src/native");
    // Clippy, which sets this, runs build scripts of its own and links nothing: it does not need the C++.
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
    check_version(&include);
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
        .include(gloo_headers())
        .include("src/native")
        .include(include.join("torch/csrc/api/include"))
        // Debug information about libtorch's headers would double the time of compiling.
        .debug(false)
        // The kernels live from their loops being vectorised, in debug builds too: tests train whole models.
        .opt_level(3);
    let source = |name: &str| format!("src/native/{name}.cpp");
    // The attribute in ffi.rs links this library, where it is needed.
    native
        .clone()
        .cargo_metadata(false)
        .file(source(TESTING))
        .compile("mcan_native_testing");
    native.files(SOURCES.map(source)).compile("mcan_native");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    if lib.join("libtorch_cuda.so").exists() {
        // No symbol of libtorch_cuda is referenced, so the linker would drop it, and with it every CUDA device.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch_cuda");
        println!("cargo:rustc-link-arg=-Wl,--as-needed");
    }
}

/// Panics with what to do unless the headers are those of [`LIBTORCH`].
fn check_version(include: &Path) {
    let header = include.join("torch/headeronly/version.h");
    println!("cargo:rerun-if-changed={}", header.display());
    let text = fs::read_to_string(&header).unwrap_or_default();
    let number = |name: &str| {
        let rest = text
            .split(&format!("#define TORCH_VERSION_{name} "))
            .nth(1)?;
        rest.lines().next().map(|number| number.trim().to_owned())
    };
    let found = match (number("MAJOR"), number("MINOR")) {
        (Some(major), Some(minor)) => format!("{major}.{minor}"),
        _ => "of another version".to_owned(),
    };
    assert!(
        found == LIBTORCH,
        "mcan is built with libtorch {LIBTORCH}, but the libtorch in {} is {found}: unset LIBTORCH and run \
         ./setup.sh libtorch, or set LIBTORCH to a libtorch {LIBTORCH}",
        include.with_file_name("").display()
    );
}

/// Writes [`GLOO_CONTEXT`] and [`GLOO_EMPTY`]; the folder to include.
fn gloo_headers() -> PathBuf {
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        panic!("Cargo sets OUT_DIR for build scripts");
    };
    let folder = out.join("gloo_headers");
    let empty = GLOO_EMPTY.map(|name| (name, "#pragma once\n"));
    for (name, text) in empty.into_iter().chain([("context.h", GLOO_CONTEXT)]) {
        let path = folder.join("gloo").join(name);
        let written =
            fs::create_dir_all(path.with_file_name("")).and_then(|()| fs::write(&path, text));
        if let Err(error) = written {
            panic!("{}: {error}", path.display());
        }
    }
    folder
}

/// Folders with the headers of CUDA and NCCL that libtorch's interface to NCCL includes: from the packages that pip has
/// installed beside torch, or from the system. None where libtorch has no CUDA, or where a header is missing.
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
