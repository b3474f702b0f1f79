//! The kernels of every device compute the same network, and a step asks little of the host.

use super::*;
use crate::checkpoint::Algorithm;
use crate::datasets::LossKind;
use crate::native::testing::{gpu_to_test, operations, register_reference_kernels};
use crate::nn::loss::loss;
use crate::nn::optim::{HyperParameters, Optimizer};
use crate::nn::pass::Backend;
use std::collections::BTreeMap;

/// Logits of a training pass by this backend, and the gradients of all parameters.
fn results(net: &Network, dtype: Kind, backend: Backend) -> (Tensor, Vec<Tensor>) {
    let device = net.parameters.tensors[0].device();
    let mut pass = Pass::training(dtype, 7, 1, device).unwrap();
    pass.backend = backend;
    crate::native::clear_grads(&net.parameters.tensors).unwrap();
    let logits = net
        .forward(&packed_on(device, batch(false)).unwrap(), &pass)
        .unwrap();
    let weights = Tensor::arange(logits.numel() as i64, (Kind::Float, device))
        .cos()
        .view_as(&logits);
    (&logits * weights).sum(Kind::Float).backward();
    let gradients = net
        .parameters
        .tensors
        .iter()
        .map(|parameter| parameter.grad().to_device(Device::Cpu));
    (logits.detach().to_device(Device::Cpu), gradients.collect())
}

/// The distance of `a` from `b`, relative to the size of `b`: of the logits first, then of each gradient.
fn apart(a: &(Tensor, Vec<Tensor>), b: &(Tensor, Vec<Tensor>)) -> Vec<f64> {
    let one = |a: &Tensor, b: &Tensor| {
        (a - b).norm().double_value(&[]) / b.norm().double_value(&[]).max(1.0)
    };
    std::iter::once(one(&a.0, &b.0))
        .chain(a.1.iter().zip(&b.1).map(|(a, b)| one(a, b)))
        .collect()
}

fn mean(apart: &[f64]) -> f64 {
    apart.iter().sum::<f64>() / apart.len() as f64
}

/// Checks each distance and their mean. In bfloat16, rounding may decide whether a sum near zero passes a ReLU. In so
/// small a network that changes a whole gradient, so only the mean is small then.
fn assert_near(apart: &[f64], each: f64, on_average: f64) {
    assert!(
        apart.iter().all(|&share| share < each) && mean(apart) < on_average,
        "{}: {apart:?}",
        mean(apart)
    );
}

/// The reference arm defines what the native kernels compute.
#[test]
fn the_native_kernels_compute_the_formulas() {
    let net = net_without_dropout(4, Device::Cpu);
    let formula = results(&net, Kind::Float, Backend::Reference);
    let native = results(&net, Kind::Float, Backend::Native);
    assert_near(&apart(&native, &formula), 1e-5, 1e-5);
}

/// The code that a GPU runs, on the CPU. Heads of width 8 have a variable-length kernel, heads of width 4 are computed
/// on a padded grid.
#[test]
fn the_kernels_of_a_gpu_compute_what_those_of_the_cpu_do() {
    register_reference_kernels();
    for multi_head in [4, 2] {
        let net = net_without_dropout(multi_head, Device::Cpu);
        let exact = results(&net, Kind::Float, Backend::Native);
        let from_exact = |dtype, backend| apart(&results(&net, dtype, backend), &exact);
        assert_near(&from_exact(Kind::Float, Backend::Libtorch), 1e-5, 1e-5);
        let ours = mean(&from_exact(Kind::BFloat16, Backend::Native));
        assert_near(
            &from_exact(Kind::BFloat16, Backend::Libtorch),
            0.4,
            2.0 * ours + 0.02,
        );
    }
}

#[test]
fn a_gpu_computes_what_the_cpu_does() {
    let Some(gpu) = gpu_to_test() else { return };
    for multi_head in [4, 2] {
        let (here, there) = (
            net_without_dropout(multi_head, Device::Cpu),
            net_without_dropout(multi_head, gpu),
        );
        for (dtype, each, on_average) in [(Kind::Float, 1e-4, 1e-4), (Kind::BFloat16, 0.4, 0.05)] {
            let apart = apart(
                &results(&there, dtype, Backend::Libtorch),
                &results(&here, dtype, Backend::Native),
            );
            assert_near(&apart, each, on_average);
        }
    }
}

/// The number of calls of each operation of libtorch in a training step of a network of the published depth.
fn operations_of_a_step(dtype: Kind) -> BTreeMap<String, u64> {
    register_reference_kernels();
    let net = network(
        &McanKeys {
            layer: 6,
            multi_head: 2,
            ..SIZES
        },
        20,
        7,
        1,
        Device::Cpu,
    );
    let adam = Optimizer::new(
        &net.parameters.tensors,
        HyperParameters {
            algorithm: Algorithm::Adam,
            betas: (0.9, 0.98),
            eps: 1e-9,
        },
    );
    let mut batch = batch(false);
    batch.no_words = vec![false; 3];
    batch.regions.as_mut().unwrap().all_padding = vec![false; 3];
    let batch = packed(batch).unwrap();
    let mut pass = Pass::training(dtype, 7, 1, Device::Cpu).unwrap();
    pass.backend = Backend::Libtorch;
    operations(|| {
        adam.zero_grad().unwrap();
        let (logits, targets) = (net.forward(&batch, &pass).unwrap(), batch.targets());
        let loss = loss(LossKind::BinaryCrossEntropy, &logits, &targets).unwrap();
        loss.backward();
    })
}

/// The host waits for the device in operations that read a value from it, or whose output size depends on a value.
#[test]
fn a_step_never_waits_for_the_device() {
    for dtype in [Kind::Float, Kind::BFloat16] {
        let operations = operations_of_a_step(dtype);
        for waiting in [
            "item",
            "_local_scalar_dense",
            "nonzero",
            "is_nonzero",
            "equal",
            "masked_select",
            "_unique2",
        ] {
            assert_eq!(
                operations.get(&format!("aten::{waiting}")),
                None,
                "{dtype:?}: {operations:?}"
            );
        }
        assert!(operations["aten::addmm"] > 70, "operations are counted");
    }
}

/// A GPU is idle while the host starts many small operations one by one.
#[test]
fn parameters_are_cast_and_joined_together() {
    let (single, half) = (
        operations_of_a_step(Kind::Float),
        operations_of_a_step(Kind::BFloat16),
    );
    let count =
        |operations: &BTreeMap<String, u64>, name: &str| operations[&format!("aten::{name}")];
    // 18 attention layers, 14 MLPs and 4 other layers each cast all their parameters at once, and all their gradients.
    assert_eq!(
        (
            count(&single, "_foreach_copy_"),
            count(&half, "_foreach_copy_")
        ),
        (18, 2 * 36)
    );
    // The remaining casts are those of activations. The parameters, cast one by one, would be 296 more.
    let casts = count(&half, "_to_copy") - count(&single, "_to_copy");
    assert!(casts <= 160, "{casts}");
}
