//! The loop that peers are trained by.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Peers;
use crate::backend::Program;
use crate::error::Result;
use crate::model::Map;
use crate::plan::{Plan, Routine};
use crate::random::shuffle;
use crate::schedule::adamw_schedule;
use crate::tensor::Tensor;

/// Steps whose tables are drawn and uploaded at once.
pub(super) const CHUNK: u32 = 16;

/// How long and how fast to train, and when to look at validation.
pub(super) struct Descent<'a> {
    pub(super) steps: u32,
    /// Learning rate of a step.
    pub(super) rate: &'a dyn Fn(u32) -> f64,
    /// Steps from one validation to the next.
    pub(super) validate_every: u32,
    /// Steps without a better validation that end the training.
    pub(super) patience: u32,
}

/// The map that did best on validation.
pub(super) struct Best {
    pub(super) map: Map,
    pub(super) recall: f64,
    /// Steps after which it was.
    pub(super) step: u32,
}

/// What is trained, on a program of its own.
pub(super) trait Student {
    /// Writes what stays, and the parameters as they start.
    fn write(&self, program: &mut dyn Program) -> Result<()>;

    /// Draws the tables of the next `steps` steps, at most [`CHUNK`], and writes them.
    fn feed(&mut self, program: &mut dyn Program, steps: u32) -> Result<()>;

    /// The map as it is.
    fn map(&self, program: &mut dyn Program) -> Result<Map>;
}

/// A student with the plan of its step, and the table of learning rates that the step reads.
pub(super) struct Task<S> {
    pub(super) plan: Plan,
    pub(super) step: Routine,
    pub(super) schedule: Tensor,
    pub(super) student: S,
}

/// Trains and returns the best map on validation.
pub(super) fn descend(peers: &Peers<'_>, task: Task<impl Student>, descent: &Descent<'_>) -> Result<Best> {
    let Task { plan, step, schedule, mut student } = task;
    let mut program = peers.corpus.backend.compile(plan)?;
    student.write(&mut *program)?;
    let mut best: Option<Best> = None;
    let mut done = 0;
    while done < descent.steps {
        let next = ((done / descent.validate_every + 1) * descent.validate_every).min(descent.steps);
        let count = CHUNK.min(next - done);
        program.write_rows(schedule, 0, adamw_schedule(done..done + count, descent.rate)[..].into())?;
        student.feed(&mut *program, count)?;
        program.run(step, 0..count)?;
        done += count;
        if done < next {
            continue;
        }
        let map = student.map(&mut *program)?;
        let recall = peers.validate(&map)?;
        match &best {
            Some(best) if recall <= best.recall => {
                if done - best.step >= descent.patience {
                    break;
                }
            }
            _ => best = Some(Best { map, recall, step: done }),
        }
    }
    Ok(best.expect("a training has steps"))
}

/// Training rows in random order, all of them before any comes again.
pub(super) struct Anchors {
    order: Vec<u32>,
    at: usize,
    rng: ChaCha8Rng,
}

impl Anchors {
    pub(super) fn new(rows: usize, seed: u64) -> Self {
        Self { order: (0..rows as u32).collect(), at: rows, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next rows.
    pub(super) fn draw(&mut self, count: usize) -> Vec<u32> {
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            if self.at == self.order.len() {
                shuffle(&mut self.order, &mut self.rng);
                self.at = 0;
            }
            let end = (self.at + count - drawn.len()).min(self.order.len());
            drawn.extend_from_slice(&self.order[self.at..end]);
            self.at = end;
        }
        drawn
    }
}
