//! A node in memory, for tests of the APIs and of their clients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use skep_base::id::NodeId;
use skep_members::gossip::View;
use skep_state::message::{Digest, StoredMessage};
use skep_state::rolling::Rolling;
use tokio::sync::{Semaphore, watch};

use super::node::{AdminApi, Chunks};
use crate::kinds::served::{MessageApi, TaskApi};
use crate::service::figures::Heard;
use crate::service::list::{self, Filter};
use crate::service::operator::{OperatorError, PeerProgress};
use crate::service::secrets::Secrets;
use crate::service::tasks::{HeardWorker, Word};
use crate::service::time::MemberClock;
use crate::service::{Claim, Clocks, ClusterStatus, Counted, Page, Put, ServiceError, Written};
use skep_raft::wire::TimeMend;
use skep_state::clock::{Clock, Stamp};
use skep_state::command::OpOutcome;
use skep_state::gateway::Revision;
use skep_state::heap::Held;
use skep_state::kind::{At, Kind};
use skep_state::kinds::gateway::Gateway;
use skep_state::kinds::schedules::Schedules;
use skep_state::kinds::tasks::Tasks;
use skep_state::kinds::text::Newest;
use skep_state::level::{Level, Limits};
use skep_state::schedule::{Schedule, ScheduleOp, ScheduleOutcome};
use skep_state::task::{TaskOp, TaskOutcome};
use skep_store::{Applied, Block, Lookup};

pub const NODE_ID: &str = "00000000000000a1";

/// Clones share the node.
#[derive(Clone)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    /// A request takes a permit to go on; without any, it waits.
    pub gate: Arc<Semaphore>,
    applied: watch::Sender<Applied>,
    told: Arc<gateway::Told>,
    /// Who is there, by gossip.
    pub members: watch::Sender<Arc<View>>,
    /// Without a key, unless a test gives one.
    pub secrets: Secrets,
}

#[derive(Default)]
pub struct State {
    pub messages: Vec<StoredMessage>,
    pub text: Option<Newest>,
    pub failure: Option<ServiceError>,
    pub not_ready: Option<String>,
    pub not_started: Option<String>,
    pub removed: Vec<NodeId>,
    pub restored: Vec<u8>,
    pub snapshot_fails: bool,
    pub claims: Vec<Claim>,
    pub gone: Vec<Digest>,
    pub tasks: Tasks,
    pub gateway: Gateway,
    /// What balancers say of what they do.
    pub figures: HashMap<NodeId, Heard>,
    pub schedules: Schedules,
    pub shifts: shifts::Held,
    /// What workers said that they hold.
    pub beats: Vec<u64>,
    pub level: Option<Level>,
    /// Bytes of tasks that are lost.
    pub lost: Vec<Bytes>,
    /// Most that was read of them at once.
    pub read_bytes_max: usize,
    pub heard: Vec<HeardWorker>,
    applied: u64,
    clock: Clock,
    pub is_time_mended: bool,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            applied: watch::Sender::default(),
            told: Arc::default(),
            members: watch::Sender::new(Arc::new(gateway::alone())),
            secrets: Secrets::new(None),
        }
    }
}

mod gateway;
mod schedules;
mod shifts;

impl Fake {
    pub fn fail(&self, failure: ServiceError) {
        self.state.lock().unwrap().failure = Some(failure);
    }

    async fn pass(&self) -> Result<(), ServiceError> {
        let _permit = self.gate.acquire().await.unwrap();
        self.state.lock().unwrap().failure.clone().map_or(Ok(()), Err)
    }

    fn read(&self, after: u64, count_max: usize, bytes_max: usize) -> Vec<StoredMessage> {
        let mut bytes = 0;
        let all = &self.state.lock().unwrap().messages;
        let wanted = all.iter().filter(|message| message.seq > after).take(count_max);
        let fits = wanted.take_while(|message| {
            let first = bytes == 0;
            bytes += message.body.len();
            first || bytes <= bytes_max
        });
        fits.cloned().collect()
    }

    /// Whether the same request came before.
    fn claim(&self, claim: Option<Claim>) -> Result<bool, ServiceError> {
        let Some(claim) = claim else { return Ok(false) };
        let claims = &mut self.state.lock().unwrap().claims;
        match claims.iter().find(|old| old.key == claim.key) {
            Some(old) if *old == claim => Ok(true),
            Some(_) => Err(ServiceError::KeyTaken { detail: "given to another request".into() }),
            None => {
                claims.push(claim);
                Ok(false)
            }
        }
    }
}

impl MessageApi for Fake {
    fn node_id(&self) -> NodeId {
        NODE_ID.parse().unwrap()
    }

    async fn put_message(
        &self,
        content_type: String,
        body: Bytes,
        claim: Option<Claim>,
    ) -> Result<Put, ServiceError> {
        self.pass().await?;
        let repeated = self.claim(claim)?;
        let digest = Digest::of(&body);
        let messages = &mut self.state.lock().unwrap().messages;
        if let Some(old) = messages.iter().find(|message| message.digest == digest) {
            return Ok(Put { digest, seq: old.seq, created: repeated, repeated });
        }
        let seq = messages.len() as u64 + 1;
        messages.push(StoredMessage { seq, time_ms: 1_000 * seq, digest, content_type, body });
        self.applied.send_replace(Applied { index: Some(seq), seq, ..Applied::default() });
        Ok(Put { digest, seq, created: true, repeated: false })
    }

    async fn message(&self, digest: &Digest) -> Result<Lookup, ServiceError> {
        self.pass().await?;
        let state = self.state.lock().unwrap();
        if state.gone.contains(digest) {
            return Ok(Lookup::Gone);
        }
        let found = state.messages.iter().find(|message| message.digest == *digest);
        Ok(found.cloned().map_or(Lookup::Unknown, Lookup::Here))
    }

    async fn page(&self, last: u64, after: u64, limit: usize, filter: Filter) -> Result<Page, ServiceError> {
        let read = |after, count, bytes| Ok::<_, ServiceError>(self.read(after, count, bytes));
        list::page(read, |_| Ok(Block::default()), last, after, limit, usize::MAX, &filter)
    }

    async fn count(&self, filter: Filter) -> Result<Counted, ServiceError> {
        let last_seq = self.current().await?;
        let read = |after, count, bytes| Ok::<_, ServiceError>(self.read(after, count, bytes));
        let between = |from, upto| upto - from;
        Ok(Counted {
            messages: list::count(read, |_| Ok(Block::default()), between, last_seq, &filter, || Ok(()))?,
            last_seq,
        })
    }

    async fn current(&self) -> Result<u64, ServiceError> {
        self.pass().await?;
        Ok(self.state.lock().unwrap().messages.len() as u64)
    }

    fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    fn read_now(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<StoredMessage>>, ServiceError> {
        // Some of it is in memory, and some is not.
        Ok(after.is_multiple_of(2).then(|| self.read(after, count_max, bytes_max)))
    }

    fn read_here<T: Send + 'static>(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
        make: impl FnOnce(Vec<StoredMessage>) -> Result<T, ServiceError> + Send + 'static,
    ) -> impl Future<Output = Result<T, ServiceError>> + Send + 'static {
        std::future::ready(make(self.read(after, count_max, bytes_max)))
    }

    fn readiness(&self) -> Result<(), String> {
        AdminApi::readiness(self)
    }

    fn cluster(&self) -> ClusterStatus {
        AdminApi::cluster(self)
    }

    async fn write_text(&self, text: Bytes, claim: Option<Claim>) -> Result<Written, ServiceError> {
        self.pass().await?;
        let repeated = self.claim(claim)?;
        let newest = &mut self.state.lock().unwrap().text;
        let version = newest.as_ref().map_or(0, |text| text.version) + u64::from(!repeated);
        *newest = Some(Newest { version, time: Stamp(version), text });
        Ok(Written { version, repeated })
    }

    async fn read_text(&self) -> Result<Option<Newest>, ServiceError> {
        self.pass().await?;
        Ok(self.state.lock().unwrap().text.clone())
    }
}

/// Tasks as they are, but for the log.
impl TaskApi for Fake {
    fn now_ms(&self) -> u64 {
        self.state.lock().unwrap().clock.latest().0
    }

    fn tasks<T>(&self, look: impl FnOnce(&Tasks) -> T) -> T {
        look(&self.state.lock().unwrap().tasks)
    }

    fn level(&self) -> Level {
        self.state.lock().unwrap().level.unwrap_or(Level::NEWEST)
    }

    async fn read_each(&self, held: Vec<Held>) -> Result<Vec<Option<Bytes>>, ServiceError> {
        let state = &mut self.state.lock().unwrap();
        state.read_bytes_max = state.read_bytes_max.max(held.iter().map(Held::len).sum());
        Ok(held.iter().map(|held| held.read().ok().filter(|bytes| !state.lost.contains(bytes))).collect())
    }

    async fn change_tasks(
        &self,
        op: TaskOp,
        claim: Option<Claim>,
    ) -> Result<(TaskOutcome, bool), ServiceError> {
        self.pass().await?;
        let repeated = self.claim(claim)?;
        let (outcome, applied) = {
            let state = &mut *self.state.lock().unwrap();
            let (clock, limits) = (&mut state.clock, &Limits::of(Level::TASKS));
            let time = Stamp(clock.latest().0 + 1);
            let rolling = &mut Rolling::default();
            let mends = skep_state::clock::mends::Mends::default();
            let mut at = At { index: 1, clock, mends: &mends, level: Level::NEWEST, limits, rolling };
            let OpOutcome::Tasks(outcome) = state.tasks.apply((&op, time), &mut at).unwrap() else {
                panic!("another outcome");
            };
            state.applied += 1;
            let revision = state.tasks.revision();
            (outcome, (state.applied, revision))
        };
        let mut now = *self.applied.borrow();
        (now.index, now.revisions.tasks) = (Some(applied.0), applied.1);
        self.applied.send_replace(now);
        Ok((outcome, repeated))
    }

    async fn change_all_tasks(&self, ops: Vec<TaskOp>) -> Result<Vec<TaskOutcome>, ServiceError> {
        let mut outcomes = Vec::new();
        for op in ops {
            outcomes.push(self.change_tasks(op, None).await?.0);
        }
        Ok(outcomes)
    }

    async fn tell_of_worker(&self, word: Word<'_>) -> Result<Option<bool>, ServiceError> {
        let state = &mut self.state.lock().unwrap();
        if word.ended.is_none() {
            state.beats.extend_from_slice(word.fences);
            if word.slots > 0 {
                let (worker, version, quiet) = (word.worker.to_owned(), word.version.to_owned(), word.quiet);
                state.heard.push(HeardWorker { worker, ago_ms: 0, slots: word.slots, version, quiet });
            }
        }
        let known = state.heard.iter().find(|heard| heard.worker == word.worker);
        Ok(known.and_then(|heard| heard.quiet).filter(|quiet| word.quiet == Some(!quiet)))
    }

    async fn quiet_worker(&self, worker: &str, quiet: bool) -> Result<bool, ServiceError> {
        let heard = &mut self.state.lock().unwrap().heard;
        let known = heard.iter_mut().find(|heard| heard.worker == worker);
        Ok(known.map(|heard| heard.quiet = Some(quiet)).is_some())
    }

    async fn heard_workers(&self, after: &str, limit: u32) -> Option<Vec<HeardWorker>> {
        let heard = self.state.lock().unwrap().heard.clone();
        Some(heard.into_iter().filter(|it| *it.worker > *after).take(limit as usize).collect())
    }

    fn schedules<T>(&self, look: impl FnOnce(&Schedules) -> T) -> T {
        look(&self.state.lock().unwrap().schedules)
    }

    async fn set_schedule(&self, name: String, schedule: Schedule) -> Result<ScheduleOutcome, ServiceError> {
        self.change_schedules(|nonce| ScheduleOp::Set { nonce, name, schedule: Box::new(schedule) }).await
    }

    async fn remove_schedule(&self, name: String) -> Result<ScheduleOutcome, ServiceError> {
        self.change_schedules(|nonce| ScheduleOp::Remove { nonce, name }).await
    }
}

impl AdminApi for Fake {
    fn node_id(&self) -> NodeId {
        MessageApi::node_id(self)
    }

    fn cluster(&self) -> ClusterStatus {
        ClusterStatus {
            cluster_id: Some("c".repeat(32)),
            node_id: NODE_ID.into(),
            leader: Some(NODE_ID.into()),
            term: 3,
            committed: Some(7),
            applied: Some(7),
            differs: None,
            secrets: None,
            members: vec![crate::service::MemberStatus {
                id: NODE_ID.into(),
                role: "node",
                state: "ready",
                raft: "leader",
                http: Some("127.0.0.1:8080".into()),
                peer: Some("127.0.0.1:7400".into()),
                version: Some("0.1.0".into()),
            }],
        }
    }

    fn readiness(&self) -> Result<(), String> {
        self.state.lock().unwrap().not_ready.clone().map_or(Ok(()), Err)
    }

    fn started(&self) -> Result<(), String> {
        self.state.lock().unwrap().not_started.clone().map_or(Ok(()), Err)
    }

    async fn peers(&self) -> Vec<PeerProgress> {
        vec![PeerProgress {
            id: NODE_ID.into(),
            role: "leader",
            state: "live",
            matched: Some(7),
            lag: Some(0),
            address: None,
        }]
    }

    type Tasks = Fake;
    fn tasks(&self) -> Arc<Fake> {
        Arc::new(self.clone())
    }

    fn clocks(&self) -> Clocks {
        let members = vec![MemberClock { id: NODE_ID.into(), offset_ms: -12 }];
        Clocks {
            time_ms: 1_700_000_000_000,
            newest_ms: 1_700_000_000_000,
            agreed: false,
            all_tell: true,
            members,
        }
    }

    async fn mend_time(&self, shown_ms: Option<u64>) -> Result<TimeMend, OperatorError> {
        let act = shown_ms.is_some();
        let state = &mut self.state.lock().unwrap();
        let (newest_ms, agreed_ms) = (1_705_184_000_000, 1_700_000_000_000);
        let is_ahead = !state.is_time_mended;
        if act && !is_ahead {
            return Err(OperatorError::Refused("it is not ahead".into()));
        }
        if shown_ms.is_some_and(|shown_ms| shown_ms.abs_diff(agreed_ms) > 60_000) {
            return Err(OperatorError::Refused("the clocks agree on another time by now".into()));
        }
        state.is_time_mended |= act;
        Ok(TimeMend { newest_ms, agreed_ms, is_ahead, messages: 3, is_mended: act })
    }

    async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, OperatorError> {
        match to {
            Some(id) if id == MessageApi::node_id(self) => {
                Err(OperatorError::Refused(format!("node {id} leads already")))
            }
            Some(id) => Ok(id),
            None => Ok(NodeId(0xb2)),
        }
    }

    async fn force_leave(&self, id: NodeId) -> Result<(), OperatorError> {
        self.state.lock().unwrap().removed.push(id);
        Ok(())
    }

    async fn remove_message(&self, digest: Digest) -> Result<u64, OperatorError> {
        let mut state = self.state.lock().unwrap();
        if state.gone.contains(&digest) {
            return Err(OperatorError::Gone("gone already".into()));
        }
        let found = state.messages.iter().find(|message| message.digest == digest);
        let seq = found.ok_or_else(|| OperatorError::NoMessage("there is none".into()))?.seq;
        state.gone.push(digest);
        Ok(seq)
    }

    async fn snapshot(&self) -> Result<Chunks, OperatorError> {
        let mut chunks = vec![Ok(Bytes::from_static(b"snap")), Ok(Bytes::from_static(b"shot"))];
        if self.state.lock().unwrap().snapshot_fails {
            chunks.push(Err(std::io::Error::other("the disk is gone")));
        }
        Ok(futures_util::stream::iter(chunks).boxed())
    }

    async fn restore(&self, mut chunks: Chunks) -> Result<u64, OperatorError> {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| OperatorError::Failed(error.to_string()))?;
            self.state.lock().unwrap().restored.extend_from_slice(&chunk);
        }
        Ok(7)
    }
}
