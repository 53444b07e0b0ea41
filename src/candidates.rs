//! Which rows are anchors, and which they are ranked against, in every step of an epoch.

use std::collections::{HashSet, VecDeque};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::TrainConfig;
use crate::random::{sample, shuffle};

/// Random rows that join an anchor's batch as candidates where the training split is too large to be the list.
const RANDOM_ROWS: usize = 3584;

/// Draws batches and candidate lists among training rows `0..rows`; the same seed draws the same ones.
pub struct Batches {
    rows: usize,
    batch: usize,
    queue: VecDeque<u32>,
    queue_size: usize,
    rng: ChaCha8Rng,
}

/// The tables of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochTables {
    /// Anchors `[steps, batch]`: every row once, and the last batch filled up.
    pub anchors: Vec<u32>,
    /// Candidates: `[1, rows]`, all rows, or `[steps, candidates]`.
    pub candidates: Vec<u32>,
    /// Seeds of dropout `[steps, 1]`.
    pub dropout_seeds: Vec<u32>,
}

impl Batches {
    /// Batches for a number of training rows.
    pub fn new(rows: usize, config: &TrainConfig) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let batch = config.batch_size.min(rows);
        let queue_size = config.listwise_queue_size;
        let queue = sample(rows as u32, queue_size, &mut rng).into();
        Self { rows, batch, queue, queue_size, rng }
    }

    /// Anchors of a step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.rows.div_ceil(self.batch)
    }

    /// Candidates of a step: all rows while that is not more than batch, queue and random rows together.
    pub fn candidates(&self) -> usize {
        self.rows.min(self.queue_size.saturating_add(self.batch + RANDOM_ROWS))
    }

    /// Whether every training row is a candidate in every step.
    pub fn full(&self) -> bool {
        self.candidates() == self.rows
    }

    /// Draws the next epoch.
    pub fn next_epoch(&mut self) -> EpochTables {
        let mut order: Vec<u32> = (0..self.rows as u32).collect();
        shuffle(&mut order, &mut self.rng);
        // The last batch is filled up with the first rows, which are not in it.
        let missing = self.steps() * self.batch - self.rows;
        let mut anchors = order;
        anchors.extend_from_within(..missing);
        let dropout_seeds = (0..self.steps()).map(|_| self.rng.next_u32()).collect();
        let candidates = if self.full() {
            (0..self.rows as u32).collect()
        } else {
            anchors.chunks(self.batch).flat_map(|batch| self.list(batch)).collect()
        };
        EpochTables { anchors, candidates, dropout_seeds }
    }

    /// The batch, then rows of recent batches, then random rows; none of them twice.
    fn list(&mut self, batch: &[u32]) -> Vec<u32> {
        let count = self.candidates();
        let mut taken = HashSet::with_capacity(count);
        let mut list = Vec::with_capacity(count);
        let random = sample(self.rows as u32, count, &mut self.rng);
        for row in batch.iter().chain(&self.queue).chain(&random).copied() {
            if list.len() < count && taken.insert(row) {
                list.push(row);
            }
        }
        self.queue.extend(batch);
        self.queue.drain(..self.queue.len() - self.queue_size);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(batch_size: usize, listwise_queue_size: usize) -> TrainConfig {
        TrainConfig { batch_size, listwise_queue_size, ..TrainConfig::default() }
    }

    #[test]
    fn every_row_is_an_anchor_once_before_the_last_batch_is_filled_up() {
        let mut batches = Batches::new(1000, &config(96, 0));
        let tables = batches.next_epoch();
        assert_eq!(tables.anchors.len(), 11 * 96);
        assert_eq!(tables.anchors[..1000].iter().collect::<HashSet<_>>().len(), 1000);
        assert_eq!(tables.candidates, (0..1000).collect::<Vec<_>>(), "few rows: all are candidates");
        assert_ne!(tables, batches.next_epoch(), "epochs differ");
    }

    #[test]
    fn lists_of_a_large_split_hold_batch_queue_and_random_rows_without_repeats() {
        let mut batches = Batches::new(20_000, &config(128, 256));
        let tables = batches.next_epoch();
        let lists: Vec<_> = tables.candidates.chunks(batches.candidates()).collect();
        assert_eq!(lists.len(), batches.steps());
        for (step, list) in lists.iter().enumerate() {
            assert_eq!(list.iter().collect::<HashSet<_>>().len(), 128 + 256 + RANDOM_ROWS, "step {step}");
            assert_eq!(list[..128], tables.anchors[step * 128..][..128], "the batch comes first");
        }
        assert_eq!(lists[3][128..384], tables.anchors[128..384], "then the two batches before it");
    }

    #[test]
    fn the_same_seed_draws_the_same_tables() {
        let draw = || Batches::new(5000, &config(512, 0)).next_epoch();
        assert_eq!(draw(), draw());
    }
}
