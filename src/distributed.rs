//! The devices that a run uses.

use crate::native::device::prepare_cuda;
use anyhow::{Result, bail, ensure};
use tch::{Cuda, Device};

/// The device that `--GPU` names: an index (`0`), or `cpu`; absent: GPU 0 where there is one, else the CPU. `tf32`: whether a
/// GPU may compute products of float32 matrices in TF32.
///
/// # Errors
/// An index that does not exist (lists those that do), several indices, anything that is no index.
pub fn device(gpu: Option<&str>, tf32: bool) -> Result<Device> {
    let count = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    let Some(text) = gpu else {
        if count == 0 {
            eprintln!("No GPU found: computing on the CPU.");
        }
        return if count == 0 { Ok(Device::Cpu) } else { cuda(0, tf32) };
    };
    if text.trim().eq_ignore_ascii_case("cpu") {
        return Ok(Device::Cpu);
    }
    let indices = text.split(',').map(|part| index(text, part, count)).collect::<Result<Vec<usize>>>()?;
    match indices[..] {
        [index] => cuda(index, tf32),
        _ => bail!("--GPU={text}: training on several GPUs is not available in this version; name one"),
    }
}

/// A GPU on which a run can be repeated bit for bit.
fn cuda(index: usize, tf32: bool) -> Result<Device> {
    prepare_cuda(tf32)?;
    Ok(Device::Cuda(index))
}

fn index(text: &str, part: &str, count: i64) -> Result<usize> {
    let Ok(index) = part.trim().parse::<usize>() else {
        bail!("--GPU={text}: {part:?} is neither the index of a GPU nor cpu");
    };
    let there = (0..count).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    ensure!(
        (index as i64) < count,
        "--GPU={text}: there is no GPU {index}; {}",
        if count == 0 { "this machine shows none, use --GPU=cpu".to_string() } else { format!("there is {there}") }
    );
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_with_those_that_are() {
        let message = device(Some("0, 97"), true).unwrap_err().to_string();
        assert!(message.contains("there is no GPU") && message.contains("--GPU"), "{message}");
        assert!(device(Some("first"), true).unwrap_err().to_string().contains("neither"));
        assert_eq!(device(Some("cpu"), true).unwrap(), Device::Cpu);
    }
}
