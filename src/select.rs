//! The k best of a stream of scores, in the order of results: higher scores first, smaller ids first where scores are equal (-0
//! equals 0), NaN after all numbers.

/// Most places that a search fills.
pub const MAX_K: u32 = 1024;

/// Id of a place for which there was nothing.
pub const MISSING: u32 = u32::MAX;

/// Places that shaders keep for the k best: few sizes, so that few pipelines are made.
pub(crate) fn kept(k: u32) -> u32 {
    *[64, 256, MAX_K].iter().find(|kept| **kept >= k).expect("k was checked")
}

/// The best of all that was found, by naive sorting; places for which there is nothing get [`MISSING`] and `f32::MIN`.
pub(crate) fn definition(mut found: Vec<(f64, u32)>, scores: &mut [f64], ids: &mut [u32]) {
    // NaN last, then by score downwards, then by id; `partial_cmp` holds -0 and 0 for equal.
    found.sort_by(|(a, i), (b, j)| {
        let by_score = b.partial_cmp(a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
        by_score.then(i.cmp(j))
    });
    for (place, (score, id)) in scores.iter_mut().zip(ids).enumerate() {
        let (best, best_id) = found.get(place).copied().unwrap_or((f64::from(f32::MIN), MISSING));
        (*score, *id) = (best + 0.0, best_id);
    }
}

/// Position of a score in the order of results, from [`key_score`] backwards: 0 for what is missing, 1 for NaN.
fn score_key(score: f32) -> u32 {
    // -0 + 0 is 0.
    let bits = (score + 0.0).to_bits();
    let key = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    if score.is_nan() { 1 } else { key }
}

fn key_score(key: u32) -> f32 {
    match key {
        0 => f32::MIN,
        1 => f32::NAN,
        _ if key >> 31 == 1 => f32::from_bits(key & !(1 << 31)),
        _ => f32::from_bits(!key),
    }
}

/// The k best of a stream of scores: those that beat a bar are collected, and now and then all but the best k are dropped, which
/// raises the bar.
pub(crate) struct Best {
    k: usize,
    /// Score keys above inverted ids: greater is better.
    entries: Vec<u64>,
    /// How many of `entries` are in use.
    len: usize,
    /// Entries must be above this; the k-th best when they were last dropped.
    bar: u64,
    /// Score of the bar: lower ones are below it. NaN while every score is above it.
    bar_score: f32,
    /// How far below the k-th best score the bar is.
    slack: f32,
    /// Whether too many were within the slack, so that some were dropped.
    overflowed: bool,
    /// Whether the entries are the results that were carried in, and no others.
    carried: bool,
    /// Greatest scores of groups of a row.
    maxima: Vec<[f32; SCANNED]>,
}

/// Scores that are compared with the bar at once, and of these, as many as a word has bytes for.
const SCANNED: usize = 64;
const CHUNK: usize = 8;

impl Best {
    /// None yet, of at most `k`.
    pub(crate) fn new(k: usize) -> Self {
        let entries = vec![0; (4 * k).max(64) + CHUNK];
        let (len, bar, bar_score, slack) = (0, 0, f32::NAN, 0.0);
        Self { k, entries, len, bar, bar_score, slack, overflowed: false, carried: false, maxima: Vec::new() }
    }

    /// As [`new`](Self::new), of scores that are off by up to half of `slack`: keeps all that may be among the best, to be
    /// [settled](Self::settle).
    pub(crate) fn approximate(k: usize, slack: f32) -> Self {
        let entries = vec![0; (8 * k).max(512) + CHUNK];
        Self { entries, slack, ..Self::new(k) }
    }

    /// Forgets what was found.
    pub(crate) fn start(&mut self) {
        (self.len, self.bar, self.bar_score, self.carried) = (0, 0, f32::NAN, false);
    }

    /// Takes earlier results in, best first.
    pub(crate) fn carry(&mut self, scores: &[f32], ids: &[u32]) {
        for (score, id) in scores.iter().zip(ids).filter(|(_, id)| **id != MISSING) {
            self.entries[self.len] = entry(*score, *id);
            self.len += 1;
        }
        if self.len == self.k {
            self.carried = true;
            self.raise(self.entries[self.k - 1]);
        }
    }

    /// To what is the k-th best.
    fn raise(&mut self, last: u64) {
        let score = key_score((last >> 32) as u32);
        (self.bar, self.bar_score) =
            if self.slack > 0.0 { (entry(score - self.slack, MISSING), score - self.slack) } else { (last, score) };
    }

    /// Takes scores in whose ids start at `first`.
    #[inline(always)]
    pub(crate) fn scan(&mut self, scores: &[f32], first: u32, skip: impl Fn(usize) -> bool) {
        for (at, scores) in (0..).step_by(SCANNED).zip(scores.chunks(SCANNED)) {
            let mut above = [0; SCANNED];
            // Nothing is below NaN.
            above.iter_mut().zip(scores).for_each(|(above, score)| *above = 1 - u8::from(*score < self.bar_score));
            for (chunk, above) in (0..).step_by(CHUNK).zip(above.as_chunks().0) {
                let above = u64::from_le_bytes(*above);
                if above != 0 {
                    self.take(&scores[chunk..], above, at + chunk, first, &skip);
                }
            }
        }
    }

    /// Takes those of a chunk in that may be above the bar, whose bytes are 1.
    fn take(&mut self, chunk: &[f32], mut above: u64, at: usize, first: u32, skip: impl Fn(usize) -> bool) {
        while above != 0 {
            let l = above.trailing_zeros() as usize / 8;
            above &= above - 1;
            let entry = entry(chunk[l], first + (at + l) as u32);
            if entry > self.bar && !skip(at + l) {
                self.entries[self.len] = entry;
                self.len += 1;
                self.carried = false;
            }
        }
        if self.len + CHUNK > self.entries.len() {
            self.drop_rest();
        }
    }

    /// [`scan`](Self::scan) of a row that is all there is: its k-th greatest score is estimated first, so that few others are taken in.
    #[inline(always)]
    pub(crate) fn scan_all(&mut self, scores: &[f32], first: u32, skip: impl Fn(usize) -> bool) {
        if let Some(bar) = self.likely_bar(scores) {
            self.raise(entry(bar, MISSING));
            self.scan(scores, first, &skip);
            if self.len >= self.k {
                return;
            }
            // Some of the greatest were skipped.
            self.start();
        }
        self.scan(scores, first, skip);
    }

    /// A score that k or more of a row reach: the k-th greatest of the maxima of groups. None where the row is too short for many
    /// small groups.
    #[inline(always)]
    fn likely_bar(&mut self, scores: &[f32]) -> Option<f32> {
        let chunks = (2 * self.k).div_ceil(SCANNED);
        if scores.len() < 4 * chunks * SCANNED {
            return None;
        }
        self.maxima.clear();
        let parts = scores.as_chunks::<SCANNED>().0;
        for first in 0..chunks {
            let mut maxima = [f32::NEG_INFINITY; SCANNED];
            for scores in parts[first..].iter().step_by(chunks) {
                // Not NaN, which is no maximum.
                maxima.iter_mut().zip(scores).for_each(|(max, score)| *max = if *score > *max { *score } else { *max });
            }
            self.maxima.push(maxima);
        }
        let maxima = self.maxima.as_flattened_mut();
        let (_, bar, _) = maxima.select_nth_unstable_by(self.k - 1, |a, b| b.total_cmp(a));
        (*bar > f32::NEG_INFINITY).then_some(*bar)
    }

    /// Drops all but the k best, and those within the slack.
    fn drop_rest(&mut self) {
        if self.len >= self.k {
            let (_, last, _) = self.entries[..self.len].select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
            let last = *last;
            self.raise(last);
            let found = std::mem::replace(&mut self.len, self.k);
            for i in self.k..found {
                if self.entries[i] > self.bar {
                    self.entries[self.len] = self.entries[i];
                    self.len += 1;
                }
            }
            // Too few places left to drop some but now and then.
            if self.len > self.entries.len() / 2 {
                (self.len, self.overflowed) = (self.k, true);
            }
        }
    }

    /// Whether approximate scores were too close to each other to tell which are the best.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Gives up.
    pub(crate) fn overflow(&mut self) {
        self.overflowed = true;
    }

    /// Puts exact scores in place of approximate ones, unless there were [too many](Self::overflowed): then it is false. `exact` has none
    /// for those that were carried in.
    #[must_use]
    pub(crate) fn settle(&mut self, exact: impl Fn(u32) -> Option<f32>) -> bool {
        if self.overflowed || self.carried {
            return !self.overflowed;
        }
        self.drop_rest();
        for found in &mut self.entries[..self.len] {
            let id = !(*found as u32);
            if let Some(score) = exact(id) {
                *found = entry(score, id);
            }
        }
        self.slack = 0.0;
        !self.overflowed
    }

    /// Writes what was found, best first; the places behind it get [`MISSING`] and `f32::MIN`. What was carried in is there already.
    pub(crate) fn finish(&mut self, scores: &mut [f32], ids: &mut [u32]) {
        if self.carried {
            return;
        }
        // Few more than k are as soon sorted as dropped.
        if self.len > 2 * self.k {
            self.drop_rest();
        }
        let found = &mut self.entries[..self.len];
        found.sort_unstable_by(|a, b| b.cmp(a));
        scores.fill(f32::MIN);
        ids.fill(MISSING);
        for (entry, (score, id)) in found.iter().zip(scores.iter_mut().zip(ids)) {
            *score = key_score((entry >> 32) as u32);
            *id = !(*entry as u32);
        }
    }
}

fn entry(score: f32, id: u32) -> u64 {
    u64::from(score_key(score)) << 32 | u64::from(!id)
}
