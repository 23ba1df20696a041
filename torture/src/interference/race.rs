//! A race: a thread changes names as fast as the machine can, while programs run one after the
//! other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use anyhow::{Result, anyhow};

/// How far a race is.
#[derive(Debug, Default)]
pub(super) struct Race {
    is_over: AtomicBool,
    moves: AtomicUsize,
}

impl Race {
    /// Has one thread make its moves until so many runs are done. Both get the race, and each run
    /// its number.
    pub(super) fn hold(
        runs: usize,
        racer: impl FnOnce(&Self) -> Result<()> + Send,
        mut run: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let race = Self::default();
        thread::scope(|scope| {
            let racer = scope.spawn(|| racer(&race));
            let outcome = (0..runs).try_for_each(|at| {
                let seen = race.moves.load(Relaxed);
                run(at)?;
                // A race needs two.
                while race.moves.load(Relaxed) == seen && !racer.is_finished() {
                    thread::yield_now();
                }
                anyhow::Ok(())
            });
            race.is_over.store(true, Relaxed);
            racer.join().map_err(|_| anyhow!("the racer panicked"))??;
            outcome
        })
    }

    /// Makes moves until it is over.
    pub(super) fn go_on(&self, mut make_move: impl FnMut() -> Result<()>) -> Result<()> {
        while !self.is_over.load(Relaxed) {
            make_move()?;
            self.moves.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}
