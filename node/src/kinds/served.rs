//! What the handlers of the kinds ask of the node. `Service` is the answer in the program; tests give a
//! fake.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use skep_base::id::NodeId;
use skep_state::heap::Held;
use skep_state::kinds::schedules::Schedules;
use skep_state::kinds::tasks::Tasks;
use skep_state::kinds::text::Newest;
use skep_state::level::Level;
use skep_state::message::{Digest, StoredMessage};
use skep_state::schedule::{Schedule, ScheduleOutcome};
use skep_state::task::{TaskOp, TaskOutcome};
use skep_store::{Applied, Lookup};
use tokio::sync::watch;

use crate::http::Account;
use crate::service::list::Filter;
use crate::service::scrub;
use crate::service::tasks::{HeardWorker, Word, lost};
use crate::service::{Claim, ClusterStatus, Counted, Page, Put, Service, ServiceError, Written};

/// What the handlers share.
pub(crate) struct Served<A> {
    pub api: Arc<A>,
    pub max_body_bytes: usize,
    pub account: Account,
}

/// The public API's view of the node. A dropped future of a write may still take effect.
pub trait MessageApi: Send + Sync + 'static {
    fn node_id(&self) -> NodeId;
    fn put_message(
        &self,
        content_type: String,
        body: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Put, ServiceError>> + Send;
    fn message(&self, digest: &Digest) -> impl Future<Output = Result<Lookup, ServiceError>> + Send;
    /// Messages after `after`, up to `last`, which [`MessageApi::current`] answered.
    fn page(
        &self,
        last: u64,
        after: u64,
        limit: usize,
        filter: Filter,
    ) -> impl Future<Output = Result<Page, ServiceError>> + Send;
    fn count(&self, filter: Filter) -> impl Future<Output = Result<Counted, ServiceError>> + Send;
    /// The last message's `seq`, once everything acknowledged before is here.
    fn current(&self) -> impl Future<Output = Result<u64, ServiceError>> + Send;
    /// How far this node is; changes with all that it applies.
    fn applied(&self) -> watch::Receiver<Applied>;
    /// What this node has of the messages after `after`, in order, where it is in memory. Asks nobody.
    fn read_now(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<StoredMessage>>, ServiceError>;
    /// The same, read and made into something on a thread that may wait for the disk.
    fn read_here<T: Send + 'static>(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
        make: impl FnOnce(Vec<StoredMessage>) -> Result<T, ServiceError> + Send + 'static,
    ) -> impl Future<Output = Result<T, ServiceError>> + Send + 'static;
    /// Whether the node should get traffic, or why not.
    fn readiness(&self) -> Result<(), String>;
    fn cluster(&self) -> ClusterStatus;
    fn write_text(
        &self,
        text: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Written, ServiceError>> + Send;
    fn read_text(&self) -> impl Future<Output = Result<Option<Newest>, ServiceError>> + Send;
}

/// What is asked of the node about tasks.
pub trait TaskApi: MessageApi {
    /// The agreed time, in milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
    /// Looks at the tasks as far as they are applied here.
    fn tasks<T>(&self, look: impl FnOnce(&Tasks) -> T) -> T;
    /// What the cluster has agreed to.
    fn level(&self) -> Level;
    /// Reads bytes of tasks, as long as the disk takes; none are there where it has lost them.
    fn read_each(
        &self,
        held: Vec<Held>,
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, ServiceError>> + Send;
    /// The same; an error where some are lost.
    fn read_held(&self, held: Vec<Held>) -> impl Future<Output = Result<Vec<Bytes>, ServiceError>> + Send {
        async move { self.read_each(held).await?.into_iter().map(|bytes| bytes.ok_or_else(lost)).collect() }
    }
    /// Answers whether the outcome is that of an earlier request.
    fn change_tasks(
        &self,
        op: TaskOp,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<(TaskOutcome, bool), ServiceError>> + Send;
    /// Changes many at once; what each comes to, in the same order.
    fn change_all_tasks(
        &self,
        ops: Vec<TaskOp>,
    ) -> impl Future<Output = Result<Vec<TaskOutcome>, ServiceError>> + Send;
    /// Tells the leader that a worker is there, or is gone; answers what the worker is to be told: to claim nothing, or
    /// to go on.
    fn tell_of_worker(
        &self,
        word: Word<'_>,
    ) -> impl Future<Output = Result<Option<bool>, ServiceError>> + Send;
    /// Has a worker claim nothing, or go on; answers whether the leader has heard of it.
    fn quiet_worker(
        &self,
        worker: &str,
        quiet: bool,
    ) -> impl Future<Output = Result<bool, ServiceError>> + Send;
    /// The workers after a name that the leader has heard of, at most so many; none where it cannot be asked now.
    fn heard_workers(&self, after: &str, limit: u32)
    -> impl Future<Output = Option<Vec<HeardWorker>>> + Send;
    /// Looks at the schedules as far as they are applied here.
    fn schedules<T>(&self, look: impl FnOnce(&Schedules) -> T) -> T;
    /// Makes a schedule, or another of the one that has the name.
    fn set_schedule(
        &self,
        name: String,
        schedule: Schedule,
    ) -> impl Future<Output = Result<ScheduleOutcome, ServiceError>> + Send;
    fn remove_schedule(
        &self,
        name: String,
    ) -> impl Future<Output = Result<ScheduleOutcome, ServiceError>> + Send;
}

impl TaskApi for Service {
    fn now_ms(&self) -> u64 {
        self.clocks().time_ms
    }
    fn tasks<T>(&self, look: impl FnOnce(&Tasks) -> T) -> T {
        Service::tasks(self, look)
    }
    fn level(&self) -> Level {
        self.reader().level()
    }
    fn read_each(
        &self,
        held: Vec<Held>,
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, ServiceError>> + Send {
        Service::read_each(self, held)
    }
    fn change_tasks(
        &self,
        op: TaskOp,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<(TaskOutcome, bool), ServiceError>> + Send {
        Service::change_tasks(self, op, claim)
    }
    fn change_all_tasks(
        &self,
        ops: Vec<TaskOp>,
    ) -> impl Future<Output = Result<Vec<TaskOutcome>, ServiceError>> + Send {
        Service::change_all_tasks(self, ops)
    }
    fn tell_of_worker(
        &self,
        word: Word<'_>,
    ) -> impl Future<Output = Result<Option<bool>, ServiceError>> + Send {
        Service::tell_of_worker(self, word)
    }
    fn quiet_worker(
        &self,
        worker: &str,
        quiet: bool,
    ) -> impl Future<Output = Result<bool, ServiceError>> + Send {
        Service::quiet_worker(self, worker, quiet)
    }
    fn heard_workers(
        &self,
        after: &str,
        limit: u32,
    ) -> impl Future<Output = Option<Vec<HeardWorker>>> + Send {
        Service::heard_workers(self, after, limit)
    }
    fn schedules<T>(&self, look: impl FnOnce(&Schedules) -> T) -> T {
        Service::schedules(self, look)
    }
    fn set_schedule(
        &self,
        name: String,
        schedule: Schedule,
    ) -> impl Future<Output = Result<ScheduleOutcome, ServiceError>> + Send {
        Service::set_schedule(self, name, schedule)
    }
    fn remove_schedule(
        &self,
        name: String,
    ) -> impl Future<Output = Result<ScheduleOutcome, ServiceError>> + Send {
        Service::remove_schedule(self, name)
    }
}

impl MessageApi for Service {
    fn node_id(&self) -> NodeId {
        Service::node_id(self)
    }
    fn put_message(
        &self,
        content_type: String,
        body: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Put, ServiceError>> + Send {
        Service::put_message(self, content_type, body, claim)
    }
    fn message(&self, digest: &Digest) -> impl Future<Output = Result<Lookup, ServiceError>> + Send {
        Service::message(self, digest)
    }
    fn page(
        &self,
        last: u64,
        after: u64,
        limit: usize,
        filter: Filter,
    ) -> impl Future<Output = Result<Page, ServiceError>> + Send {
        Service::page(self, last, after, limit, filter)
    }
    fn count(&self, filter: Filter) -> impl Future<Output = Result<Counted, ServiceError>> + Send {
        Service::count(self, filter)
    }
    fn current(&self) -> impl Future<Output = Result<u64, ServiceError>> + Send {
        Service::current(self)
    }
    fn applied(&self) -> watch::Receiver<Applied> {
        self.reader().applied()
    }
    fn read_now(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<StoredMessage>>, ServiceError> {
        Ok(self.reader().page_now(after, count_max, bytes_max)?)
    }
    fn read_here<T: Send + 'static>(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
        make: impl FnOnce(Vec<StoredMessage>) -> Result<T, ServiceError> + Send + 'static,
    ) -> impl Future<Output = Result<T, ServiceError>> + Send + 'static {
        let (reader, deadline) = (self.reader().clone(), self.deadline());
        async move { scrub::read_page_mended(&reader, deadline, after, (count_max, bytes_max), make).await }
    }
    fn readiness(&self) -> Result<(), String> {
        Service::readiness(self)
    }
    fn cluster(&self) -> ClusterStatus {
        Service::cluster(self)
    }
    fn write_text(
        &self,
        text: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Written, ServiceError>> + Send {
        Service::write_text(self, text, claim)
    }
    fn read_text(&self) -> impl Future<Output = Result<Option<Newest>, ServiceError>> + Send {
        Service::read_text(self)
    }
}
