//! What a user reads of errors that libtorch raises.

use mcan::base::errors::explain;
use tch::{Device, Kind, Tensor};

#[test]
fn nobody_sees_a_cpp_stack() {
    let panic = std::panic::catch_unwind(|| {
        let _ = Tensor::zeros([2], (Kind::Float, Device::Cpu)).view([3]);
    });
    let text = panic
        .unwrap_err()
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_default();
    let told = explain(&text);
    assert!(
        told.starts_with("libtorch: shape '[3]' is invalid") && !told.contains("frame #"),
        "{told}"
    );
}

#[test]
fn a_lost_replica_sends_the_reader_to_what_it_said() {
    let told =
        explain("replica 0 of 2 (CPU): [pair.cc:538] Connection closed by peer [10.0.0.2]:4321");
    assert!(told.ends_with(
        "another process or device of this run has ended or does not answer: see its messages"
    ));
}

#[test]
fn when_memory_ran_out_what_was_needed_and_what_is_there_is_said() {
    let text = "Torch(\"CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 79.18 GiB of which \
                1.05 GiB is free. Including non-PyTorch memory, this process has 78.12 GiB memory in use. Of the \
                allocated memory 70 GiB is allocated by PyTorch.\nException raised from malloc at x.cpp:1";
    let told = explain(text);
    let expected = "the memory of GPU 1 ran out: 2.50 GiB more was needed, and of its 79.18 GiB 1.05 GiB is free; raise \
                    --ACCU, lower --BS or --NW, use --AMP=bf16, leave out --PRELOAD, or allow the program more memory \
                    (ulimit -v, the limit of the job)";
    assert_eq!(told, expected);
    let impossible = Tensor::f_zeros([1 << 50], (Kind::Float, Device::Cpu))
        .unwrap_err()
        .to_string();
    let told = explain(&impossible);
    assert!(
        told.starts_with("memory ran out: 4503599628 MB more was needed") && told.contains("--BS"),
        "{told}"
    );
    let told = explain("CUDA out of memory somewhere\nframe #0: x");
    assert!(
        told.starts_with("memory ran out: CUDA out of memory somewhere; raise --ACCU"),
        "{told}"
    );
}
