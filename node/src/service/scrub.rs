//! Reads sealed segments and files of claims again, one now and then, so that what is rotten is known while others
//! have it; and has them give what this node's disk has lost.
//!
//! What is lost is asked of members whose states are not known to differ: of two where two are there, who must give
//! the same. Where none gives it, or where what they give is not proved to be it, the file stays as it is, and is
//! tried again after a pause that doubles.
//!
//! One task, [`run`]; it may be dropped at any await. What is applied waits for nothing of what is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState};
use skep_raft::peers::Peers;
use skep_raft::wire::{MENDS, RecordName, Request, Response};
use skep_state::message::StoredMessage;
use skep_store::{Mend, Raft, Reader, Rotten, Scrub, StoreError, Suspect, Suspected, SuspectedByReads};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ServiceError;
use super::equal::Equal;

/// How long another node is waited for; one that does not answer is not asked again for the same file.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Those who must give the same record, where so many are there.
const GIVERS: usize = 2;
/// How long a leader that cannot apply waits for another to take over before it mends.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long a file that could not be mended is not looked at again, whoever reads it, the first time and at most:
/// to look reads all of it.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));

/// What [`run`] needs.
#[derive(Clone)]
pub struct Scrubs {
    pub node_id: NodeId,
    pub reader: Reader,
    pub raft: Raft,
    pub peers: Peers,
    pub gossip: Gossip,
    pub equal: Equal,
    /// Between two files.
    pub interval: Duration,
}

/// Runs for as long as the node. A leader that lacks what it applies hands over with `hand_over`.
pub async fn run<F>(scrubs: Scrubs, suspected: Suspected, hand_over: impl Fn(NodeId) -> F + Send)
where
    F: Future<Output = Result<(), String>> + Send,
{
    let applying = scrubs.mend_what_is_applied(suspected.applying, hand_over);
    tokio::join!(applying, scrubs.go_round(suspected.reads));
}

/// Files that could not be mended.
#[derive(Default)]
struct Pauses(BTreeMap<PathBuf, (Instant, Duration)>);

impl Pauses {
    fn has(&self, path: &Path, now: Instant) -> bool {
        self.0.get(path).is_some_and(|(until, _)| now < *until)
    }

    /// Takes what a try came to.
    fn note(&mut self, path: &Path, is_mended: bool, now: Instant) {
        if is_mended {
            self.0.remove(path);
            return;
        }
        let last = self.0.get(path).map(|(_, last)| *last);
        let pause = last.map_or(PAUSE.0, |last| (last * 2).min(PAUSE.1));
        self.0.insert(path.to_path_buf(), (now + pause, pause));
    }

    /// Of those that are there no more nothing is to be known.
    fn keep(&mut self, there: &[Rotten]) {
        self.0.retain(|path, _| there.iter().any(|rotten| rotten.path() == path));
    }
}

impl Scrubs {
    async fn mend_what_is_applied<F>(
        &self,
        mut suspects: mpsc::Receiver<Suspect>,
        hand_over: impl Fn(NodeId) -> F + Send,
    ) where
        F: Future<Output = Result<(), String>> + Send,
    {
        while let Some(suspect) = suspects.recv().await {
            // Who leads and does not apply holds up all.
            if let Some(heir) = self.heir() {
                match tokio::time::timeout(HAND_OVER_TIMEOUT, hand_over(heir)).await {
                    Ok(Ok(())) => {
                        tracing::info!(to = %heir, "leadership was handed over, for a record is lost here")
                    }
                    failed => tracing::debug!(to = %heir, ?failed, "leadership was not handed over"),
                }
            }
            let mends = async {
                let Some(rotten) = self.find(&suspect.path).await else { return false };
                self.mend(&rotten).await.is_some()
            };
            let is_mended = tokio::time::timeout_at(suspect.deadline, mends).await.unwrap_or(false);
            suspect.answer(is_mended);
        }
    }

    /// Reads one file after the other, and what reads suspect between them.
    async fn go_round(&self, reads: SuspectedByReads) {
        let mut scrub = Scrub::new(self.reader.clone());
        let mut pauses = Pauses::default();
        let mut next = Instant::now() + self.interval;
        loop {
            let suspect = tokio::select! {
                () = tokio::time::sleep_until(next) => None,
                path = reads.next() => Some(path),
            };
            if let Some(path) = suspect {
                let is_paused = pauses.has(&path, Instant::now());
                let found = if is_paused { None } else { self.find(&path).await };
                let is_mended = match found {
                    Some(rotten) => {
                        let mended = self.mend(&rotten).await;
                        let is_mended = mended.is_some();
                        // One that is sound, and could not be read, is not read whole again at each try.
                        pauses.note(&path, mended.is_some_and(|records| records > 0), Instant::now());
                        if is_mended {
                            scrub.forget(&rotten);
                        } else {
                            scrub.note(&rotten);
                        }
                        is_mended
                    }
                    None => false,
                };
                reads.answer(&path, is_mended);
                continue;
            }
            let stepped = blocking(move || {
                let news = scrub.step();
                let rotten = scrub.rotten();
                (scrub, news, rotten)
            })
            .await;
            let Ok((back, news, rotten)) = stepped else { return };
            scrub = back;
            if let Some(error) = news {
                tracing::error!(
                    %error,
                    "what is on this node's disk is not as it was written; what is lost is asked of the other nodes"
                );
            }
            pauses.keep(&rotten);
            // One at a time: to look reads all of it, and to mend writes all of it.
            if let Some(rotten) = rotten.iter().find(|rotten| !pauses.has(rotten.path(), Instant::now())) {
                let mended = self.mend(rotten).await;
                pauses.note(rotten.path(), mended.is_some_and(|records| records > 0), Instant::now());
                if mended.is_some() {
                    scrub.forget(rotten);
                }
            }
            next = Instant::now() + self.interval;
        }
    }

    async fn find(&self, path: &Path) -> Option<Rotten> {
        let (reader, path) = (self.reader.clone(), path.to_path_buf());
        blocking(move || Rotten::find(&reader, &path)).await.ok().flatten()
    }

    /// Mends a file, where the other nodes have what is lost of it: how many records that were, none where the file is
    /// sound.
    async fn mend(&self, rotten: &Rotten) -> Option<u64> {
        let file = rotten.path().display();
        match self.try_to_mend(rotten.clone()).await {
            Ok(Some(0)) => Some(0),
            Ok(Some(records)) => {
                tracing::warn!(%file, records, "what the disk had lost is there again; look at the disk");
                Some(records)
            }
            Ok(None) => {
                tracing::warn!(%file, "no other node gives what the disk has lost");
                None
            }
            Err(error) => {
                tracing::warn!(%file, %error, "what the disk has lost could not be mended");
                None
            }
        }
    }

    /// How many records came from others; none where they do not give what is lost.
    async fn try_to_mend(&self, rotten: Rotten) -> Result<Option<u64>, StoreError> {
        let reader = self.reader.clone();
        let looked = blocking(move || Mend::look(reader, rotten)).await??;
        let Some(mut mend) = looked else { return Ok(Some(0)) };
        let (mut records, mut silent) = (0, BTreeSet::new());
        loop {
            let wanted = mend.wanted();
            if wanted.is_empty() {
                break;
            }
            let given = self.ask(&wanted, &mut silent).await;
            let (back, taken) = blocking(move || {
                let taken = mend.take(&given);
                (mend, taken)
            })
            .await?;
            mend = back;
            let taken = taken?;
            if taken == 0 {
                // What was copied may be long.
                blocking(move || drop(mend)).await?;
                return Ok(None);
            }
            records += taken;
        }
        Ok(blocking(move || mend.finish()).await??.then_some(records.max(1)))
    }

    /// What others answer for these records: until so many have the first of them as must agree, or all were asked.
    async fn ask(&self, wanted: &[RecordName], silent: &mut BTreeSet<NodeId>) -> Vec<Vec<Option<Bytes>>> {
        let (mut answered, mut givers) = (Vec::new(), 0);
        let others: Vec<_> = self.others().into_iter().filter(|id| !silent.contains(id)).collect();
        for some in others.chunks(GIVERS) {
            let answers = join_all(some.iter().map(async |id| {
                let deadline = Instant::now() + ASK_TIMEOUT;
                let answer = self.peers.call(*id, Request::Records(wanted.to_vec()), deadline).await;
                (*id, answer)
            }));
            for (id, answer) in answers.await {
                match answer {
                    Ok(Response::Records(records)) if !records.is_empty() => {
                        givers += usize::from(matches!(records.first(), Some(Some(_))));
                        answered.push(records);
                    }
                    other => {
                        tracing::debug!(peer = %id, ?other, "it does not give what is lost here");
                        silent.insert(id);
                    }
                }
            }
            if givers >= GIVERS {
                break;
            }
        }
        answered
    }

    /// Members that can be asked.
    fn others(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let members = metrics.membership_config.membership().nodes().map(|(id, _)| NodeId(*id)).collect();
        let view = self.gossip.view().borrow().clone();
        let mut others = self.equal.trusted(members);
        others.retain(|id| {
            let record = view.live(*id).filter(|_| *id != self.node_id);
            record.is_some_and(|record| record.protocol.1 >= MENDS && record.state != NodeState::Left)
        });
        others
    }

    /// To whom this node hands over, where it leads.
    fn heir(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let voters: BTreeSet<_> = metrics.membership_config.membership().voter_ids().map(NodeId).collect();
        let view = self.gossip.view().borrow().clone();
        let is_ready = |id: &NodeId| view.live(*id).is_some_and(|record| record.state == NodeState::Ready);
        let leads = metrics.current_leader == Some(self.node_id.0);
        let mut others = self.equal.trusted(voters).into_iter().filter(|id| *id != self.node_id);
        others.find(is_ready).filter(|_| leads)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Stopped(error.to_string()))
}

/// Reads; where a file is not as it was written, once more as soon as it is mended.
pub(super) async fn read_mended<T, F>(
    reader: &Reader,
    deadline: Instant,
    read: impl Fn() -> F,
) -> Result<T, ServiceError>
where
    F: Future<Output = Result<T, ServiceError>>,
{
    match read().await {
        Err(ServiceError::Rotten { path, .. }) if is_mended(reader, &path, deadline).await => read().await,
        result => result,
    }
}

/// The same of a page, of which `make` makes what is wanted where it was read.
pub async fn read_page_mended<T, F>(
    reader: &Reader,
    deadline: Instant,
    after: u64,
    (count_max, bytes_max): (usize, usize),
    make: F,
) -> Result<T, ServiceError>
where
    T: Send + 'static,
    F: FnOnce(Vec<StoredMessage>) -> Result<T, ServiceError> + Send + 'static,
{
    let read = |make: F| {
        reader.elsewhere(move |reader| match reader.page(after, count_max, bytes_max) {
            Ok(messages) => Ok(make(messages)),
            Err(error) => Err((ServiceError::from(error), make)),
        })
    };
    let (error, make) = match read(make).await? {
        Ok(made) => return made,
        Err(failed) => failed,
    };
    match error {
        ServiceError::Rotten { path, .. } if is_mended(reader, &path, deadline).await => {
            match read(make).await? {
                Ok(made) => made,
                Err((error, _)) => Err(error),
            }
        }
        error => Err(error),
    }
}

async fn is_mended(reader: &Reader, path: &Path, deadline: Instant) -> bool {
    tokio::time::timeout_at(deadline, reader.mended(path)).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_mended_is_tried_again_after_pauses_that_double_up_to_a_bound() {
        let (mut pauses, mut now) = (Pauses::default(), Instant::now());
        let (a, b) = (Path::new("a.seg"), Path::new("b.seg"));
        let mut lengths = Vec::new();
        for _ in 0..12 {
            assert!(!pauses.has(a, now));
            pauses.note(a, false, now);
            let pause = pauses.0[a].1;
            assert!(pauses.has(a, now + pause - Duration::from_millis(1)) && !pauses.has(b, now));
            lengths.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(lengths[..4], [2, 4, 8, 16]);
        assert_eq!(lengths[11], PAUSE.1.as_secs());
        pauses.note(a, true, now);
        pauses.note(a, false, now);
        assert_eq!(pauses.0[a].1, PAUSE.0, "mended meanwhile");
        pauses.keep(&[]);
        assert!(pauses.0.is_empty());
    }
}
