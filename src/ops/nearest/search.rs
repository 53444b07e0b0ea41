//! The search on the CPU: products are selected from while they are in cache.
//!
//! A processor that multiplies 16-bit integers faster finds with them which rows may be among the best, and makes float32 products of
//! these alone. No row is lost: what rounding does to a product is bounded by the lengths of what it takes from both factors (by the
//! inequality of Cauchy and Schwarz), and all rows within twice that of the k-th best are kept. Queries that too many rows are that
//! close to are searched for in float32.

use rayon::prelude::*;

use crate::gemm::{self, Integers, LENGTH, Matrix, Quantized};
use crate::select::Best;
use crate::simd::{dot, vectorized};

/// Most queries that a thread takes at once.
const MAX_SHARE: usize = 1024;

/// Rows of the block that a share of queries is compared with at once.
const COMPARED: usize = 256;

/// Queries, rows for each of the k best, and dimensions, from which on rounding repays its time: on a processor of AVX2, 2,000 queries
/// of 384 dimensions take .77 of the time, of 64 to 128 dimensions as long.
const ROUNDED_QUERIES: usize = 32;
const ROUNDED_ROWS: usize = 8;
const ROUNDED_DIM: usize = 192;

/// Rows that are searched.
pub(super) struct Block<'a> {
    pub(super) rows: &'a [f32],
    pub(super) dim: usize,
    /// What is added to the products of each row.
    pub(super) offset: Option<&'a [f32]>,
    /// Id of the first row.
    pub(super) first: u32,
    /// Whether what was found before takes part.
    pub(super) carries: bool,
}

/// Some of the queries.
struct Share<'a> {
    queries: &'a [f32],
    /// The id that each must not find.
    excluded: Option<&'a [u32]>,
}

/// Where their results go, k for each.
pub(super) struct Found<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) ids: &'a mut [u32],
    pub(super) k: usize,
}

impl Block<'_> {
    /// Searches for all queries, on all threads.
    pub(super) fn search(&self, queries: &[f32], excluded: Option<&[u32]>, found: Found<'_>) {
        let Found { scores, ids, k } = found;
        let count = queries.len() / self.dim;
        let rounded = Rounded::new(self, queries, k);
        // As many queries as there are for each thread: the block is packed for every share of them.
        let share = count.div_ceil(rayon::current_num_threads()).min(MAX_SHARE);
        let results = scores.par_chunks_mut(share * k).zip(ids.par_chunks_mut(share * k));
        results.zip(queries.par_chunks(share * self.dim)).enumerate().for_each(|(part, ((scores, ids), queries))| {
            let (at, count) = (part * share, queries.len() / self.dim);
            let share = Share { queries, excluded: excluded.map(|excluded| &excluded[at..at + count]) };
            let rounded = rounded.as_ref().map(|rounded| rounded.share(at, count));
            self.search_share(&share, Found { scores, ids, k }, rounded.as_ref());
        });
    }

    fn search_share(&self, share: &Share<'_>, found: Found<'_>, rounded: Option<&RoundedShare<'_>>) {
        let Found { scores, ids, k } = found;
        let mut best: Vec<Best> = match rounded {
            None => (0..share.queries.len() / self.dim).map(|_| Best::new(k)).collect(),
            Some(rounded) => rounded.slack.iter().map(|slack| Best::approximate(k, *slack)).collect(),
        };
        if self.carries {
            for (best, (scores, ids)) in best.iter_mut().zip(scores.chunks(k).zip(ids.chunks(k))) {
                best.carry(scores, ids);
            }
        }
        self.select(share, rounded, &mut best);
        let mut again = Vec::new();
        let results = best.iter_mut().zip(scores.chunks_mut(k).zip(ids.chunks_mut(k)));
        for (number, ((best, (scores, ids)), query)) in results.zip(share.queries.chunks(self.dim)).enumerate() {
            if rounded.is_none() || best.settle(|id| self.score(query, id)) {
                best.finish(scores, ids);
            } else {
                again.push(number);
            }
        }
        if !again.is_empty() {
            self.search_again(&again, share, Found { scores, ids, k });
        }
    }

    /// Takes in the scores of all rows, unless so many queries are to be searched for again that all had better be.
    fn select(&self, share: &Share<'_>, rounded: Option<&RoundedShare<'_>>, best: &mut [Best]) {
        let exact = || [share.queries, self.rows].map(|rows| Matrix::by_rows(rows, self.dim));
        let [queries, rows] = rounded.map_or_else(exact, |rounded| rounded.factors);
        let (count, total, depth) = (best.len(), self.rows.len() / self.dim, rows.row_step);
        for at in (0..total).step_by(COMPARED) {
            let cols = COMPARED.min(total - at);
            let first = self.first + at as u32;
            let of_rows = OfRows {
                offset: self.offset.map(|offset| &offset[at..at + cols]),
                units: rounded.map(|rounded| &rounded.units[1][at..at + cols]),
            };
            let integers = rounded.map(|rounded| rounded.integers);
            gemm::scan(
                [count, cols, depth],
                queries,
                rows.part(at, 0).transposed(),
                integers,
                #[inline(always)]
                |query, products| {
                    of_rows.score(products, rounded.map_or(1.0, |rounded| rounded.units[0][query]));
                    let excluded = share.excluded.map(|excluded| excluded[query]);
                    best[query].scan(products, first, |j| excluded == Some(first + j as u32));
                },
            );
            if best.iter().filter(|best| best.overflowed()).count() > count / 4 {
                best.iter_mut().for_each(Best::overflow);
                return;
            }
        }
    }

    /// Searches for the queries of these numbers in float32.
    fn search_again(&self, numbers: &[usize], share: &Share<'_>, found: Found<'_>) {
        let Found { scores, ids, k } = found;
        let queries = gathered(share.queries, self.dim, numbers);
        let excluded = share.excluded.map(|excluded| gathered(excluded, 1, numbers));
        let (mut some_scores, mut some_ids) = (gathered(scores, k, numbers), gathered(ids, k, numbers));
        let share = Share { queries: &queries, excluded: excluded.as_deref() };
        self.search_share(&share, Found { scores: &mut some_scores, ids: &mut some_ids, k }, None);
        for (number, (some_scores, some_ids)) in numbers.iter().zip(some_scores.chunks(k).zip(some_ids.chunks(k))) {
            scores[number * k..][..k].copy_from_slice(some_scores);
            ids[number * k..][..k].copy_from_slice(some_ids);
        }
    }

    /// Score of a row in float32; None of one that is not in the block.
    fn score(&self, query: &[f32], id: u32) -> Option<f32> {
        let row = id.wrapping_sub(self.first) as usize;
        let values = self.rows.chunks_exact(self.dim).nth(row)?;
        Some(vectorized(#[inline(always)] || dot(query, values)) + self.offset.map_or(0.0, |offset| offset[row]))
    }
}

/// What makes scores of products with some rows.
struct OfRows<'a> {
    offset: Option<&'a [f32]>,
    /// What 1 stands for, where products are integers.
    units: Option<&'a [f32]>,
}

impl OfRows<'_> {
    /// Of a query, whose 1 stands for `unit`.
    #[inline(always)]
    fn score(&self, products: &mut [f32], unit: f32) {
        if let Some(units) = self.units {
            products.iter_mut().zip(units).for_each(|(x, of_row)| *x = x.to_bits().cast_signed() as f32 * of_row * unit);
        }
        if let Some(offset) = self.offset {
            products.iter_mut().zip(offset).for_each(|(x, offset)| *x += offset);
        }
    }
}

fn gathered<T: Copy>(rows: &[T], width: usize, numbers: &[usize]) -> Vec<T> {
    numbers.iter().flat_map(|number| &rows[number * width..][..width]).copied().collect()
}

/// Queries and rows as integers.
struct Rounded {
    integers: Integers,
    queries: Quantized,
    rows: Quantized,
    /// For each query, twice what rounding does to its scores at most.
    slack: Vec<f32>,
}

/// Some of the queries, and all rows.
struct RoundedShare<'a> {
    integers: Integers,
    factors: [Matrix<'a>; 2],
    units: [&'a [f32]; 2],
    slack: &'a [f32],
}

impl Rounded {
    /// None where that would take as long in float32, and of what is not finite.
    fn new(block: &Block<'_>, queries: &[f32], k: usize) -> Option<Self> {
        let integers = Integers::detect()?;
        let Block { rows, dim, offset, .. } = *block;
        if queries.len() / dim < ROUNDED_QUERIES || rows.len() / dim < ROUNDED_ROWS * k || dim < ROUNDED_DIM {
            return None;
        }
        let quantized = |rows: &[f32]| Quantized::measured(Matrix::by_rows(rows, dim), rows.len() / dim, dim);
        let [(queries, query_rests), (rows, row_rests)] = [queries, rows].map(quantized);
        // A length of numbers whose squares are too small to be normal, which may be missing in others.
        let tiny = (dim as f32 * f32::MIN_POSITIVE).sqrt();
        let length = |unit: &f32| unit * LENGTH + tiny;
        // Of all rows; NaN or infinite if one is.
        let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |a: f32, b| if a >= b { a } else { b });
        let norm = largest(&mut rows.units.iter().map(length));
        let rest = largest(&mut row_rests.into_iter()) + tiny;
        let offset = largest(&mut offset.into_iter().flatten().map(|offset| offset.abs()));
        // Of a float32 sum of as many products.
        let sums = (dim + 8) as f32 * f32::EPSILON;
        let bound = |(query, query_rest): (f32, f32)| {
            let rounding = query * rest + (query_rest + tiny) * (norm + rest);
            rounding + sums * query * norm + 4.0 * f32::EPSILON * offset
        };
        let slack: Vec<f32> = queries.units.iter().map(length).zip(query_rests).map(|lengths| 2.01 * bound(lengths)).collect();
        slack.iter().all(|slack| slack.is_finite()).then_some(Self { integers, queries, rows, slack })
    }

    fn share(&self, at: usize, count: usize) -> RoundedShare<'_> {
        let Self { integers, queries, rows, slack } = self;
        RoundedShare {
            integers: *integers,
            factors: [queries.matrix().part(at, 0), rows.matrix()],
            units: [&queries.units[at..at + count], &rows.units],
            slack: &slack[at..at + count],
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::{Block, Found};
    use crate::random::normal;

    /// Rows whose scores differ by less than what rounding does to them.
    #[test]
    fn rows_that_rounding_would_exchange_are_told_apart() {
        let (dim, queries, rows, k) = (200, 100, 4000, 20);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut near = |count: usize, spread: f32| -> Vec<f32> {
            (0..count * dim).map(|i| f32::from(u8::from(i % dim == 7)) + spread * normal(&mut rng)).collect()
        };
        let (queries, rows) = (near(queries, 0.1), near(rows, 0.01));
        let (mut scores, mut ids) = (vec![0.0; queries.len() / dim * k], vec![0; queries.len() / dim * k]);
        let block = Block { rows: &rows, dim, offset: None, first: 0, carries: false };
        block.search(&queries, None, Found { scores: &mut scores, ids: &mut ids, k });
        for (query, ids) in queries.chunks(dim).zip(ids.chunks(k)) {
            let score = |row: &[f32]| query.iter().zip(row).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            let exact: Vec<f64> = rows.chunks(dim).map(score).collect();
            let mut sorted = exact.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let last = ids.iter().map(|id| exact[*id as usize]).fold(f64::INFINITY, f64::min);
            // But for what float32 cannot tell.
            assert!(last > sorted[k - 1] - 1e-6, "the {k}-th best is {last}, not {}", sorted[k - 1]);
        }
    }
}
