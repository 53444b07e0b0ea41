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
}

/// Scores that are compared with the bar at once.
const CHUNK: usize = 16;

impl Best {
    /// None yet, of at most `k`.
    pub(crate) fn new(k: usize) -> Self {
        Self { k, entries: vec![0; (4 * k).max(64) + CHUNK], len: 0, bar: 0, bar_score: f32::NAN }
    }

    /// Forgets what was found.
    pub(crate) fn start(&mut self) {
        (self.len, self.bar, self.bar_score) = (0, 0, f32::NAN);
    }

    /// Takes earlier results in.
    pub(crate) fn carry(&mut self, scores: &[f32], ids: &[u32]) {
        for (score, id) in scores.iter().zip(ids).filter(|(_, id)| **id != MISSING) {
            self.entries[self.len] = entry(*score, *id);
            self.len += 1;
        }
        self.drop_rest();
    }

    /// Takes the columns of a row in, whose ids start at `first`.
    pub(crate) fn scan(&mut self, scores: &[f32], first: u32, skip: impl Fn(usize) -> bool) {
        for (c, chunk) in scores.chunks(CHUNK).enumerate() {
            let any = chunk.iter().fold(self.bar_score.is_nan(), |any, score| any | (*score >= self.bar_score));
            if !any {
                continue;
            }
            for (l, score) in chunk.iter().enumerate() {
                let j = c * CHUNK + l;
                let entry = entry(*score, first + j as u32);
                self.entries[self.len] = entry;
                self.len += usize::from((entry > self.bar) & !skip(j));
            }
            if self.len + CHUNK > self.entries.len() {
                self.drop_rest();
            }
        }
    }

    /// Drops all but the k best.
    fn drop_rest(&mut self) {
        if self.len >= self.k {
            let (_, last, _) = self.entries[..self.len].select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
            self.bar = *last;
            self.len = self.k;
            self.bar_score = key_score((self.bar >> 32) as u32);
        }
    }

    /// Writes what was found, best first; the places behind it get [`MISSING`] and `f32::MIN`.
    pub(crate) fn finish(&mut self, scores: &mut [f32], ids: &mut [u32]) {
        self.drop_rest();
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
