//! Progress of training: a bar on a terminal, plain lines elsewhere; epochs into a JSONL file.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::cli::JsonLines;
use crate::error::Result;
use crate::model::Epoch;
use crate::train::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Without a terminal, a line of progress comes at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A line of the metrics file.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    epoch: &'a Epoch,
    /// Since the reporter was made.
    seconds: f64,
}

/// Shows the progress of one training run on stderr.
pub struct Reporter {
    bar: ProgressBar,
    plain: bool,
    steps: u32,
    created: Instant,
    /// When the steps began.
    started: Instant,
    last_line: Instant,
    metrics: Option<JsonLines>,
}

impl Reporter {
    /// A reporter for one run, which adds a line to `metrics` for every epoch, with the seconds since now.
    pub fn new(metrics: Option<JsonLines>) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let now = Instant::now();
        Self { bar: ProgressBar::hidden(), plain, steps: 0, created: now, started: now, last_line: now, metrics }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the metrics file cannot be written.
    pub fn report(&mut self, event: &Progress<'_>) -> Result<()> {
        match event {
            Progress::Start { steps, init, epoch } => {
                self.say(&format!("start   {init}"));
                self.say("epoch       loss  val recall@k  val recall@10");
                self.start(*steps);
                self.epoch(epoch, false)
            }
            Progress::Steps { done } => {
                self.bar.set_position(u64::from(*done));
                self.line(*done);
                Ok(())
            }
            Progress::Epoch { epoch, best } => self.epoch(epoch, *best),
        }
    }

    fn start(&mut self, steps: u32) {
        self.steps = steps;
        self.started = Instant::now();
        if !self.plain && steps > 0 {
            let style =
                ProgressStyle::with_template("{bar:40} {pos}/{len} steps  {per_sec}  {eta} left").expect("a valid template");
            self.bar = ProgressBar::new(u64::from(steps)).with_style(style);
        }
    }

    /// A plain line of rate and time left, now and then.
    fn line(&mut self, done: u32) {
        if self.plain && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let rate = f64::from(done) / self.started.elapsed().as_secs_f64();
            let left = f64::from(self.steps - done) / rate;
            note!("{done}/{} steps, {rate:.1}/s, {left:.0} s left", self.steps);
        }
    }

    fn epoch(&mut self, epoch: &Epoch, best: bool) -> Result<()> {
        let loss = epoch.loss.map_or("-".to_owned(), |loss| format!("{loss:.5}"));
        let mark = if best { "  best" } else { "" };
        self.say(&format!("{:>5}  {loss:>9}  {:>12.4}  {:>13.4}{mark}", epoch.epoch, epoch.recall_k, epoch.recall_10));
        match &mut self.metrics {
            Some(metrics) => metrics.add(&Line { epoch, seconds: self.created.elapsed().as_secs_f64() }),
            None => Ok(()),
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| note!("{line}"));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
