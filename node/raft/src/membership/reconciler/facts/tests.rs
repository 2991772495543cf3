use std::collections::BTreeSet;

use skep_base::id::ClusterId;
use skep_members::gossip::RaftRole;

use super::*;

const ME: NodeId = NodeId(1);
const MS: Duration = Duration::from_millis(1);

fn record(id: u64, state: NodeState) -> PeerRecord {
    PeerRecord {
        id: NodeId(id),
        program: Program::Node,
        state,
        cluster: Some(ClusterId(7)),
        peer: ([127, 0, 0, 1], 7400).into(),
        http: None,
        admin: None,
        version: "0.1.0".into(),
        protocol: (1, 1),
        expect: 3,
        raft: RaftRole::Follower,
        leader: None,
        term: 1,
        gateway: None,
        generation: 1,
    }
}

fn view(live: &[(u64, NodeState)], dead: &[(u64, NodeState)]) -> View {
    let records = |nodes: &[(u64, NodeState)]| nodes.iter().map(|(id, state)| record(*id, *state)).collect();
    View {
        me: record(1, NodeState::Ready),
        live: records(live),
        dead: records(dead),
        settled_since: Instant::now(),
        trusted: true,
        proved: Default::default(),
    }
}

fn raft(voters: &[u64], learners: &[u64]) -> RaftFacts {
    let ids = |ids: &[u64]| -> BTreeSet<NodeId> { ids.iter().map(|id| NodeId(*id)).collect() };
    let membership = Membership { configs: vec![ids(voters)], learners: ids(learners), committed: true };
    RaftFacts { membership, leads: Some(1), members: BTreeMap::new(), gone_back: BTreeSet::new() }
}

/// A tracker and its clock.
struct Watch {
    tracker: Tracker,
    start: Instant,
}

impl Watch {
    fn new() -> Self {
        Self { tracker: Tracker::default(), start: Instant::now() + Duration::from_secs(100) }
    }
    fn at(&self, ms: u32) -> Instant {
        self.start + MS * ms
    }
    fn see(&mut self, ms: u32, view: &View, raft: RaftFacts) -> Facts {
        let now = self.at(ms);
        self.tracker.observe(ME, view, raft, &Settings::default(), now).unwrap()
    }
}

use NodeState::{Draining, Joining, Left, Ready};

#[test]
fn the_live_nodes_of_the_cluster_and_all_members_are_known() {
    let mut watch = Watch::new();
    let mut seen = view(&[(2, Joining), (3, Left), (4, Ready), (5, Ready), (6, Ready)], &[]);
    seen.live[2].cluster = Some(ClusterId(8));
    seen.live[3].cluster = None;
    seen.live[4].program = Program::Balancer;
    let facts = watch.see(0, &seen, raft(&[1, 9], &[]));
    let dead = Presence::Dead { since: watch.at(0) };
    let want =
        [(1, Presence::Live), (2, Presence::Live), (3, Presence::Away { since: watch.at(0) }), (9, dead)];
    assert_eq!(facts.nodes, want.map(|(id, presence)| (NodeId(id), presence)).into());
    seen.me.cluster = None;
    let none = watch.tracker.observe(ME, &seen, raft(&[1], &[]), &Settings::default(), watch.at(0));
    assert!(none.is_none(), "a node without a cluster plans nothing");
}

#[test]
fn since_when_someone_leaves_is_kept_until_it_does_not() {
    let mut watch = Watch::new();
    let leaving = view(&[(2, Draining)], &[]);
    for ms in [0, 500] {
        let facts = watch.see(ms, &leaving, raft(&[1, 2], &[]));
        assert_eq!(facts.nodes[&NodeId(2)], Presence::Leaving { since: watch.at(0) });
    }
    watch.see(600, &view(&[(2, Joining)], &[]), raft(&[1, 2], &[]));
    let facts = watch.see(700, &leaving, raft(&[1, 2], &[]));
    assert_eq!(facts.nodes[&NodeId(2)], Presence::Leaving { since: watch.at(700) });
}

#[test]
fn since_when_someone_is_dead_is_kept_until_it_is_back() {
    let mut watch = Watch::new();
    let dead = |watch: &mut Watch, ms| {
        watch.see(ms, &view(&[], &[(2, Ready)]), raft(&[1, 2], &[])).nodes[&NodeId(2)]
    };
    assert_eq!(dead(&mut watch, 0), Presence::Dead { since: watch.at(0) });
    assert_eq!(dead(&mut watch, 500), Presence::Dead { since: watch.at(0) });
    watch.see(600, &view(&[(2, Ready)], &[]), raft(&[1, 2], &[]));
    assert_eq!(dead(&mut watch, 700), Presence::Dead { since: watch.at(700) });
}

#[test]
fn while_the_view_is_not_trusted_nobody_begins_to_be_dead() {
    let mut watch = Watch::new();
    let mut stalled = view(&[], &[]);
    stalled.trusted = false;
    for ms in [0, 500] {
        let facts = watch.see(ms, &stalled, raft(&[1, 2], &[]));
        assert_eq!(facts.nodes[&NodeId(2)], Presence::Dead { since: watch.at(ms) });
    }
}

#[test]
fn who_answers_raft_is_not_long_dead() {
    let mut watch = Watch::new();
    watch.see(0, &view(&[], &[]), raft(&[1, 2], &[]));
    let mut answering = raft(&[1, 2], &[]);
    let member = MemberFacts { lag: Some(0), answered_ago: Some(MS * 200) };
    answering.members.insert(NodeId(2), member);
    let facts = watch.see(5000, &view(&[], &[]), answering);
    assert_eq!(facts.nodes[&NodeId(2)], Presence::Dead { since: watch.at(4800) });
    let facts = watch.see(60_000, &view(&[], &[]), raft(&[1, 2], &[]));
    assert_eq!(facts.nodes[&NodeId(2)], Presence::Dead { since: watch.at(0) });
}

#[test]
fn who_fell_silent_while_leaving_has_left() {
    let mut watch = Watch::new();
    let facts = watch.see(0, &view(&[], &[(2, Left), (3, Draining), (4, Ready)]), raft(&[1, 2, 3, 4], &[]));
    assert_eq!(facts.nodes[&NodeId(2)], Presence::Away { since: watch.at(0) });
    assert_eq!(facts.nodes[&NodeId(3)], Presence::Away { since: watch.at(0) });
    assert_eq!(facts.nodes[&NodeId(4)], Presence::Dead { since: watch.at(0) });
}

#[test]
fn since_when_a_learner_is_close_starts_anew_when_it_falls_behind() {
    let mut watch = Watch::new();
    let mut close = |ms, lag| {
        let mut facts = raft(&[1], &[2]);
        facts.members.insert(NodeId(2), MemberFacts { lag, answered_ago: Some(MS) });
        let facts = watch.see(ms, &view(&[(2, Ready)], &[]), facts);
        let since = facts.progress[&NodeId(2)].close_since;
        since.map(|since| since.duration_since(watch.start).as_millis())
    };
    assert_eq!(close(0, None), None);
    assert_eq!(close(10, Some(256)), Some(10));
    assert_eq!(close(20, Some(0)), Some(10));
    assert_eq!(close(30, Some(257)), None);
    assert_eq!(close(40, Some(256)), Some(40));
}

#[test]
fn who_stopped_in_order_is_away_until_it_is_back_also_when_gossip_has_forgotten_it() {
    let mut watch = Watch::new();
    let members = || raft(&[1, 2], &[]);
    let away = Presence::Away { since: watch.at(0) };
    for (ms, seen) in [(0, view(&[(2, Left)], &[])), (500, view(&[], &[(2, Left)])), (90_000, view(&[], &[]))]
    {
        assert_eq!(watch.see(ms, &seen, members()).nodes[&NodeId(2)], away);
    }
    assert_eq!(watch.see(91_000, &view(&[(2, Joining)], &[]), members()).nodes[&NodeId(2)], Presence::Live);
    let dead = Presence::Dead { since: watch.at(92_000) };
    assert_eq!(watch.see(92_000, &view(&[], &[]), members()).nodes[&NodeId(2)], dead);
}

#[test]
fn who_may_stop_counts_as_gone_for_a_moment_and_no_longer_than_until_it_is_back() {
    let mut watch = Watch::new();
    let granted = |watch: &mut Watch, ms, state| {
        !watch.see(ms, &view(&[(2, state)], &[]), raft(&[1, 2], &[])).granted.is_empty()
    };
    assert!(!granted(&mut watch, 0, Draining));
    watch.tracker.grant(NodeId(2), watch.at(0));
    assert!(granted(&mut watch, 4_999, Draining));
    assert!(!granted(&mut watch, 5_000, Draining));
    watch.tracker.grant(NodeId(2), watch.at(6_000));
    assert!(!granted(&mut watch, 6_100, Ready), "it was started again");
    assert!(!granted(&mut watch, 6_200, Draining));
}

#[test]
fn one_of_the_version_before_does_not_ask_for_leave_to_stop() {
    let mut watch = Watch::new();
    let mut seen = view(&[(2, Ready)], &[]);
    assert!(!watch.see(0, &seen, raft(&[1, 2], &[])).all_ask);
    seen.me.protocol = (1, STOPS);
    seen.live[0].protocol = (1, STOPS);
    assert!(watch.see(1, &seen, raft(&[1, 2], &[])).all_ask);
    seen.live.push(record(3, Left));
    assert!(watch.see(2, &seen, raft(&[1, 2], &[])).all_ask, "it has stopped");
}

#[test]
fn a_new_leader_is_settled_once_all_that_live_have_answered_or_have_had_the_time_to() {
    let mut watch = Watch::new();
    let seen = view(&[(2, Ready), (3, Draining)], &[]);
    let led = |heard: &[u64], term| {
        let mut facts = raft(&[1, 2, 3, 4], &[]);
        let member = MemberFacts { lag: Some(0), answered_ago: Some(MS) };
        facts.members.extend(heard.iter().map(|id| (NodeId(*id), member)));
        facts.leads = term;
        facts
    };
    assert!(!watch.see(0, &seen, led(&[2, 3], None)).settled, "it does not lead");
    assert!(!watch.see(1_000, &seen, led(&[2, 3], Some(2))).settled, "it has just been elected");
    assert!(!watch.see(1_600, &seen, led(&[2], Some(2))).settled, "one that leaves has not answered");
    assert!(watch.see(1_700, &seen, led(&[2, 3], Some(2))).settled, "one that is dead need not");
    assert!(!watch.see(1_800, &seen, led(&[2], Some(3))).settled, "it was elected again");
    assert!(watch.see(4_800, &seen, led(&[2], Some(3))).settled, "silence says something by now");
}

#[test]
fn a_learner_that_comes_and_goes_is_never_close_for_long() {
    let mut watch = Watch::new();
    let mut close = |ms, live: bool, answered_ago| {
        let mut facts = raft(&[1], &[2]);
        facts.members.insert(NodeId(2), MemberFacts { lag: Some(0), answered_ago: Some(answered_ago) });
        let seen = if live { view(&[(2, Ready)], &[]) } else { view(&[], &[(2, Ready)]) };
        watch.see(ms, &seen, facts).progress[&NodeId(2)].close_since.is_some()
    };
    assert!(close(0, true, MS));
    assert!(!close(4_000, false, MS * 4_000), "it is dead, and its log is as it was");
    assert!(close(5_000, true, MS));
    assert!(!close(6_000, true, MS * 3_001), "it says nothing");
}
