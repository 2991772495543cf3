//! Random sequences of operations against a model.

use std::collections::BTreeMap;

use openraft::storage::{RaftLogReader, RaftLogStorage};
use proptest::prelude::*;

use super::*;
use skep_raft::types::Vote;

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Truncate(u8),
    Purge(u8),
    Vote,
    Apply(u8),
    Checkpoint,
    Restart,
    /// Without what was applied since the checkpoint.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..12).prop_map(Step::Append),
        1 => (1u8..20).prop_map(Step::Truncate),
        2 => (1u8..40).prop_map(Step::Purge),
        1 => Just(Step::Vote),
        5 => (1u8..12).prop_map(Step::Apply),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default)]
struct Model {
    term: u64,
    log: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    /// Every entry ever applied: what is applied is committed, and never changes.
    applied: Vec<Entry>,
    checkpointed: usize,
}

impl Model {
    fn next_index(&self) -> u64 {
        self.log.keys().last().map_or(self.purged.map_or(0, |id| id.index + 1), |last| last + 1)
    }

    /// Bodies in the order of their first appearance.
    fn messages(&self) -> Vec<Bytes> {
        let mut seen = Vec::new();
        for entry in &self.applied {
            let EntryPayload::Normal(command) = &entry.payload else { continue };
            for op in &*command.ops {
                if let Op::PutMessage { body, .. } = op
                    && !seen.contains(body)
                {
                    seen.push(body.clone());
                }
            }
        }
        seen
    }
}

fn entry(term: u64, index: u64) -> Entry {
    let bodies = [index * 7 % 50, index, index * 3 % 20];
    normal(term, index, bodies.iter().map(|n| put(format!("body {n} {}", "x".repeat(*n as usize)))).collect())
}

async fn check(store: &mut Store, model: &Model) {
    let entries: Vec<Entry> = model.log.values().cloned().collect();
    assert_eq!(store.entries().await, entries);
    let state = store.log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, model.purged);
    assert_eq!(state.last_log_id, model.log.values().last().map(|e| e.log_id).or(model.purged));
    assert_eq!(store.log.get_log_reader().await.read_vote().await.unwrap(), model.vote);
    let sizes = store.log.stats_handle();
    assert_eq!(sizes.stats().entries, model.log.len() as u64);
    let messages = store.messages();
    let bodies: Vec<Bytes> = messages.iter().map(|message| message.body.clone()).collect();
    assert_eq!(bodies, model.messages());
    for message in &messages {
        assert_eq!(store.reader.get(&message.digest).unwrap().as_ref(), Some(message));
    }
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut copies = vec![dir];
    let mut store = open(small(copies[0].path())).unwrap();
    let mut model = Model { term: 1, ..Model::default() };
    for step in steps {
        match step {
            Step::Append(count) => {
                let first = model.next_index();
                let entries: Vec<_> =
                    (first..first + u64::from(count)).map(|index| entry(model.term, index)).collect();
                model.log.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
                store.append(entries).await;
            }
            Step::Truncate(count) => {
                // What is applied is committed and never truncated.
                let end = model.next_index().saturating_sub(count.into()).max(model.applied.len() as u64);
                model.log.split_off(&end);
                model.term += 1;
                let last = model.log.values().last().map(|e| e.log_id).or(model.purged);
                store.log.truncate_after(last).await.unwrap();
            }
            Step::Purge(count) => {
                let upto = model.log.keys().nth(count.into()).copied();
                let upto = upto.map(|index| index.min(model.checkpointed as u64));
                if let Some(upto) = upto.and_then(|index| model.log.get(&index.checked_sub(1)?)) {
                    model.purged = Some(upto.log_id);
                    store.log.purge(upto.log_id).await.unwrap();
                    model.log = model.log.split_off(&(model.purged.unwrap().index + 1));
                }
            }
            Step::Vote => {
                let vote = Vote::new(model.term, 3);
                model.vote = Some(vote);
                store.log.save_vote(&vote).await.unwrap();
            }
            Step::Apply(count) => {
                let from = model.applied.len() as u64;
                let entries: Vec<Entry> =
                    model.log.range(from..).take(count.into()).map(|(_, entry)| entry.clone()).collect();
                model.applied.extend(entries.clone());
                store.apply(entries).await;
            }
            Step::Checkpoint => {
                store.checkpoint().await;
                model.checkpointed = model.applied.len();
            }
            Step::Restart | Step::Crash => {
                if matches!(step, Step::Crash) {
                    // Everything was answered, so everything must be in the files already.
                    store.log.save_vote(&Vote::new(model.term, 3)).await.unwrap();
                    model.vote = Some(Vote::new(model.term, 3));
                    let copy = tempfile::tempdir().unwrap();
                    copy_dir(copies.last().unwrap().path(), copy.path());
                    copies.push(copy);
                }
                drop(store);
                store = open(small(copies.last().unwrap().path())).unwrap();
                let rest = model.applied[model.checkpointed..].to_vec();
                store.apply(rest).await;
            }
        }
        check(&mut store, &model).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
