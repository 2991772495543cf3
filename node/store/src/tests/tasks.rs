//! Tasks that a snapshot brings.

use skep_state::level::Level;
use skep_state::task::{QueueSettings, TaskOp};

use super::*;

#[tokio::test]
async fn whoever_waits_for_tasks_is_told_of_those_that_a_snapshot_brings() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = open(small(from.path())).unwrap();
    let op = TaskOp::QueueSet { queue: "q".into(), settings: QueueSettings::default() };
    let ops = vec![Op::Level { level: Level::TASKS }, Op::Tasks { time_ms: 1, op }];
    source.apply(vec![normal(1, 0, ops)]).await;
    let snapshot = source.checkpoint().await;

    let mut store = open(small(to.path())).unwrap();
    let mut applied = store.reader.applied();
    let before = applied.borrow_and_update().revisions.tasks;
    store.state_machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert!(applied.has_changed().unwrap());
    let after = applied.borrow_and_update().revisions.tasks;
    assert!(after > before, "{after} after {before}");
    assert_eq!(store.reader.tasks(|tasks| tasks.queues().count()), 1);
    drop(store);
    let store = open(small(to.path())).unwrap();
    assert_eq!(store.reader.applied().borrow().revisions.tasks, after, "also once it is started again");
}
