//! The index arrays of a batch on their way to a device: side by side in one buffer, which takes one copy.

use crate::native::device;
use anyhow::{Result, ensure};
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

/// Arrays start at multiples of this, so that each can be seen as what it is.
const ALIGNMENT: usize = 8;

/// Arrays to be sent.
#[derive(Debug, Default)]
pub(crate) struct StagingBuffer {
    bytes: Vec<u8>,
}

/// Which part of a parcel an array is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    kind: Kind,
    first_byte: usize,
    bytes: usize,
}

/// Numbers that travel as their bytes.
pub(crate) trait Plain: Element + Copy {
    /// The bytes of `values`, appended to `out`.
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

/// A parcel on its device.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    /// All arrays, uint8.
    pub(crate) buffer: Tensor,
}

impl DeviceBuffer {
    /// The array that was added as `piece`; a view, no copy.
    ///
    /// # Errors
    /// When that was another parcel's.
    pub(crate) fn array(&self, piece: Slot) -> Result<Tensor> {
        let (first, count) = (piece.first_byte as i64, piece.bytes as i64);
        ensure!(
            first + count <= self.buffer.numel() as i64,
            "an array of another parcel"
        );
        Ok(self
            .buffer
            .f_narrow(0, first, count)?
            .f_view_dtype(piece.kind)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_out_of_a_parcel_as_they_went_in() {
        let mut parcel = StagingBuffer::default();
        let odd = parcel.add(&[1i32, -2, 3]);
        let (long, none, real) = (
            parcel.add(&[i64::MIN, 7]),
            parcel.add::<i64>(&[]),
            parcel.add(&[0.5f32]),
        );
        let delivery = parcel.send(Device::Cpu, true).unwrap();
        let array = |piece| delivery.array(piece).unwrap();
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
