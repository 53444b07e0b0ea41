//! Rows that ops pick from: float32 numbers, or float16 numbers in half the memory.

use crate::float16::element;
use crate::op::View;
use crate::tensor::{DType, Tensor};

/// Columns of a tensor of rows: of one of words, each holds two float16 numbers.
pub fn columns(rows: Tensor) -> u32 {
    match rows.dtype {
        DType::F32 => rows.cols(),
        DType::U32 => 2 * rows.cols(),
    }
}

/// A tensor of rows that an op reads.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a, F> {
    Floats(&'a [F]),
    Halves(&'a [u32]),
}

impl<'a, F: Copy + From<f32>> Rows<'a, F> {
    pub(super) fn new(view: View<'a, F>) -> Self {
        match view {
            View::Real(floats) => Self::Floats(floats),
            View::Index(words) => Self::Halves(words),
        }
    }

    /// Element `at` of all.
    pub(super) fn element(self, at: usize) -> F {
        match self {
            Self::Floats(floats) => floats[at],
            Self::Halves(words) => element(words, at).into(),
        }
    }
}

impl Rows<'_, f32> {
    /// `out [cols]` = a row.
    pub(super) fn copy(self, row: usize, out: &mut [f32]) {
        let first = row * out.len();
        match self {
            Self::Floats(floats) => out.copy_from_slice(&floats[first..][..out.len()]),
            Self::Halves(_) => out.iter_mut().zip(first..).for_each(|(out, at)| *out = self.element(at)),
        }
    }

    /// `out [cols]` += `weight` x a row.
    pub(super) fn add(self, row: usize, weight: f32, out: &mut [f32]) {
        let first = row * out.len();
        match self {
            Self::Floats(floats) => out.iter_mut().zip(&floats[first..]).for_each(|(out, x)| *out += weight * x),
            Self::Halves(_) => out.iter_mut().zip(first..).for_each(|(out, at)| *out += weight * self.element(at)),
        }
    }
}
