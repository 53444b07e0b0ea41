//! Work on several threads at once whose results come in order.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// What one thread works with.
pub struct Lane<L> {
    /// Its own state.
    pub state: L,
    pool: Option<ThreadPool>,
}

impl<L> Lane<L> {
    /// A lane whose work may spread over all threads of rayon.
    pub fn wide(state: L) -> Self {
        Self { state, pool: None }
    }

    /// A lane whose work stays on one thread, also what it does with rayon: data stays in the cache of that thread's core, and
    /// nothing is handed over.
    ///
    /// # Errors
    /// [`Error::Device`] when there can be no more threads.
    pub fn narrow(state: L) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(1).build();
        Ok(Self { state, pool: Some(pool.map_err(|e| Error::device(format!("cannot start a thread: {e}")))?) })
    }
}

/// Does `work` on what `take` hands out until it is `None`, and hands the results to `give` in the order in which they were taken.
///
/// Any lane takes next, one at a time: what `take` does overlaps with the work of others. `give` runs on the calling thread. A lane
/// is at most two results ahead of the one that is waited for, which bounds memory.
///
/// # Errors
/// The first error in that order.
///
/// # Panics
/// If `take` or `work` does.
pub fn in_order<L: Send, T: Send, R: Send>(
    lanes: &mut [Lane<L>],
    take: impl FnMut() -> Result<Option<T>> + Send,
    work: impl Fn(&mut L, T) -> Result<R> + Sync,
    mut give: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let (taken, order) = mpsc::channel();
    let source = Mutex::new((take, taken));
    // Also where a thread panics: it drops its sender, which ends the loop, and the scope passes the panic on.
    thread::scope(|scope| {
        let mut results: Vec<Receiver<Result<Option<R>>>> = Vec::new();
        for (number, Lane { state, pool }) in lanes.iter_mut().enumerate() {
            let (sender, receiver) = mpsc::sync_channel(1);
            results.push(receiver);
            let (source, work) = (&source, &work);
            let mut run = move || {
                let next = || {
                    // Poisoned by a lane that panics, and ends all.
                    let (take, taken) = &mut *source.lock().ok()?;
                    taken.send(number).ok()?;
                    Some(take())
                };
                serve(&sender, next, |item| work(state, item));
            };
            scope.spawn(move || match pool {
                Some(pool) => pool.install(run),
                None => run(),
            });
        }
        while let Ok(number) = order.recv()
            && let Ok(result) = results[number].recv()
            && let Some(result) = result?
        {
            give(result)?;
        }
        Ok(())
    })
}

/// One lane: sends what becomes of every item that is next, up to the end or the first error, or until nobody receives.
fn serve<T, R>(
    sender: &SyncSender<Result<Option<R>>>,
    next: impl Fn() -> Option<Result<Option<T>>>,
    mut work: impl FnMut(T) -> Result<R>,
) {
    while let Some(item) = next() {
        let result = item.and_then(|item| item.map(&mut work).transpose());
        let last = !matches!(result, Ok(Some(_)));
        if sender.send(result).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Condvar;
    use std::time::Duration;

    use super::*;

    fn lanes(count: usize) -> Vec<Lane<usize>> {
        (0..count).map(|i| if i % 2 == 0 { Lane::narrow(0).unwrap() } else { Lane::wide(0) }).collect()
    }

    /// Hands out 0 .. 100; later items are done sooner.
    fn run(count: usize, work: impl Fn(u64) -> Result<u64> + Sync) -> (Vec<u64>, Result<()>) {
        let (mut items, mut given) = (0..100, Vec::new());
        let result = in_order(
            &mut lanes(count),
            || Ok(items.next()),
            |done, item| {
                *done += 1;
                thread::sleep(Duration::from_micros(100 - item));
                work(item)
            },
            |item| {
                given.push(item);
                Ok(())
            },
        );
        (given, result)
    }

    #[test]
    fn results_come_in_order_from_any_number_of_lanes() {
        for count in [1, 2, 7] {
            let (given, result) = run(count, Ok);
            assert!(result.is_ok() && given == Vec::from_iter(0..100), "{count} lanes: {given:?}");
        }
    }

    /// Two lanes meet in their work. If one waited for the other's to end, the first would be alone until the time is up.
    #[test]
    fn lanes_work_at_the_same_time() {
        let (mut items, working, joined) = (0..2, Mutex::new(0), Condvar::new());
        let meet = |_: &mut usize, _: i32| {
            let mut count = working.lock().unwrap();
            *count += 1;
            joined.notify_all();
            let (count, _) = joined.wait_timeout_while(count, Duration::from_secs(60), |count| *count < 2).unwrap();
            Ok(*count)
        };
        let mut met = Vec::new();
        let give = |count| {
            met.push(count);
            Ok(())
        };
        in_order(&mut lanes(2), || Ok(items.next()), meet, give).unwrap();
        assert_eq!(met, [2, 2]);
    }

    #[test]
    fn the_first_error_in_order_ends_the_work() {
        for count in [1, 2, 7] {
            let (given, result) = run(count, |item| if item < 20 { Ok(item) } else { Err(Error::data(item.to_string())) });
            assert!(given == Vec::from_iter(0..20), "{count} lanes: {given:?}");
            assert_eq!(result.unwrap_err().to_string(), "20");
        }
        let give = |item| if item == 5 { Err(Error::data("full")) } else { Ok(()) };
        assert_eq!(in_order(&mut lanes(3), || Ok(Some(5)), |_, item| Ok(item), give).unwrap_err().to_string(), "full");
        let take = || Err::<Option<u64>, _>(Error::data("no more"));
        assert_eq!(in_order(&mut lanes(3), take, |_, item| Ok(item), |_| Ok(())).unwrap_err().to_string(), "no more");
    }

    #[test]
    fn a_panic_is_passed_on() {
        for count in [1, 3] {
            let panics = |item| if item == 30 { panic!("as the test wants") } else { Ok(item) };
            assert!(catch_unwind(AssertUnwindSafe(|| run(count, panics))).is_err());
            let take = || -> Result<Option<u64>> { panic!("as the test wants") };
            let taking = || in_order(&mut lanes(count), take, |_, item| Ok(item), |_| Ok(()));
            assert!(catch_unwind(AssertUnwindSafe(taking)).is_err());
        }
    }
}
