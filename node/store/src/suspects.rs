//! Files of which a read found that they are not as they were written, on their way to whoever mends them: the
//! node's scrub, which asks the others for what is lost.
//!
//! What is applied has a way of its own: all of the node waits for it. Of reads, each file waits once, however many
//! they are, and for as long as somebody waits for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// Files that reads suspect at a time; a read that finds one more is told that it is not mended.
const FILES_MAX: usize = 64;
/// Reads that wait for one file.
const READS_MAX: usize = 256;

/// A file that what is applied needs.
#[derive(Debug)]
pub struct Suspect {
    pub path: PathBuf,
    /// What comes later is too late.
    pub deadline: Instant,
    asker: oneshot::Sender<bool>,
}

impl Suspect {
    /// Whether it is mended: then what was read can be read again.
    pub fn answer(self, is_mended: bool) {
        // An error is an asker that has left.
        let _ = self.asker.send(is_mended);
    }
}

/// Both ways, for the one that mends.
#[derive(Debug)]
pub struct Suspected {
    pub applying: mpsc::Receiver<Suspect>,
    pub reads: SuspectedByReads,
}

/// Files that reads suspect.
#[derive(Debug, Clone)]
pub struct SuspectedByReads(Arc<Reads>);

#[derive(Debug, Default)]
struct Reads {
    /// Those who wait, by file.
    waiting: Mutex<BTreeMap<PathBuf, Vec<oneshot::Sender<bool>>>>,
    news: Notify,
}

impl Reads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Vec<oneshot::Sender<bool>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SuspectedByReads {
    /// The next file for which somebody waits; it is the next one until it is answered. May be dropped at any await.
    pub async fn next(&self) -> PathBuf {
        loop {
            let next = {
                let mut waiting = self.0.lock();
                waiting.retain(|_, askers| askers.iter().any(|asker| !asker.is_closed()));
                waiting.keys().next().cloned()
            };
            match next {
                Some(path) => return path,
                None => self.0.news.notified().await,
            }
        }
    }

    /// Whether this file is mended: then what was read of it can be read again.
    pub fn answer(&self, path: &Path, is_mended: bool) {
        let askers = self.0.lock().remove(path);
        for asker in askers.into_iter().flatten() {
            let _ = asker.send(is_mended);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Suspects {
    applying: mpsc::Sender<Suspect>,
    reads: Arc<Reads>,
    /// Until somebody mends.
    suspected: Mutex<Option<Suspected>>,
}

impl Default for Suspects {
    fn default() -> Self {
        // One at a time applies.
        let (sender, applying) = mpsc::channel(1);
        let reads = Arc::<Reads>::default();
        let suspected = Suspected { applying, reads: SuspectedByReads(reads.clone()) };
        Self { applying: sender, reads, suspected: Mutex::new(Some(suspected)) }
    }
}

impl Suspects {
    /// Both ways, for the one that mends: nobody else gets them.
    pub(crate) fn take(&self) -> Option<Suspected> {
        self.suspected.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Then nothing is waited for.
    pub(crate) fn is_mended_by_nobody(&self) -> bool {
        self.suspected.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Has a file looked at that a read suspects; whether it was mended. As long as that takes; may be dropped at
    /// any await.
    pub(crate) async fn mended(&self, path: &Path) -> bool {
        if self.is_mended_by_nobody() {
            return false;
        }
        let (asker, answer) = oneshot::channel();
        {
            let mut waiting = self.reads.lock();
            let is_known = waiting.contains_key(path);
            if !is_known && waiting.len() >= FILES_MAX {
                return false;
            }
            let askers = waiting.entry(path.to_path_buf()).or_default();
            if askers.len() >= READS_MAX {
                askers.retain(|asker| !asker.is_closed());
            }
            if askers.len() >= READS_MAX {
                return false;
            }
            askers.push(asker);
        }
        self.reads.news.notify_one();
        answer.await.unwrap_or(false)
    }

    /// The same of a file that what is applied needs, ahead of all reads and until a deadline.
    pub(crate) async fn mended_until(&self, path: &Path, deadline: Instant) -> bool {
        if self.is_mended_by_nobody() {
            return false;
        }
        let (asker, answer) = oneshot::channel();
        let suspect = Suspect { path: path.to_path_buf(), deadline, asker };
        let mended = async { self.applying.send(suspect).await.is_ok() && answer.await.unwrap_or(false) };
        tokio::time::timeout_at(deadline, mended).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_file_waits_once_for_all_reads_and_not_for_those_who_left() {
        let suspects = Suspects::default();
        let (a, b) = (Path::new("a.seg"), Path::new("b.seg"));
        assert!(!suspects.mended(a).await, "nobody mends yet");
        let Suspected { reads, .. } = suspects.take().unwrap();
        // One that leaves.
        let left = tokio::time::timeout(Duration::ZERO, suspects.mended(a)).await;
        assert!(left.is_err());
        let mends = async {
            assert_eq!(reads.next().await, b);
            assert_eq!(reads.next().await, b, "until it is answered");
            reads.answer(b, true);
        };
        let (one, other, ()) = tokio::join!(suspects.mended(b), suspects.mended(b), mends);
        assert!(one && other);
        assert!(tokio::time::timeout(Duration::ZERO, reads.next()).await.is_err(), "nobody waits");
    }

    #[tokio::test]
    async fn files_and_reads_that_wait_are_bounded_and_what_is_applied_has_a_way_of_its_own() {
        let suspects = Suspects::default();
        let Suspected { mut applying, reads } = suspects.take().unwrap();
        let path = |number: usize| PathBuf::from(format!("{number}.seg"));
        let waits = (0..FILES_MAX).map(|number| {
            let (suspects, path) = (&suspects, path(number));
            async move { suspects.mended(&path).await }
        });
        let all = futures_util::future::join_all(waits);
        let mends = async {
            assert!(!suspects.mended(&path(FILES_MAX)).await, "no more files");
            let deadline = Instant::now() + Duration::from_secs(60);
            let (last, ()) = (path(FILES_MAX), ());
            let (is_mended, ()) = tokio::join!(suspects.mended_until(&last, deadline), async {
                let suspect = applying.recv().await.unwrap();
                assert_eq!((&suspect.path, suspect.deadline), (&path(FILES_MAX), deadline));
                suspect.answer(true);
            });
            assert!(is_mended);
            (0..FILES_MAX).for_each(|number| reads.answer(&path(number), false));
        };
        let (answers, ()) = tokio::join!(all, mends);
        assert!(answers.iter().all(|is_mended| !is_mended));
    }
}
