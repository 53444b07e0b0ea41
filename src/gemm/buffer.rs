//! Memory that products work in, kept from one to the next: to get pages that are new to the process took a tenth of the time of a product of
//! 512 x 4096 x 384.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::memory::Aligned;

/// Buffers that a thread keeps, and numbers in each, at most: 64 MiB.
const KEPT: usize = 4;
const KEPT_LEN: usize = 1 << 24;

thread_local! {
    static SPARE: RefCell<Vec<Aligned<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers, of which nothing is known at first; their memory goes back to the thread.
#[derive(Default)]
pub(super) struct Buffer {
    /// These and maybe others.
    values: Aligned<f32>,
    len: usize,
}

impl Buffer {
    /// So many numbers.
    pub(super) fn of(len: usize) -> Self {
        let mut values = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        if values.len() < len {
            values = Aligned::new(len);
        }
        Self { values, len }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        // A thread that ends keeps nothing.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if !values.is_empty() && spare.len() < KEPT && values.len() <= KEPT_LEN {
                spare.push(values);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}
