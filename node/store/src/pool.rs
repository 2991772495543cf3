//! Threads for reads that wait for the disk: few, and theirs alone, so that clients who ask for what is
//! cold wait for each other and for nobody else, and nobody else for them.
//!
//! Threads begin as they are needed and end with the pool. What waits is bounded; what nobody waits for any
//! more is not read.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Reads that wait for the disk at a time.
pub(crate) const THREADS_MAX: usize = 16;
/// Reads that may wait for a thread; one more is refused.
pub(crate) const WAITING_MAX: usize = 4096;

/// A read was not made: more of them wait than the store holds, or the store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more reads wait for the disk than this node holds")]
pub struct Busy;

type Work = Box<dyn FnOnce() + Send>;

/// Ends its threads when it goes.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    threads_max: usize,
    waiting_max: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl Pool {
    pub(crate) fn new(threads_max: usize, waiting_max: usize) -> Pool {
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), threads_max, waiting_max };
        Pool { shared: Arc::new(shared) }
    }

    /// Reads that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Does something on one of the threads. Where what is answered is dropped before its turn, it is not done.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (answer, answered) = oneshot::channel();
        self.push(Box::new(move || {
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        }))?;
        answered.await.map_err(|_| Busy)
    }

    fn push(&self, work: Work) -> Result<(), Busy> {
        let mut state = self.shared.lock();
        if state.waiting.len() >= self.shared.waiting_max {
            return Err(Busy);
        }
        if state.idle <= state.waiting.len() && state.threads < self.shared.threads_max {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("skep-read".into()).spawn(move || shared.serve());
            match thread {
                Ok(_) => state.threads += 1,
                // Those that there are will come to it.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    tracing::warn!("no thread to read with: {error}");
                    return Err(Busy);
                }
            }
        }
        state.waiting.push_back(work);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        drop(dropped);
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                work();
                state = self.lock();
            } else if state.ended {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// What holds a thread until it is let go.
    fn held(pool: &Pool) -> mpsc::Sender<()> {
        let (let_go, wait) = mpsc::channel();
        let (began, begun) = mpsc::channel();
        pool.push(Box::new(move || {
            began.send(()).unwrap();
            let _ = wait.recv();
        }))
        .unwrap();
        begun.recv().unwrap();
        let_go
    }

    #[tokio::test]
    async fn reads_beyond_the_threads_wait_and_beyond_the_bound_are_refused() {
        let pool = Pool::new(2, 1);
        let (one, _two) = (held(&pool), held(&pool));
        let mut third = Box::pin(pool.run(|| 3));
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert_eq!(pool.waiting(), 1);
        assert_eq!(pool.run(|| 4).await, Err(Busy));
        drop(one);
        assert_eq!(third.await, Ok(3));
        assert_eq!(pool.run(|| 5).await, Ok(5));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_read() {
        let pool = Pool::new(1, 8);
        let only = held(&pool);
        let (read, was_read) = mpsc::channel::<()>();
        let mut dropped = Box::pin(pool.run(move || read.send(())));
        assert!(futures_util::poll!(dropped.as_mut()).is_pending());
        drop(dropped);
        drop(only);
        assert_eq!(pool.run(|| 1).await, Ok(1));
        assert!(was_read.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_waits_ends_with_the_pool() {
        let pool = Pool::new(1, 8);
        let _only = held(&pool);
        let (answer, answered) = oneshot::channel::<()>();
        pool.push(Box::new(move || drop(answer))).unwrap();
        drop(pool);
        assert!(answered.await.is_err());
    }
}
