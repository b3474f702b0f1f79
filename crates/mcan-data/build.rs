//! Makes the files of `configs/` part of the program, so that they work from any working directory.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../configs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = configuration_files(&folder)?;
    files.sort();
    let mut rows = String::new();
    for file in files {
        let name = Path::new("configs").join(file.strip_prefix(&folder)?);
        writeln!(rows, "({name:?}, include_str!({file:?})),")?;
    }
    let table = Path::new(&env::var("OUT_DIR")?).join("built_in.rs");
    fs::write(table, format!("&[\n{rows}]\n"))?;
    Ok(())
}

/// Every `.yml` file below a folder.
fn configuration_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(configuration_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            files.push(path);
        }
    }
    Ok(files)
}
