//! The staging buffer: the index arrays of a batch side by side, so that one copy brings all of them to a device.

use crate::native::device;
use anyhow::{Result, ensure};
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

/// Alignment of each array in bytes, as its type needs it.
const ALIGNMENT: usize = 8;

/// Arrays that wait to be copied to a device.
#[derive(Debug, Default)]
pub(crate) struct StagingBuffer {
    bytes: Vec<u8>,
}

/// The place of an array in a staging buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    kind: Kind,
    first_byte: usize,
    bytes: usize,
}

/// Numbers that a staging buffer stores as bytes.
pub(crate) trait Plain: Element + Copy {
    /// Appends the bytes of `values` to `out`.
    fn append(values: &[Self], out: &mut Vec<u8>);
}

macro_rules! plain {
    ($($number:ty),*) => {
        $(impl Plain for $number {
            fn append(values: &[Self], out: &mut Vec<u8>) {
                out.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
            }
        })*
    };
}
plain!(i32, i64, f32);

impl StagingBuffer {
    /// Adds an array.
    pub(crate) fn add<T: Plain>(&mut self, values: &[T]) -> Slot {
        let first_byte = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(first_byte, 0);
        T::append(values, &mut self.bytes);
        Slot {
            kind: T::KIND,
            first_byte,
            bytes: self.bytes.len() - first_byte,
        }
    }

    /// Copies all arrays to `device`; see [`device::send`] for `pin`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub(crate) fn send(mut self, device: Device, pin: bool) -> Result<DeviceBuffer> {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(DeviceBuffer {
            buffer: device::send(&self.bytes, device, pin)?,
        })
    }
}

/// The arrays of a staging buffer on a device.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    /// All arrays, uint8.
    pub(crate) buffer: Tensor,
}

impl DeviceBuffer {
    /// The array in `slot`: a view, not a copy.
    ///
    /// # Errors
    /// A slot of another buffer.
    pub(crate) fn array(&self, slot: Slot) -> Result<Tensor> {
        let (first, count) = (slot.first_byte as i64, slot.bytes as i64);
        ensure!(
            first + count <= self.buffer.numel() as i64,
            "a slot of another staging buffer"
        );
        Ok(self
            .buffer
            .f_narrow(0, first, count)?
            .f_view_dtype(slot.kind)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_out_of_a_buffer_as_they_went_in() {
        let mut staging = StagingBuffer::default();
        let odd = staging.add(&[1i32, -2, 3]);
        let (long, none, real) = (
            staging.add(&[i64::MIN, 7]),
            staging.add::<i64>(&[]),
            staging.add(&[0.5f32]),
        );
        let sent = staging.send(Device::Cpu, true).unwrap();
        let array = |slot| sent.array(slot).unwrap();
        assert_eq!(Vec::<i32>::try_from(array(odd)).unwrap(), [1, -2, 3]);
        assert_eq!(Vec::<i64>::try_from(array(long)).unwrap(), [i64::MIN, 7]);
        assert_eq!(
            (array(none).size(), array(none).kind()),
            (vec![0], Kind::Int64)
        );
        assert_eq!(Vec::<f32>::try_from(array(real)).unwrap(), [0.5]);
        assert!(
            StagingBuffer::default()
                .send(Device::Cpu, false)
                .unwrap()
                .array(long)
                .is_err()
        );
    }
}
