//! When a node has started.

use std::time::{Duration, Instant};

use skep_base::id::{ClusterId, NodeId};

use super::*;
use crate::service::peers;

fn record(id: u64, cluster: Option<ClusterId>, leader: Option<u64>) -> PeerRecord {
    let leader = leader.map(NodeId);
    PeerRecord { state: NodeState::Joining, cluster, leader, ..peers::member(id, Program::Node) }
}

fn view(me: Option<ClusterId>, others: Vec<PeerRecord>) -> View {
    peers::view(record(1, me, None), others)
}

/// One that has looked around for long enough.
fn after_a_look() -> Started {
    Started { since: Instant::now() - LOOK_MIN, ..Started::new() }
}

fn not_able() -> Result<(), String> {
    Err("joining".into())
}

fn not_ready() -> Readiness {
    Readiness { able: not_able(), equal: Ok(()) }
}

fn ready() -> Readiness {
    Readiness { able: Ok(()), equal: Ok(()) }
}

#[test]
fn a_node_that_is_alone_has_started_once_it_has_looked_around() {
    let alone = view(None, Vec::new());
    assert_eq!(Started::new().check(not_ready(), &alone), not_able());
    assert_eq!(after_a_look().check(not_ready(), &alone), Ok(()));
    let together = view(None, vec![record(2, None, None)]);
    assert_eq!(after_a_look().check(not_ready(), &together), Ok(()), "nobody leads yet");
}

#[test]
fn one_that_finds_its_cluster_has_started_when_it_is_ready_there() {
    let (ours, theirs) = (ClusterId::random(), ClusterId::random());
    let led = |cluster| record(2, Some(cluster), Some(2));
    for me in [None, Some(ours)] {
        let started = after_a_look();
        assert_eq!(started.check(not_ready(), &view(me, vec![led(ours)])), not_able());
        assert_eq!(started.check(ready(), &view(me, vec![led(ours)])), Ok(()));
        assert_eq!(started.check(not_ready(), &view(me, vec![led(ours)])), Ok(()), "started is started");
    }
    let lost = PeerRecord { leader: None, ..led(ours) };
    assert_eq!(after_a_look().check(not_ready(), &view(Some(ours), vec![lost])), Ok(()), "no quorum");
    let strangers = view(Some(ours), vec![led(theirs)]);
    assert_eq!(after_a_look().check(not_ready(), &strangers), not_able(), "of another cluster alone");
}

#[test]
fn one_whose_state_is_not_that_of_the_others_has_started_and_is_not_ready() {
    let ours = ClusterId::random();
    let wrong = || Readiness { able: Ok(()), equal: Err("the state differs".into()) };
    let view = view(Some(ours), vec![record(2, Some(ours), Some(2))]);
    assert_eq!(after_a_look().check(wrong(), &view), Ok(()));
    assert_eq!(wrong().whole(), Err("the state differs".into()));
    assert_eq!(not_ready().whole(), not_able());
    assert_eq!(ready().whole(), Ok(()));
}

#[test]
fn a_first_look_is_shorter_than_an_orchestrators_patience() {
    assert!(LOOK_MIN <= Duration::from_secs(3), "the stack asks every 3 s");
}
