//! What the rule for variants of the matrix product gives away on a GPU: every variant of the product beside the one that the rule takes, for the
//! shapes of training and search.
//!
//! `cargo bench --bench variants -- TN` takes the shapes whose name contains all words. For each it prints the median time by the rule, and the times
//! of the fastest variants in proportion to it, in the same rounds; below 1 are those that the rule misses. A software adapter is timed only when
//! `WGPU_ADAPTER_NAME` names it.

mod backends;

use embedding_compressor::Result;
use embedding_compressor::backend::Backend;
use embedding_compressor::case::Case;
use embedding_compressor::ops::matmul::by_variant;
use embedding_compressor::roofline::{Roofline, TOO_LONG, Timed, medians, runner};

/// Variants that are named.
const NAMED: usize = 4;

fn main() -> Result<()> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let timed = flags.iter().any(|flag| flag == "--bench");
    for backend in backends::all(true) {
        println!("{}", backend.describe());
        if !timed {
            continue;
        }
        let roofline = Roofline::new(&*backend)?;
        for cases in by_variant() {
            let [ours, others @ ..] = &cases[..] else { continue };
            let wanted = words.iter().all(|word| format!("matmul {}", ours.name).contains(word));
            if wanted && roofline.least_seconds(ours) < TOO_LONG {
                println!("{}", compare(&*backend, ours, others)?);
            }
        }
    }
    Ok(())
}

fn compare(backend: &dyn Backend, ours: &Case, others: &[Case]) -> Result<String> {
    let mut rule = Timed::new(runner(backend, ours)?)?;
    let (mut seconds, mut ratios) = (vec![], vec![]);
    for other in others {
        let mut work = Timed::new(runner(backend, other)?)?;
        let [by_rule, by_other] = medians([&mut rule, &mut work])?;
        seconds.push(by_rule);
        let (_, variant) = other.name.split_once(" by ").expect("the name tells the variant");
        ratios.push((by_other / by_rule, variant));
    }
    seconds.sort_by(f64::total_cmp);
    ratios.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let fastest: Vec<String> = ratios.iter().take(NAMED).map(|(ratio, variant)| format!("{ratio:.2} {variant}")).collect();
    Ok(format!("{} {:.1} us; {}", ours.name, seconds[seconds.len() / 2] * 1e6, fastest.join(", ")))
}
