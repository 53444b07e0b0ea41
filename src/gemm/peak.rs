//! What bounds products: multiply-adds of what lies in registers, on all threads.

use std::hint::black_box;

use bytemuck::Zeroable;
use pulp::Simd;
use rayon::prelude::*;

use super::Job;
use super::amx::{self, Amx};
use super::kernel::{Arithmetic, lanes, wide};
use super::rounded::{Rounded, coarse};

/// Tasks for each thread, so that none waits long for another.
const TASKS: usize = 4;

/// Does multiply-adds so many times, and returns of how many floating-point operations.
type Peak = Box<dyn Fn(u32) -> u64>;

/// What bounds [`gemm`](super::gemm), where it is not what bounds float32 vectors.
pub(crate) fn gemm_peak() -> Option<Peak> {
    Amx::detect().map(|amx| Multiplier { way: Rounded::Amx(amx), products: amx::PRODUCTS }.peak())
}

/// The same of [`gemm_rounded`](super::gemm_rounded).
pub(crate) fn gemm_rounded_peak() -> Option<Peak> {
    Rounded::available().next().map(|way| Multiplier { way, products: 1 }.peak())
}

/// The same of [`gemm_coarse`](super::gemm_coarse).
pub(crate) fn gemm_coarse_peak() -> Option<Peak> {
    coarse().map_or_else(gemm_rounded_peak, |integers| Some(Multiplier { way: Rounded::Bytes(integers), products: 1 }.peak()))
}

/// What multiplies in other ways than vectors of float32.
#[derive(Clone, Copy)]
struct Multiplier {
    way: Rounded,
    /// Products that stand for one.
    products: u64,
}

impl Multiplier {
    fn peak(self) -> Peak {
        Box::new(move |rounds| {
            let tasks = (0..TASKS * rayon::current_num_threads()).into_par_iter().with_max_len(1);
            2 * tasks.map(|_| self.multiply_add(rounds)).sum::<u64>() / self.products
        })
    }

    /// Rounds on this thread, of so many multiply-adds.
    fn multiply_add(self, rounds: u32) -> u64 {
        let mut elements = 0;
        let job = Rounds { rounds, elements: &mut elements };
        match self.way {
            Rounded::Amx(amx) => amx.multiply_in_tiles(rounds),
            Rounded::Bfloat16(bfloat16) => {
                bfloat16.run(job);
                2 * elements
            }
            Rounded::Integers(integers) => {
                integers.run(job);
                2 * elements
            }
            Rounded::Bytes(integers) => {
                integers.run(job);
                4 * elements
            }
        }
    }
}

/// Rounds of multiply-adds of vectors.
struct Rounds<'a> {
    rounds: u32,
    /// How many elements were multiplied.
    elements: &'a mut u64,
}

impl Job for Rounds<'_> {
    #[inline(always)]
    fn run<S: Simd, E: Arithmetic<S>>(self, simd: S) {
        // As many sums as leave registers for all factors.
        *self.elements = if wide::<S>() {
            multiply_add::<S, E, 5, 4>(simd, self.rounds)
        } else {
            multiply_add::<S, E, 2, 4>(simd, self.rounds)
        };
    }
}

/// Every vector of A by every one of B, round after round; returns of how many elements.
#[inline(always)]
fn multiply_add<S: Simd, E: Arithmetic<S>, const ROWS: usize, const VECTORS: usize>(simd: S, rounds: u32) -> u64 {
    let bits = |number: usize| E::splat(simd, f32::from_bits(0x3f9d_3f61 + 0x0013_0007 * number as u32));
    let a: [E::Vector; ROWS] = std::array::from_fn(bits);
    let b: [E::Vector; VECTORS] = std::array::from_fn(|vector| bits(ROWS + vector));
    let mut sums = [[E::Vector::zeroed(); VECTORS]; ROWS];
    for _ in 0..rounds {
        // From where they may have changed, or the compiler would multiply once and for all.
        let a = *black_box(&a);
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = E::multiply_add(simd, a, b, *sum);
            }
        }
    }
    black_box(sums);
    u64::from(rounds) * (ROWS * VECTORS * lanes::<S>()) as u64
}

#[cfg(test)]
mod tests {
    use super::{gemm_coarse_peak, gemm_peak, gemm_rounded_peak};

    /// That they run: how fast is for those to see who measure it.
    #[test]
    fn all_instructions_of_this_processor_run() {
        for peak in [gemm_peak(), gemm_rounded_peak(), gemm_coarse_peak()].into_iter().flatten() {
            assert_eq!(peak(0), 0);
            assert!(peak(100) > 0);
        }
    }
}
