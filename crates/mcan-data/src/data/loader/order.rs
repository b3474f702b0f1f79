//! The order of the samples in an epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The positions 0 to `len - 1` in a random order, which depends only on `seed` and `epoch` (from 0).
pub fn shuffled(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(epoch);
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut generator);
    order
}
