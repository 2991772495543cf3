use skep_members::gossip::RaftRole;

use super::*;
use crate::pools::backends::Kind;
use crate::pools::source::Probe;

fn target(id: u64, state: TargetState) -> Target {
    let address = ([127, 0, 0, id as u8], 80).into();
    Target {
        node: Some(NodeId(id)),
        generation: 1,
        address,
        probe: Probe::Connects(address),
        state,
        role: RaftRole::Follower,
        is_leader: id == 2,
        version: String::new(),
        weight: 1.0,
    }
}

fn serving(registry: &mut Registry) -> Vec<u64> {
    registry.publish(&Orders::default()).serving.iter().filter_map(|it| it.node.map(|id| id.0)).collect()
}

fn with(targets: Vec<Target>) -> Registry {
    let mut registry = Registry::default();
    registry.update(targets, |_, _| None);
    registry
}

#[tokio::test]
async fn a_pool_has_what_its_source_says_before_anything_else_runs() {
    let pool = Pool::new("p", false, None);
    let (_source, targets) = watch::channel(vec![target(1, TargetState::Static)]);
    let following = follow(pool.clone(), targets);
    assert_eq!(pool.load().serving.len(), 1);
    drop(following);
}

#[test]
fn parts_of_a_hundred_weigh_what_the_same_parts_of_less_do() {
    for (weights, expected) in [
        ([70.0, 30.0], [70.0 / 30.0, 1.0]),
        ([50.0, 50.0], [1.0, 1.0]),
        ([100.0, 1.0], [100.0, 1.0]),
        ([0.1, 1.0], [0.1, 1.0]),
    ] {
        let weighing = |at: usize| Target { weight: weights[at], ..target(at as u64 + 1, Ready) };
        let mut registry = with(vec![weighing(0), weighing(1)]);
        let set = registry.publish(&Orders::default());
        for it in &set.known {
            let at = usize::from(it.backend.node == Some(NodeId(2)));
            let seen = it.backend.candidate(std::time::Instant::now(), Kind::Safe, false, 1, false);
            assert_eq!((it.weight, seen.weight), (weights[at], expected[at]), "{weights:?}");
        }
    }
}

fn serial(registry: &Registry, id: u64) -> u64 {
    registry.entries.values().find(|it| it.target.node == Some(NodeId(id))).unwrap().backend.serial
}

use TargetState::*;

#[test]
fn ready_nodes_are_served_from_at_once_and_draining_ones_at_once_no_more() {
    let mut registry = with(vec![target(1, Ready), target(2, Ready), target(3, Joining)]);
    let mut now = serving(&mut registry);
    now.sort();
    assert_eq!(now, [1, 2]);
    let set = registry.publish(&Orders::default());
    assert_eq!(set.leader.map(|at| set.serving[at].node), Some(Some(NodeId(2))));
    // Whatever its last probe says.
    let one = serial(&registry, 1);
    registry.probed(one, Health::Up);
    registry.update(vec![target(1, Draining), target(2, Ready), target(3, Ready)], |_, _| None);
    let mut now = serving(&mut registry);
    now.sort();
    assert_eq!(now, [2, 3]);
}

#[test]
fn a_probe_takes_a_node_out_and_brings_it_back() {
    let mut registry = with(vec![target(1, Ready), target(2, Ready)]);
    let two = serial(&registry, 2);
    assert!(registry.probed(two, Health::Silent));
    assert!(!registry.probed(two, Health::Silent));
    let set = registry.publish(&Orders::default());
    assert_eq!((set.serving.len(), set.gone.as_slice(), set.leader), (1, &[two][..], None));
    for health in [Health::Unready, Health::Refused] {
        registry.probed(two, health);
        let set = registry.publish(&Orders::default());
        assert_eq!((set.serving.len(), set.gone.len()), (1, 0), "{health:?}: it finishes what it has");
    }
    registry.probed(two, Health::Up);
    assert_eq!(serving(&mut registry).len(), 2);
}

#[test]
fn a_node_that_becomes_ready_does_not_wait_for_its_next_probe() {
    let mut registry = with(vec![target(1, Joining), target(2, Ready)]);
    let one = serial(&registry, 1);
    registry.probed(one, Health::Unready);
    assert_eq!(serving(&mut registry), [2]);
    registry.update(vec![target(1, Ready), target(2, Ready)], |_, _| None);
    assert_eq!(serving(&mut registry).len(), 2);
}

#[test]
fn where_gossip_is_lost_the_last_known_set_goes_on_under_probes() {
    let mut registry = with(vec![target(1, Ready), target(2, Ready)]);
    for id in [1, 2] {
        let serial = serial(&registry, id);
        registry.probed(serial, Health::Up);
    }
    registry.update(vec![target(1, Dead), target(2, Dead)], |_, _| None);
    assert_eq!(serving(&mut registry).len(), 2);
    registry.update(vec![], |_, _| None);
    assert_eq!(serving(&mut registry).len(), 2);
    let two = serial(&registry, 2);
    registry.probed(two, Health::Refused);
    assert_eq!(serving(&mut registry), [1]);
    assert_eq!(registry.entries.len(), 1);
    assert_eq!(registry.publish(&Orders::default()).gone, [two], "what still waits for it is told");
}

#[test]
fn a_node_that_stops_in_order_finishes_what_it_has_whatever_its_probes_say() {
    let mut registry = with(vec![target(1, Ready), target(2, Ready)]);
    let two = serial(&registry, 2);
    for state in [Draining, Left] {
        registry.update(vec![target(1, Ready), target(2, state)], |_, _| None);
        for health in [Health::Refused, Health::Silent] {
            registry.probed(two, health);
            let set = registry.publish(&Orders::default());
            assert_eq!((set.serving.len(), set.gone.len()), (1, 0), "{state:?} {health:?}");
        }
    }
    registry.probed(two, Health::Refused);
    registry.update(vec![target(1, Ready)], |_, _| None);
    assert!(registry.publish(&Orders::default()).gone.is_empty());
}

#[test]
fn what_is_taken_from_a_list_gets_nothing_more_and_another_probe_begins_anew() {
    let began = std::cell::Cell::new(0);
    let start = |_, _: &Target| {
        began.set(began.get() + 1);
        None
    };
    let mut registry = Registry::default();
    registry.update(vec![target(1, Static), target(2, Static)], start);
    let one = serial(&registry, 1);
    registry.probed(one, Health::Up);
    let asked =
        Target { probe: Probe::Check(([127, 0, 0, 1], 80).into(), "/up".into()), ..target(1, Static) };
    registry.update(vec![asked.clone(), target(2, Static)], start);
    assert_eq!((began.get(), serial(&registry, 1)), (3, one));
    registry.update(vec![target(2, Static)], start);
    assert_eq!(serving(&mut registry), [2]);
    assert!(registry.publish(&Orders::default()).gone.is_empty(), "it finishes what it has");
}

#[test]
fn a_node_whose_host_goes_while_it_drains_is_gone_once_neither_gossip_nor_a_probe_hears_of_it() {
    for forgotten in [false, true] {
        let mut registry = with(vec![target(1, Ready), target(2, Draining)]);
        let two = serial(&registry, 2);
        registry.probed(two, Health::Silent);
        assert!(registry.publish(&Orders::default()).gone.is_empty(), "gossip hears of it");
        let mut targets = vec![target(1, Ready), target(2, Ended)];
        targets.truncate(if forgotten { 1 } else { 2 });
        registry.update(targets, |_, _| None);
        assert_eq!(registry.publish(&Orders::default()).gone, [two], "{forgotten}");
    }
}

#[test]
fn another_run_at_the_same_address_is_another_backend() {
    let mut registry = with(vec![target(1, Ready)]);
    let before = serial(&registry, 1);
    registry.probed(before, Health::Up);
    let next = Target { generation: 2, ..target(1, Ready) };
    registry.update(vec![next], |_, _| None);
    assert_eq!(registry.entries.len(), 1);
    assert_ne!(serial(&registry, 1), before);
}

#[test]
fn a_new_node_at_the_address_of_one_that_is_gone_is_served_from_while_that_is_still_shown() {
    for state in [Left, Dead, Ready, Draining] {
        let before = target(1, state);
        let next = Target { node: Some(NodeId(9)), generation: 2, ..target(1, Ready) };
        let mut registry = with(vec![before.clone()]);
        for _ in 0..3 {
            registry.update(vec![before.clone(), next.clone()], |_, _| None);
            assert!(serving(&mut registry).contains(&9), "{state:?}");
        }
        let nine = serial(&registry, 9);
        registry.update(vec![before, next], |_, _| None);
        assert_eq!(serial(&registry, 9), nine, "it stays the same backend");
    }
}

#[test]
fn where_every_probe_fails_the_ready_are_served_from_all_the_same() {
    let mut registry = with(vec![target(1, Ready)]);
    let one = serial(&registry, 1);
    registry.probed(one, Health::Silent);
    let set = registry.publish(&Orders::default());
    assert_eq!((set.serving.len(), set.gone.len(), set.able()), (1, 0, 0));
}
