//! Sets of parquet shards, by their names.

/// A place in a sorted list of names where a `-KKKKK-of-NNNNN` shard should be and is not.
#[derive(Debug, PartialEq)]
pub(super) struct Gap {
    /// Names before this index are complete.
    pub(super) index: usize,
    /// What is missing.
    pub(super) missing: String,
}

/// The first gap in sorted names; names without a count are never missing.
pub(super) fn first_gap<S: AsRef<str>>(names: &[S]) -> Option<Gap> {
    // The set that the previous names belong to, and the number of the shard that should come next.
    let mut open: Option<(&str, usize, usize)> = None;
    for (index, name) in names.iter().map(AsRef::as_ref).enumerate() {
        let counted = counted(name);
        if let (Some((prefix, next, total)), false) =
            (open, matches!((open, counted), (Some(o), Some(c)) if o.0 == c.0 && o.2 == c.2))
        {
            if next < total {
                return Some(Gap { index, missing: shard(prefix, next, total) });
            }
            open = None;
        }
        if let Some((prefix, number, total)) = counted {
            let next = open.map_or(0, |(_, next, _)| next);
            if number != next {
                return Some(Gap { index, missing: shard(prefix, next, total) });
            }
            open = Some((prefix, next + 1, total));
        }
    }
    open.filter(|(_, next, total)| next < total)
        .map(|(prefix, next, total)| Gap { index: names.len(), missing: shard(prefix, next, total) })
}

fn shard(prefix: &str, number: usize, total: usize) -> String {
    format!("{prefix}-{number:05}-of-{total:05}")
}

/// Prefix, number and count of a name such as `data/train-00000-of-00004-0a1b2c.parquet`.
fn counted(name: &str) -> Option<(&str, usize, usize)> {
    let (before, after) = name.rsplit_once("-of-")?;
    let (prefix, number) = before.rsplit_once('-')?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    Some((prefix, number.parse().ok()?, after[..digits].parse().ok()?))
}
