//! A CPU random generator that is independent of libtorch's global one.
//!
//! All threads of a process share libtorch's default generator, so that the draws of one thread change those of
//! another. Replicas are threads, and so are tests.

use super::check;
use super::ffi;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

owner! {
    /// A random generator on the CPU. It draws the same numbers as libtorch's default one after `manual_seed`.
    pub Generator of RawGenerator, freed by mcan_free_generator
}

impl Generator {
    /// A generator with this seed.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn new(seed: u64) -> Result<Generator> {
        let mut generator = std::ptr::null_mut();
        // SAFETY: `generator` is written before null is returned.
        check(unsafe { ffi::mcan_new_generator(&mut generator, seed) })?;
        Ok(Generator(generator))
    }

    /// Numbers drawn uniformly from [-`bound`, `bound`), float32.
    ///
    /// # Errors
    /// When memory runs out.
    pub(crate) fn uniform(&mut self, shape: &[i64], bound: f64) -> Result<Tensor> {
        let tensor = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
        // SAFETY: both are borrowed for the length of the call, and the tensor is not shared.
        check(unsafe { ffi::mcan_draw_uniform(self.0, tensor.as_ptr(), -bound, bound) })?;
        Ok(tensor)
    }

    /// Numbers drawn from the standard normal distribution, float32.
    ///
    /// # Errors
    /// When memory runs out.
    pub(crate) fn normal(&mut self, shape: &[i64]) -> Result<Tensor> {
        let tensor = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
        // SAFETY: as above.
        check(unsafe { ffi::mcan_draw_normal(self.0, tensor.as_ptr(), 0.0, 1.0) })?;
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_whatever_others_draw() {
        let draw = |seed| {
            let mut generator = Generator::new(seed).unwrap();
            let first = generator.uniform(&[3, 50], 0.5).unwrap();
            let _ = Tensor::rand([7], (Kind::Float, Device::Cpu));
            (first, generator.normal(&[200]).unwrap())
        };
        assert_eq!(draw(11), draw(11));
        assert_ne!(draw(11), draw(12));
        let (uniform, normal) = draw(11);
        assert!(uniform.abs().max().double_value(&[]) <= 0.5);
        assert!((normal.std(true).double_value(&[]) - 1.0).abs() < 0.2);
    }
}
