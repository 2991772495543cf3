//! What breaks: a leader, a host, a link.

use std::time::{Duration, Instant};

use skep_kit::effort::{count, figure};
use skep_kit::swarm::lab::{Lab, PATIENCE};
use skep_kit::swarm::traffic::{Traffic, messages, under_traffic};
use skep_kit::wait::{pause, wait_for};

/// Three advertisements of 100 ms and the skew, and as much again for a busy machine.
const ADDRESS_OUTAGE_MAX: Duration = Duration::from_secs(1);

#[test]
fn a_leader_that_is_killed_fails_no_request() {
    let Some(lab) = Lab::take("a killed leader") else { return };
    lab.with_stack();
    let ledger = under_traffic(&lab, "kill -9 of the leader", |_| {
        for _ in 0..count(1, 5) {
            let leader = lab.leader();
            lab.must_docker(leader.host, &["kill", "-s", "KILL", &leader.id]);
            pause(Duration::from_secs(3));
            lab.settle(3);
        }
    });
    ledger.expect_no_failure("a killed leader");
}

#[test]
fn a_host_with_the_address_and_a_node_may_die() {
    let Some(lab) = Lab::take("a dead host") else { return };
    lab.with_stack();
    let dies = lab.holders()[0];
    let mut killed = Instant::now();
    let ledger = under_traffic(&lab, "a host killed", |_| {
        lab.kill(dies);
        killed = Instant::now();
        wait_for("another host has the address", PATIENCE, || {
            let holders = lab.holders();
            holders.len() == 1 && holders[0] != dies
        });
        pause(Duration::from_secs(count(5, 10)));
        lab.heal(dies);
    });
    figure("outage of the address", format!("{:.2} s", ledger.outage().as_secs_f64()));
    let late = ledger.failed_since(killed + ADDRESS_OUTAGE_MAX);
    assert!(late.is_empty(), "requests fail after the address has moved: {late:#?}");
}

#[test]
fn a_host_that_is_cut_off_comes_back_and_has_acknowledged_nothing_alone() {
    let Some(lab) = Lab::take("a host cut off") else { return };
    lab.with_stack();
    let cluster = lab.the_cluster(3);
    let away = lab.leader().host;
    let traffic = Traffic::start(&lab);
    pause(Duration::from_secs(2));
    lab.cut(away);
    let cut = Instant::now();
    // A client on the far side, at that host's own balancer.
    let alone = Traffic::start_at(&lab, away, format!("10.77.0.{away}:80").parse().unwrap());
    pause(Duration::from_secs(count(8, 30)));
    let alone = alone.stop();
    lab.heal(away);
    let healed = Instant::now();
    lab.settle(3);
    let settled = healed.elapsed();
    let ledger = traffic.stop();
    figure(
        &format!("a host cut off, whole again after {:.1} s", settled.as_secs_f64()),
        format!("{}; on its side: {}", ledger.summary(), alone.summary()),
    );
    // What was on its way to the quorum before the cut may have come back after it.
    let acked = alone.acked.iter().filter(|acked| acked.sent > cut + Duration::from_millis(500)).count();
    assert_eq!(acked, 0, "the side without a quorum has acknowledged writes");
    assert_eq!(lab.the_cluster(3), cluster);
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
    let late = ledger.failed_since(cut + ADDRESS_OUTAGE_MAX);
    assert!(late.is_empty(), "requests fail after the address has moved: {late:#?}");
}
