//! The devices that `--GPU` names.

use crate::native::device::prepare_cuda;
use anyhow::{Result, bail, ensure};
use tch::{Cuda, Device};
use tracing::debug;

/// The devices of `--GPU`: indices of GPUs (`0` or `0, 1`), or `cpu` once for each replica (`cpu,cpu`).
///
/// Without `--GPU`: GPU `default` if there are GPUs, else the CPU. `tf32`: whether GPUs may multiply float32 matrices
/// in TF32.
///
/// # Errors
/// An index that does not exist or is named twice, GPUs together with CPUs, or text that is not an index.
pub(crate) fn devices(gpu: Option<&str>, default: usize, tf32: bool) -> Result<Vec<Device>> {
    let count = if Cuda::is_available() {
        Cuda::device_count() as usize
    } else {
        0
    };
    let named = match gpu {
        Some(text) => text
            .split(',')
            .map(|entry| named(text, entry.trim(), count))
            .collect::<Result<Vec<_>>>()?,
        None if count == 0 => {
            crate::note!("No GPU found: computing on the CPU.");
            vec![Device::Cpu]
        }
        // A launcher may make only one GPU visible to each process.
        None if count == 1 => vec![Device::Cuda(0)],
        None => vec![named(&default.to_string(), &default.to_string(), count)?],
    };
    let text = gpu.unwrap_or_default();
    ensure!(
        named
            .iter()
            .all(|device| device.is_cuda() == named[0].is_cuda()),
        "--GPU={text}: GPUs and CPUs cannot share a run; name either"
    );
    if let Some(twice) = named
        .iter()
        .enumerate()
        .find(|(i, device)| device.is_cuda() && named[..*i].contains(device))
    {
        bail!("--GPU={text}: {} is named twice", name(*twice.1));
    }
    if named[0].is_cuda() {
        prepare_cuda(tf32)?;
    }
    debug!(devices = ?named, "devices chosen");
    Ok(named)
}

fn named(text: &str, entry: &str, count: usize) -> Result<Device> {
    if entry.eq_ignore_ascii_case("cpu") {
        return Ok(Device::Cpu);
    }
    let Ok(index) = entry.parse::<usize>() else {
        bail!("--GPU={text}: {entry:?} is neither the index of a GPU nor cpu");
    };
    let available = (0..count)
        .map(|i| i.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    ensure!(
        index < count,
        "--GPU={text}: there is no GPU {index}; {}",
        if count == 0 {
            "this machine shows none, use --GPU=cpu".to_string()
        } else {
            format!("there is {available}")
        }
    );
    Ok(Device::Cuda(index))
}

/// Name of a device in messages.
pub(crate) fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("GPU {index}"),
        _ => "CPU".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_about_an_unknown_device_names_the_known_ones() {
        let message = devices(Some("0, 97"), 0, true).unwrap_err().to_string();
        assert!(
            message.contains("there is no GPU") && message.contains("--GPU"),
            "{message}"
        );
        assert!(
            devices(Some("first"), 0, true)
                .unwrap_err()
                .to_string()
                .contains("neither")
        );
        assert!(
            devices(Some("cpu,"), 0, true)
                .unwrap_err()
                .to_string()
                .contains("neither")
        );
    }

    #[test]
    fn a_cpu_may_be_several_replicas() {
        assert_eq!(devices(Some("cpu"), 0, true).unwrap(), [Device::Cpu]);
        assert_eq!(
            devices(Some("cpu, CPU"), 0, true).unwrap(),
            [Device::Cpu; 2]
        );
    }
}
