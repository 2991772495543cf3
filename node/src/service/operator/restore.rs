//! A restore: the contents of a snapshot file, made anew in an empty cluster.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use skep_gateway::{Fault, Kept};
use skep_state::command::{COMMAND_BYTES_TARGET, COMMAND_OPS_MAX, Op, OpOutcome};
use skep_state::gateway::{GatewayOp, GatewayOutcome};
use skep_state::kinds::KindsRecord;
use skep_state::kinds::gateway::GatewayRecord;
use skep_state::kinds::tasks::TasksRecord;
use skep_state::level::Level;
use skep_state::schedule::ScheduleOutcome;
use skep_state::shift::ShiftOutcome;
use skep_state::task::TaskOutcome;
use skep_store::{SnapshotData, SnapshotSink, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::gateway::new_lineage;
use super::super::secrets::Stored;
use super::{OPERATION_TIMEOUT, Operator, OperatorError};

/// Commands of a restore that are read and not yet proposed.
const RESTORE_BATCHES_MAX: usize = 2;

impl Operator {
    /// Makes the contents of a snapshot file anew in this cluster, which must hold none; answers how
    /// many messages there were.
    pub async fn restore(
        &self,
        chunks: impl Stream<Item = std::io::Result<Bytes>>,
    ) -> Result<u64, OperatorError> {
        let failed = |error: &dyn std::fmt::Display| OperatorError::Failed(error.to_string());
        // A node that has just joined has nothing yet of a cluster that is full.
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        self.read_indexer.confirm(deadline).await.map_err(|error| failed(&error))?;
        let has_tasks = self.reader.tasks(|tasks| !tasks.is_empty());
        let has_gateway = self.reader.gateway(|gateway| gateway.newest().is_some());
        let has_tasks = has_tasks || self.reader.schedules(|schedules| !schedules.is_empty());
        let has_gateway = has_gateway || self.reader.shifts(|shifts| !shifts.is_empty());
        if self.reader.last_seq() > 0 || self.reader.newest_text().is_some() || has_tasks || has_gateway {
            return Err(OperatorError::Refused(
                "this cluster holds messages, tasks, schedules or a gateway's document; restore goes into an empty one"
                    .into(),
            ));
        }
        let mut sink = SnapshotSink::new(&self.reader);
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| failed(&error))?;
            sink.write(chunk).await.map_err(|error| OperatorError::Refused(error.to_string()))?;
        }
        let snapshot = sink.finish().await.map_err(|error| OperatorError::Refused(error.to_string()))?;
        let kinds = &snapshot.header().kinds;
        let has_tasks = kinds.tasks != TasksRecord::default();
        may_hold(self.reader.level(), kinds).map_err(OperatorError::Refused)?;
        // Nothing of it is proposed where not all of it can be.
        let checked = tokio::task::spawn_blocking(move || (snapshot.check_payloads(), snapshot)).await;
        let (checked, snapshot) = checked.map_err(|error| failed(&error))?;
        checked.map_err(|error| OperatorError::Refused(error.to_string()))?;
        let has_schedules = !snapshot.header().kinds.schedules.is_empty();
        if has_schedules && self.reader.level() < Level::SCHEDULES {
            return Err(OperatorError::Refused(
                "the snapshot holds schedules, to which the members have not agreed yet (--level-after)"
                    .into(),
            ));
        }
        // Balancers obey it at once.
        let mut gateway = None;
        if let Some(past) = newest_gateway(&snapshot.header().kinds.gateway) {
            let (secrets, level) = (self.secrets.clone(), self.reader.level());
            let sealed = level >= Level::SEALED;
            let judged = tokio::task::spawn_blocking(move || {
                may_hold_document(level, &past.document)?;
                let told = secrets.told_of(&past).ok_or("the system gives no random numbers")?;
                judge(&told)?;
                secrets.keep_anew(past, sealed).map_err(|why| format!("the gateway's document: {why}"))
            });
            let judged = judged.await.map_err(|error| failed(&error))?;
            gateway = Some(judged.map_err(OperatorError::Refused)?);
        }
        if has_tasks {
            // First, as the cluster is open meanwhile: what clients put and workers claim has other numbers and
            // fences than what is to come, and than what workers of the past may still hold.
            let given = snapshot.header().kinds.tasks.given().map(|op| Op::Tasks { time_ms: 0, op });
            let given = self.proposer.restore(given.to_vec(), Instant::now() + OPERATION_TIMEOUT).await;
            made_again(&given.map_err(|error| failed(&error))?)?;
        }
        // Through the log like any write: each node gets the same in the same order.
        let (batches, mut read) = mpsc::channel(RESTORE_BATCHES_MAX);
        let reading = tokio::task::spawn_blocking(move || {
            // The cluster that the snapshot is of may go on with numbers and data keys of its own.
            let lineage = new_lineage();
            read_again(&snapshot, &batches, |op| of_another_past(op, lineage, gateway.as_ref()))
        });
        let mut messages = 0;
        while let Some(ops) = read.recv().await {
            let restored = self.proposer.restore(ops, Instant::now() + OPERATION_TIMEOUT).await;
            let outcomes = restored.map_err(|error| failed(&error))?;
            messages += made_again(&outcomes)?;
        }
        reading.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        Ok(messages)
    }
}

/// Whether a cluster of this level may hold what a snapshot does, or why not.
fn may_hold(level: Level, kinds: &KindsRecord) -> Result<(), String> {
    // What is in files may be more than there is room for without them.
    let has_files = kinds.tasks.places().next().is_some();
    for (has_it, what, since) in [
        (kinds.tasks != TasksRecord::default(), "tasks", Level::TASKS),
        (has_files, "tasks whose bytes are in files", Level::TASK_FILES),
        (kinds.gateway != GatewayRecord::default(), "a gateway's document", Level::GATEWAY),
        (kinds.gateway.is_sealed(), "sealed secrets of a gateway's document", Level::SEALED),
        (!kinds.shifts.is_empty(), "shifts of routes", Level::SHIFTS),
    ] {
        if has_it && level < since {
            return Err(not_agreed_to(what));
        }
    }
    Ok(())
}

fn not_agreed_to(what: &str) -> String {
    format!("the snapshot holds {what}, to which the members have not agreed yet (--level-after)")
}

/// The same of a document: of one with certificates a member of the version before would show the keys.
fn may_hold_document(level: Level, document: &[u8]) -> Result<(), String> {
    let kept = std::str::from_utf8(document).ok().and_then(Kept::trusted);
    match kept.is_some_and(|it| it.has_certificates()) && level < Level::CERTIFICATES {
        true => Err(not_agreed_to("certificates in a gateway's document")),
        false => Ok(()),
    }
}

/// The newest document of a snapshot's gateway.
fn newest_gateway(gateway: &GatewayRecord) -> Option<Stored> {
    let newest = gateway.newest()?;
    let keys = gateway.keys_of(newest).cloned().collect();
    Some(Stored { document: newest.document.clone(), keys })
}

/// What makes the document anew: of another lineage, and as it is kept here.
fn of_another_past(op: GatewayOp, lineage: u128, newest: Option<&Stored>) -> GatewayOp {
    match (op, newest.cloned()) {
        (
            GatewayOp::Add { source, .. } | GatewayOp::AddSealed { source, .. },
            Some(Stored { document, keys }),
        ) => match keys.is_empty() {
            true => GatewayOp::Add { lineage, document, source },
            false => GatewayOp::AddSealed { lineage, document, source, keys },
        },
        (op, _) => op.of_lineage(lineage),
    }
}

/// Whether a balancer could obey this document, or why not. Takes the processor for long.
fn judge(document: &[u8]) -> Result<(), String> {
    let why = match std::str::from_utf8(document).map(Kept::read) {
        // It is told as it is kept.
        Ok(Ok(_)) if !document.starts_with(b"{") => "it is no JSON object".into(),
        // Nobody keeps a key as it is.
        Ok(Ok(kept)) if !is_kept(document, &kept) => "it has keys that no node has kept so".into(),
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(refused)) => refused.faults.first().map_or_else(String::new, Fault::to_string),
        Err(error) => error.to_string(),
    };
    Err(format!("the gateway's document in the snapshot is none that a balancer could obey: {why}"))
}

/// Whether it says by itself what would be kept of it.
fn is_kept(document: &[u8], kept: &Kept) -> bool {
    let told = std::str::from_utf8(document).ok().and_then(Kept::trusted);
    told.is_some_and(|told| kept.since(&told).is_none())
}

/// How many messages these outcomes are of; an error where something of the snapshot is not there now.
fn made_again(outcomes: &[OpOutcome]) -> Result<u64, OperatorError> {
    let refused = outcomes.iter().find_map(|outcome| match outcome {
        OpOutcome::Tasks(TaskOutcome::Changed { .. }) => None,
        OpOutcome::Tasks(refused) => Some(refused),
        _ => None,
    });
    let is_refused =
        |it: &&OpOutcome| matches!(it, OpOutcome::Gateway(it) if !matches!(it, GatewayOutcome::Set { .. }));
    if let Some(refused) = outcomes.iter().find(is_refused) {
        let why = format!("the cluster does not take a document of the snapshot's gateway ({refused:?})");
        return Err(OperatorError::Failed(why));
    }
    let is_refused = |it: &&OpOutcome| matches!(it, OpOutcome::Schedules(it) if !matches!(it, ScheduleOutcome::Set { .. }));
    if let Some(refused) = outcomes.iter().find(is_refused) {
        let why = format!("the cluster does not take a schedule of the snapshot ({refused:?})");
        return Err(OperatorError::Failed(why));
    }
    let is_refused = |it: &&OpOutcome| matches!(it, OpOutcome::Shifts(it) if *it != ShiftOutcome::Set);
    if let Some(refused) = outcomes.iter().find(is_refused) {
        let why = format!("the cluster does not take a shift of the snapshot ({refused:?})");
        return Err(OperatorError::Failed(why));
    }
    match refused {
        None => {
            Ok(outcomes.iter().filter(|outcome| matches!(outcome, OpOutcome::Message { .. })).count() as u64)
        }
        Some(refused) => Err(OperatorError::Failed(format!(
            "the cluster has no place for a task of the snapshot ({refused:?}), as others put tasks into it \
             meanwhile: only a part of it was restored; begin anew with an empty cluster that nobody writes to"
        ))),
    }
}

/// Reads the operations that make a snapshot's contents anew, in commands. Blocks.
fn read_again(
    snapshot: &SnapshotData,
    batches: &mpsc::Sender<Vec<Op>>,
    of_gateway: impl Fn(GatewayOp) -> GatewayOp,
) -> Result<(), StoreError> {
    let (mut ops, mut bytes) = (Vec::new(), 0);
    for op in snapshot.contents()?.again() {
        let op = match op? {
            Op::Gateway { time_ms, op } => Op::Gateway { time_ms, op: of_gateway(op) },
            op => op,
        };
        bytes += op.size_estimate();
        ops.push(op);
        if ops.len() == COMMAND_OPS_MAX || bytes >= COMMAND_BYTES_TARGET {
            bytes = 0;
            // The other end is gone where a command was refused.
            if batches.blocking_send(std::mem::take(&mut ops)).is_err() {
                return Ok(());
            }
        }
    }
    if !ops.is_empty() {
        let _ = batches.blocking_send(ops);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use skep_state::Kinds;
    use skep_state::command::Command;
    use skep_state::heap::Heap;
    use skep_state::kind::Stopped;
    use skep_state::message::{Digest, StoredMessage};
    use skep_state::records::{NewRecord, Records};
    use skep_state::task::{NewTask, Policy, TaskOp, When};

    use super::*;

    #[derive(Debug)]
    struct NoMessages;

    impl Records for NoMessages {
        fn last_seq(&self) -> u64 {
            0
        }
        fn find(&self, _: &Digest) -> Result<Option<u64>, Stopped> {
            Ok(None)
        }
        fn digest_at(&self, _: u64) -> Result<Digest, Stopped> {
            Err(Stopped::ReadOnly)
        }
        fn page(&self, _: u64, _: usize, _: usize) -> Result<Vec<StoredMessage>, Stopped> {
            Ok(Vec::new())
        }
        fn push(&mut self, _: NewRecord<'_>) -> Result<(), Stopped> {
            Err(Stopped::ReadOnly)
        }
        fn let_go(&mut self, _: u64) {}
    }

    #[test]
    fn a_document_that_no_balancer_could_obey_is_refused_with_its_fault() {
        assert_eq!(judge(b"{}"), Ok(()));
        for (document, fault) in [
            (&b"{\"services\":{\"a\":{\"urls\":7}}}"[..], "/services/a/urls"),
            (b"any bytes", "could obey: "),
            (b"unmatched = \"not-found\"", "no JSON"),
            (b"\xff\xfe", "utf-8"),
            (b"{\"consumers\":{\"a\":{\"keys\":[\"0123456789abcdef\"]}}}", "keys"),
        ] {
            let why = judge(document).unwrap_err();
            assert!(why.contains(fault), "{why}");
        }
        let kept = Kept::read("consumers.a.keys = [\"0123456789abcdef\"]").unwrap().json().unwrap();
        assert_eq!(judge(kept.as_bytes()), Ok(()));
    }

    #[test]
    fn a_document_with_certificates_is_refused_where_the_members_have_none() {
        let document = br#"{"certificates":{"a":{"certificate":"","key":"sealed1:"}}}"#;
        assert_eq!(may_hold_document(Level::CERTIFICATES, document), Ok(()));
        let refused = may_hold_document(Level(Level::CERTIFICATES.0 - 1), document).unwrap_err();
        assert!(refused.contains("certificates"), "{refused}");
        assert_eq!(may_hold_document(Level::GATEWAY, b"{}"), Ok(()));
    }

    #[test]
    fn a_snapshot_of_tasks_in_files_is_refused_where_the_members_have_none() {
        let records = skep_state::kinds::claims::records::InMemory::default;
        let mut kinds =
            Kinds::open(KindsRecord::default(), NoMessages, records(), Heap::default()).expect("a new state");
        let mut put = |level| {
            let task = NewTask {
                queue: "q".into(),
                kind: String::new(),
                payload: Bytes::from_static(b"1"),
                priority: 0,
                when: When::After { delay_ms: 0 },
                policy: Policy::default(),
                unique: None,
                key: None,
            };
            let op = TaskOp::Put { nonce: u64::from(level), tasks: vec![task] };
            let ops = vec![Op::Level { level: Level(level) }, Op::Tasks { time_ms: 1, op }];
            kinds.apply(1, &Command::new(ops)).expect("it is applied");
            kinds.record()
        };
        let (here, filed) = (put(7), put(8));
        assert_eq!(may_hold(Level(7), &here), Ok(()));
        assert_eq!(may_hold(Level(8), &filed), Ok(()));
        for (level, kinds, what) in [(5, &here, "holds tasks,"), (7, &filed, "in files")] {
            let why = may_hold(Level(level), kinds).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }

    #[test]
    fn a_restore_that_a_document_is_refused_of_does_not_say_that_it_is_whole() {
        let refused = OpOutcome::Gateway(GatewayOutcome::Other { newest: None });
        let failed = made_again(&[OpOutcome::Message { seq: 1, created: true }, refused]).unwrap_err();
        assert!(matches!(failed, OperatorError::Failed(_)), "{failed}");
    }

    #[test]
    fn a_restore_that_a_schedule_is_refused_of_does_not_say_that_it_is_whole() {
        let set = || OpOutcome::Schedules(ScheduleOutcome::Set { created: true });
        assert_eq!(made_again(&[set(), set()]).unwrap(), 0);
        let failed = made_again(&[set(), OpOutcome::Schedules(ScheduleOutcome::Full)]).unwrap_err();
        assert!(matches!(failed, OperatorError::Failed(_)), "{failed}");
    }

    #[test]
    fn a_restore_that_a_task_is_refused_of_does_not_say_that_it_is_whole() {
        let message = || OpOutcome::Message { seq: 1, created: true };
        let changed = || OpOutcome::Tasks(TaskOutcome::Changed { count: 1 });
        assert_eq!(made_again(&[message(), changed(), message()]).unwrap(), 2);
        for refused in [TaskOutcome::Invalid, TaskOutcome::Full] {
            let failed = made_again(&[message(), changed(), OpOutcome::Tasks(refused)]).unwrap_err();
            assert!(matches!(failed, OperatorError::Failed(_)), "{failed}");
        }
    }
}
