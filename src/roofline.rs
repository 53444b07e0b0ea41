//! How fast ops run beside what the device can do at most at the same time: its roofs.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::backend::{Backend, Program};
use crate::case::{Case, Values};
use crate::error::Result;
use crate::op::{Cost, ErasedOp, Op, Peak};
use crate::ops::copy::CopyElements;
use crate::ops::fma::Fma;
use crate::plan::Role;
use crate::tensor::Tensor;

/// Shortest sample: the clock and the wait for the device do not count against it.
const SAMPLE: Duration = Duration::from_millis(50);

/// Least time of a case, in seconds, from which on a device is too slow for it.
pub const TOO_LONG: f64 = 0.5;

/// Samples of which the median is taken.
const SAMPLES: usize = 5;

/// Work with as many repetitions as make a sample long enough.
pub struct Timed<'a> {
    work: Box<dyn FnMut(u32) -> Result<()> + 'a>,
    repetitions: u32,
}

impl<'a> Timed<'a> {
    /// Prepares to time `work`, which does as many repetitions as it is told and waits for their results.
    ///
    /// # Errors
    /// Those of the work.
    pub fn new(work: impl FnMut(u32) -> Result<()> + 'a) -> Result<Self> {
        let mut timed = Self { work: Box::new(work), repetitions: 1 };
        // The first repetition compiles, or brings the data into the caches.
        timed.sample()?;
        while timed.sample()? * f64::from(timed.repetitions) < SAMPLE.as_secs_f64() {
            timed.repetitions *= 2;
        }
        Ok(timed)
    }

    /// Seconds of one repetition.
    fn sample(&mut self) -> Result<f64> {
        let start = Instant::now();
        (self.work)(self.repetitions)?;
        Ok(start.elapsed().as_secs_f64() / f64::from(self.repetitions))
    }
}

/// Median seconds of one repetition of each work. Samples take turns, so that drift of the machine hits all works alike.
///
/// # Errors
/// Those of the works.
pub fn medians<const N: usize>(mut works: [&mut Timed<'_>; N]) -> Result<[f64; N]> {
    let mut samples = [[0.0; SAMPLES]; N];
    for turn in 0..SAMPLES {
        for (work, samples) in works.iter_mut().zip(&mut samples) {
            samples[turn] = work.sample()?;
        }
    }
    Ok(samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[SAMPLES / 2]
    }))
}

/// Compiles a case, writes its values (and noise into inputs that have none: those of cases too large to draw for every test), and
/// returns what runs it as often as it is told and waits for the end.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) when the device refuses; from the returned function, when it fails.
pub fn runner(backend: &dyn Backend, case: &Case) -> Result<impl FnMut(u32) -> Result<()> + use<>> {
    let mut plan = case.plan.clone();
    let last = plan.state("last", [1, 1]);
    let mut program = backend.compile(plan)?;
    for (tensor, values) in &case.values {
        match values {
            Values::F32(x) => program.write(*tensor, x.as_slice())?,
            Values::U32(x) => program.write(*tensor, x.as_slice())?,
        }
    }
    for info in case.plan.tensors().iter().filter(|info| info.role == Role::Input) {
        if case.values.iter().all(|(tensor, _)| *tensor != info.tensor) {
            write_noise(&mut *program, info.tensor)?;
        }
    }
    let (routine, steps) = (case.routine, case.steps);
    Ok(move |repetitions| {
        // Handed over at once, so that many dispatches share a submission.
        program.run_steps(routine, &mut (0..repetitions).flat_map(|_| 0..steps))?;
        // A read, however small, waits for everything before it.
        program.read(last).map(|_| ())
    })
}

/// Fills a tensor with numbers from -0.5 to 0.5, all bits of which change: devices run faster on zeros.
fn write_noise(program: &mut dyn Program, tensor: Tensor) -> Result<()> {
    let row_len = tensor.shape.len() / tensor.rows() as usize;
    let block_rows = (NOISE_BLOCK / row_len).max(1);
    let mut block = vec![0.0; block_rows * row_len];
    let mut state = 1_u32;
    for first in (0..tensor.rows() as usize).step_by(block_rows) {
        let rows = block_rows.min(tensor.rows() as usize - first);
        for x in &mut block {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            *x = (state ^ state >> 16) as f32 / 4_294_967_296.0 - 0.5;
        }
        program.write_rows(tensor, first as u32, block[..rows * row_len].into())?;
    }
    Ok(())
}

/// Elements of noise that are written at once.
const NOISE_BLOCK: usize = 1 << 22;

/// Work of all steps of a case.
pub fn cost(case: &Case) -> Cost {
    let costs = case.plan.routines().iter().flatten().map(|node| node.op.cost(&node.params));
    let steps = u64::from(case.steps);
    costs.fold(Cost::default(), |sum, c| Cost { flops: sum.flops + steps * c.flops, bytes: sum.bytes + steps * c.bytes })
}

/// What a device can do at most.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Roofs {
    /// 10^9 floating-point operations per second, by the op `fma`.
    pub gflop_per_second: f64,
    /// 10^9 bytes per second from and to memory, by the op `copy`.
    pub gbyte_per_second: f64,
}

impl Roofs {
    fn max(self, other: Self) -> Self {
        Self {
            gflop_per_second: self.gflop_per_second.max(other.gflop_per_second),
            gbyte_per_second: self.gbyte_per_second.max(other.gbyte_per_second),
        }
    }
}

/// 10^9 units of work per second.
fn rate(work: u64, seconds: f64) -> f64 {
    work as f64 / seconds / 1e9
}

impl fmt::Display for Roofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} GFLOP/s, {:.1} GB/s", self.gflop_per_second, self.gbyte_per_second)
    }
}

/// A bench case of an op, as it ran.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the op.
    pub op: &'static str,
    /// Name of the case.
    pub case: String,
    /// Time of the case.
    pub seconds: f64,
    /// 10^9 floating-point operations per second.
    pub gflop_per_second: f64,
    /// 10^9 bytes per second, each input read once and each output written once.
    pub gbyte_per_second: f64,
    /// The roofs while it ran.
    pub roofs: Roofs,
    /// The roof of arithmetic where the processor has instructions for such ops that beat `fma`: 10^9 floating-point operations per
    /// second, also of cases too small to gain by them.
    pub peak_gflop_per_second: Option<f64>,
    /// The time that the tighter roof allows over the time taken. Above 1 where the data stays in a cache that beats memory, where a GPU's
    /// matrix units or the first pass of `nearest` beat `fma`, or by noise.
    pub fraction_of_roof: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, case, gflop_per_second, gbyte_per_second, peak_gflop_per_second, fraction_of_roof, .. } = self;
        let name = format!("{op} {case}");
        let micros = self.seconds * 1e6;
        write!(
            f,
            "{name:<48}{micros:>11.1} us{gflop_per_second:>9.1} GFLOP/s{gbyte_per_second:>8.1} GB/s{fraction_of_roof:>7.2} of the roof"
        )?;
        peak_gflop_per_second.map_or(Ok(()), |peak| write!(f, ", {peak:.0} GFLOP/s"))
    }
}

/// Measures cases on a device, in turns with the device's roofs.
pub struct Roofline<'a> {
    backend: &'a dyn Backend,
    roofs: [(Cost, Timed<'a>); 2],
    /// The highest roofs so far.
    pub best: Roofs,
}

impl<'a> Roofline<'a> {
    /// Prepares the roofs.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails or lacks the 544 MiB that they take.
    pub fn new(backend: &'a dyn Backend) -> Result<Self> {
        let roof = |case: &Case| -> Result<_> { Ok((cost(case), Timed::new(runner(backend, case)?)?)) };
        let mut roofline = Self {
            backend,
            roofs: [roof(&Fma::bench_cases()[0])?, roof(&CopyElements::bench_cases()[0])?],
            best: Roofs::default(),
        };
        let [(_, fma), (_, copy)] = &mut roofline.roofs;
        let seconds = medians([fma, copy])?;
        roofline.raise(seconds);
        Ok(roofline)
    }

    /// The roofs by the seconds that their cases took.
    fn raise(&mut self, [fma_seconds, copy_seconds]: [f64; 2]) -> Roofs {
        let [(fma_cost, _), (copy_cost, _)] = &self.roofs;
        let roofs =
            Roofs { gflop_per_second: rate(fma_cost.flops, fma_seconds), gbyte_per_second: rate(copy_cost.bytes, copy_seconds) };
        self.best = self.best.max(roofs);
        roofs
    }

    /// Seconds that the best of these two roofs allow a case: some cases are made for devices that are much faster than others.
    pub fn least_seconds(&self, case: &Case) -> f64 {
        let cost = cost(case);
        let arithmetic = cost.flops as f64 / self.best.gflop_per_second;
        arithmetic.max(cost.bytes as f64 / self.best.gbyte_per_second) / 1e9
    }

    /// Times a case of an op.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn measure(&mut self, op: &dyn ErasedOp, case: &Case) -> Result<Row> {
        let mut work = Timed::new(runner(self.backend, case)?)?;
        let mut peak = self.backend.peak(op).map(timed_peak).transpose()?;
        let [(_, fma), (_, copy)] = &mut self.roofs;
        let (seconds, roof_seconds, peak_gflop_per_second) = match &mut peak {
            None => {
                let [seconds, roof_seconds @ ..] = medians([&mut work, fma, copy])?;
                (seconds, roof_seconds, None)
            }
            Some((flops, peak)) => {
                let [seconds, roof_seconds @ .., peak_seconds] = medians([&mut work, fma, copy, peak])?;
                (seconds, roof_seconds, Some(rate(*flops, peak_seconds)))
            }
        };
        let roofs = self.raise(roof_seconds);
        let peak_gflop_per_second = peak_gflop_per_second.filter(|peak| *peak > roofs.gflop_per_second);
        let arithmetic = peak_gflop_per_second.unwrap_or(roofs.gflop_per_second);
        let cost = cost(case);
        let (gflop_per_second, gbyte_per_second) = (rate(cost.flops, seconds), rate(cost.bytes, seconds));
        Ok(Row {
            op: op.name(),
            case: case.name.clone(),
            seconds,
            gflop_per_second,
            gbyte_per_second,
            roofs,
            peak_gflop_per_second,
            fraction_of_roof: (gflop_per_second / arithmetic).max(gbyte_per_second / roofs.gbyte_per_second),
        })
    }
}

/// Floating-point operations of a round of a peak, and the round.
fn timed_peak<'a>(peak: Peak) -> Result<(u64, Timed<'a>)> {
    let flops = peak(1);
    let round = move |repetitions| {
        peak(repetitions);
        Ok(())
    };
    Ok((flops, Timed::new(round)?))
}
