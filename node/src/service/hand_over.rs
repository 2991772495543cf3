//! Answers to many at once, for where those who wait for them run.
//!
//! Waking a task of another runtime costs a lock and perhaps a system call, paid by who wakes. So consensus
//! wakes one task for a whole batch of answers, and that one wakes its neighbours.

use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Batches that wait for their turn; one more is given out by who made it.
const BATCHES_MAX: usize = 64;

type Batch = Box<dyn FnOnce() + Send>;

/// Gives answers out. Clones share the way.
#[derive(Debug, Clone)]
pub struct HandOver(Option<mpsc::Sender<Batch>>);

impl HandOver {
    /// Where those who wait run on the same thread.
    pub fn here() -> Self {
        Self(None)
    }

    /// Where they run on another runtime. Its task ends with the last clone.
    pub fn to(runtime: &Handle) -> Self {
        let (batches, mut given) = mpsc::channel::<Batch>(BATCHES_MAX);
        runtime.spawn(async move {
            while let Some(batch) = given.recv().await {
                batch();
            }
        });
        Self(Some(batches))
    }

    /// Gives a batch of answers out.
    pub fn give(&self, batch: impl FnOnce() + Send + 'static) {
        match &self.0 {
            None => batch(),
            Some(batches) => {
                if let Err(refused) = batches.try_send(Box::new(batch)) {
                    refused.into_inner()();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_batch_is_given_out_where_its_answers_are_waited_for() {
        let there = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("there")
            .build()
            .unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        let (told, tells) = channel();
        let tell = told.clone();
        HandOver::to(there.handle()).give(move || tell.send(name()).unwrap());
        assert_eq!(tells.recv().unwrap().as_deref(), Some("there"));
        HandOver::here().give(move || told.send(name()).unwrap());
        assert_eq!(tells.recv().unwrap(), name());
    }

    #[test]
    fn where_the_other_runtime_is_gone_answers_are_given_out_all_the_same() {
        let there = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hand_over = HandOver::to(there.handle());
        drop(there);
        let (told, tells) = channel();
        hand_over.give(move || told.send(()).unwrap());
        tells.recv().unwrap();
    }
}
