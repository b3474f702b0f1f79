//! Copies to and from a device, streams, events, seeds and memory. Streams and events do nothing on a CPU.

use super::ffi;
use super::{check, returned};
use anyhow::Result;
use std::ffi::c_void;
use tch::kind::Element;
use tch::{Device, Tensor};

/// The device as the C interface names it: the index of a GPU, or -1.
pub(super) fn gpu(device: Device) -> i64 {
    match device {
        Device::Cuda(index) => index as i64,
        _ => -1,
    }
}

/// Prepares libtorch for GPUs: whether products of float32 matrices may use TF32, and deterministic kernels. Called
/// before the first work on a GPU.
///
/// # Errors
/// An error of libtorch.
pub(crate) fn prepare_cuda(tf32: bool) -> Result<()> {
    // cuBLAS and the LSTM of cuDNN are deterministic if their workspace has a fixed size.
    const WORKSPACE: &str = "CUBLAS_WORKSPACE_CONFIG";
    if std::env::var_os(WORKSPACE).is_none() {
        // SAFETY: a run calls this before it starts threads. libtorch reads the variable at the first product on a GPU.
        unsafe { std::env::set_var(WORKSPACE, ":4096:8") };
    }
    // SAFETY: sets flags of libtorch.
    check(unsafe { ffi::mcan_prepare_cuda(tf32) })
}

/// Seeds libtorch's default random generator of a device.
///
/// # Errors
/// An error of libtorch.
pub(crate) fn seed(device: Device, seed: u64) -> Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { ffi::mcan_seed(gpu(device), seed) })
}

/// Free memory of a GPU in bytes; absent for a CPU, and if libtorch cannot tell.
pub(crate) fn free_memory(device: Device) -> Option<u64> {
    let mut bytes = 0;
    // SAFETY: `bytes` outlives the call.
    (device.is_cuda() && check(unsafe { ffi::mcan_free_memory(gpu(device), &mut bytes) }).is_ok())
        .then_some(bytes)
}

/// The largest amount of memory that libtorch has reserved on a GPU so far, in bytes; absent for a CPU.
pub(crate) fn peak_memory(device: Device) -> Option<u64> {
    let mut bytes = 0;
    // SAFETY: `bytes` outlives the call.
    (device.is_cuda() && check(unsafe { ffi::mcan_peak_memory(gpu(device), &mut bytes) }).is_ok())
        .then_some(bytes)
}

/// Copies `values` to a vector on `device`. With `pin` the copy to a GPU starts from page-locked memory and is
/// asynchronous.
///
/// # Errors
/// When memory runs out.
pub(crate) fn send<T: Element>(values: &[T], device: Device, pin: bool) -> Result<Tensor> {
    let (bytes, count) = (values.as_ptr().cast(), size_of_val(values) as i64);
    // SAFETY: `values` are numbers, `count` bytes of them, and are copied during the call.
    let sent = returned(|out| unsafe { ffi::mcan_send(out, bytes, count, gpu(device), pin) })?;
    Ok(sent.f_view_dtype(T::KIND)?)
}

/// [`send`] for owned values: on a CPU the tensor adopts their memory instead of copying it.
///
/// # Errors
/// When memory runs out.
pub(crate) fn give<T: Element + Send + 'static>(
    mut values: Vec<T>,
    device: Device,
    pin: bool,
) -> Result<Tensor> {
    if device != Device::Cpu || values.is_empty() {
        return send(&values, device, pin);
    }
    extern "C" fn free<T>(owner: *mut c_void) {
        // SAFETY: the box of `values` below, which libtorch passes back once.
        drop(unsafe { Box::from_raw(owner.cast::<Vec<T>>()) });
    }
    let (bytes, count) = (values.as_mut_ptr().cast(), size_of_val(&values[..]) as i64);
    let owner = Box::into_raw(Box::new(values)).cast();
    // SAFETY: the memory of a vector stays where it is when the vector moves, and lives until `free` is called.
    let adopted = returned(|out| unsafe { ffi::mcan_adopt(out, bytes, count, owner, free::<T>) })?;
    Ok(adopted.f_view_dtype(T::KIND)?)
}

/// Copies `tensor` to the CPU, asynchronously. The copy is complete once an [`Event`] recorded afterwards is reached.
///
/// # Errors
/// When memory runs out.
pub(crate) fn fetch(tensor: &Tensor) -> Result<Tensor> {
    // SAFETY: `out` is written before null is returned.
    returned(|out| unsafe { ffi::mcan_fetch(out, tensor.as_ptr()) })
}

/// Gives the calling thread a stream of its own on `device`: its work on a GPU runs beside the work of other threads.
///
/// # Errors
/// An error of libtorch.
pub(crate) fn use_side_stream(device: Device) -> Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { ffi::mcan_take_side_stream(gpu(device)) })
}

/// Lets the calling thread's stream use `tensor`, which another stream has made: its memory is not reused before this
/// stream is done with it. The stream must also wait for the tensor: see [`Event::stream_wait`].
///
/// # Errors
/// An error of libtorch.
pub(crate) fn share_with_this_stream(tensor: &Tensor) -> Result<()> {
    // SAFETY: borrowed for the length of the call.
    check(unsafe { ffi::mcan_share_with_this_stream(tensor.as_ptr()) })
}

/// An event on a stream of a device. It is reached when all work that the stream was given before is done; on a CPU at
/// once.
#[derive(Debug)]
pub(crate) struct Event(*mut ffi::RawEvent);

// SAFETY: libtorch allows an event to be used by one thread after another.
unsafe impl Send for Event {}

impl Event {
    /// Records an event on the calling thread's current stream of `device`.
    ///
    /// # Errors
    /// An error of libtorch.
    pub(crate) fn now(device: Device) -> Result<Event> {
        let mut event = std::ptr::null_mut();
        // SAFETY: `event` outlives the call.
        check(unsafe { ffi::mcan_record_event(&mut event, gpu(device)) })?;
        Ok(Event(event))
    }

    /// Makes the calling thread's current stream wait for this event; the thread itself does not wait.
    ///
    /// # Errors
    /// An error of libtorch.
    pub(crate) fn stream_wait(&self) -> Result<()> {
        // SAFETY: the event lives as long as `self`; null is allowed.
        check(unsafe { ffi::mcan_stream_wait(self.0) })
    }

    /// Makes the calling thread wait for this event.
    ///
    /// # Errors
    /// A failure of the device's work.
    pub(crate) fn wait(&self) -> Result<()> {
        // SAFETY: as for `stream_wait`.
        check(unsafe { ffi::mcan_wait_for_event(self.0) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: freed once; null is allowed.
        unsafe { ffi::mcan_free_event(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::testing::{gpu_to_test, uses_tf32};
    use tch::Kind;

    #[test]
    fn tf32_is_on_or_off_in_products_and_in_the_lstm() {
        for tf32 in [false, true] {
            prepare_cuda(tf32).unwrap();
            assert_eq!(uses_tf32(), (tf32, tf32));
        }
    }

    #[test]
    fn values_arrive_as_they_were_sent() {
        for device in [Some(Device::Cpu), gpu_to_test()].into_iter().flatten() {
            for pin in [false, true] {
                let sent = send(&[1.5f32, -2.0], device, pin).unwrap();
                assert_eq!((sent.device(), sent.kind()), (device, Kind::Float));
                let back = fetch(&sent).unwrap();
                Event::now(device).unwrap().wait().unwrap();
                assert_eq!(Vec::<f32>::try_from(&back).unwrap(), [1.5, -2.0]);
                assert_eq!(send::<i64>(&[], device, pin).unwrap().size(), [0]);
                let given = give(vec![3i64, 4], device, pin).unwrap();
                assert_eq!((given.device(), given.kind()), (device, Kind::Int64));
                assert_eq!(given, Tensor::from_slice(&[3i64, 4]).to_device(device));
                assert_eq!(give::<f32>(Vec::new(), device, pin).unwrap().size(), [0]);
            }
        }
    }

    #[test]
    fn work_on_two_streams_of_a_gpu_is_done_in_the_order_of_events() {
        let Some(device) = gpu_to_test() else { return };
        let (sender, made) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            use_side_stream(device).unwrap();
            for i in 0..200 {
                // Takes long enough to be unfinished when the other thread uses it.
                let work = Tensor::full([1500, 1500], 1.0, (Kind::Float, device));
                let made = work.matmul(&work).matmul(&work) * f64::from(i);
                sender.send((made, Event::now(device).unwrap())).unwrap();
            }
        });
        for (i, (tensor, event)) in made.into_iter().enumerate() {
            event.stream_wait().unwrap();
            share_with_this_stream(&tensor).unwrap();
            assert_eq!(tensor.max().double_value(&[]), 1500.0 * 1500.0 * i as f64);
        }
        thread.join().unwrap();
        assert!(
            free_memory(device).is_none_or(|bytes| bytes > 0) && peak_memory(device).unwrap() > 0
        );
    }

    #[test]
    fn a_seed_repeats_what_a_device_draws() {
        let draw = || {
            seed(Device::Cpu, 11).unwrap();
            Tensor::rand([64], (Kind::Float, Device::Cpu))
        };
        // Other tests draw from the same generator at the same time.
        assert!((0..20).any(|_| draw().equal(&draw())));
    }

    #[test]
    fn a_cpu_has_nothing_to_wait_for() {
        use_side_stream(Device::Cpu).unwrap();
        let event = Event::now(Device::Cpu).unwrap();
        event.stream_wait().unwrap();
        event.wait().unwrap();
        share_with_this_stream(&Tensor::from(1f32)).unwrap();
        assert_eq!(
            (free_memory(Device::Cpu), peak_memory(Device::Cpu)),
            (None, None)
        );
    }
}
