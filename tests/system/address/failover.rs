//! Two and three of ours: elect, fail over, come back.

use std::time::Duration;

use rustix::process::Signal;

use skep_kit::effort::{expect_under, machine_alone};
use skep_kit::hosts::attempts::{Client, failures, outage};
use skep_kit::hosts::lan::Lan;
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::program::{Ours, Program, start_backend};
use skep_kit::wait::{PATIENCE, pause, wait_for};

const VIP: &str = "10.78.0.100/24";
const VIP6: &str = "fe80::100/64,fd78::100/64";

fn pair(lan: &Lan, vip: &str, more: &[&str]) -> (Program, Program) {
    for at in 0..2 {
        start_backend(&lan.host(at), &format!("host {at}"));
    }
    let start = |at, priority| Ours { lan, at, vip, priority, interval: "100ms", mesh: false, more }.start();
    let first = start(0, 200);
    first.wait_state("active");
    let second = start(1, 150);
    second.wait_state("backup");
    (first, second)
}

#[test]
fn a_killed_holder_is_replaced_within_the_down_interval_and_does_not_preempt_when_it_is_back() {
    if !possible("a killed holder is replaced", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (mut first, second) = pair(&lan, VIP, &[]);
    let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(1));
    pause(Duration::from_millis(300));
    first.kill();
    second.wait_state("active");
    pause(Duration::from_millis(500));
    let attempts = client.finish();
    // 3 x 100 ms and a skew of 41 ms.
    expect_under("outage", outage(&attempts), Duration::from_millis(400));
    assert_eq!(attempts.last().unwrap().result.as_deref(), Ok("host 1"));
    assert_eq!(attempts[0].result.as_deref(), Ok("host 0"));
    let back =
        Ours { lan: &lan, at: 0, vip: VIP, priority: 200, interval: "100ms", mesh: false, more: &[] }.start();
    back.wait_state("backup");
    pause(Duration::from_millis(800));
    assert_eq!((back.state(), second.state()), ("backup".into(), "active".into()));
    assert!(!lan.has(0, "10.78.0.100") && lan.has(1, "10.78.0.100"));
}

#[test]
fn where_preemption_is_asked_for_the_higher_priority_takes_the_address_back() {
    if !possible("preemption", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (mut first, second) = pair(&lan, VIP, &["--preempt", "true"]);
    assert_eq!(first.stop(), Some(0), "{}", first.log());
    second.wait_state("active");
    let more = ["--preempt", "true"];
    let back =
        Ours { lan: &lan, at: 0, vip: VIP, priority: 200, interval: "100ms", mesh: false, more: &more }
            .start();
    back.wait_state("active");
    second.wait_state("backup");
    wait_for("one holder", PATIENCE, || lan.has(0, "10.78.0.100") && !lan.has(1, "10.78.0.100"));
}

#[test]
fn ipv6_addresses_fail_over_as_those_of_ipv4_do() {
    if !possible("IPv6", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (mut first, second) = pair(&lan, VIP6, &[]);
    let client = Client::start(&lan, "fd78::100", Duration::from_millis(2));
    pause(Duration::from_millis(300));
    first.kill();
    second.wait_state("active");
    pause(Duration::from_millis(500));
    let attempts = client.finish();
    expect_under("outage", outage(&attempts), Duration::from_millis(400));
    assert_eq!(attempts.last().unwrap().result.as_deref(), Ok("host 1"));
    assert!(lan.has(1, "fe80::100") && lan.has(1, "fd78::100"));
}

#[test]
fn unicast_peers_do_as_well_as_multicast_in_both_families_at_once() {
    if !possible("unicast peers", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let peers = "10.78.0.11,10.78.0.12,fd78::11,fd78::12";
    let vip = "10.78.0.100/24,fd78::100/64";
    let (mut first, second) = pair(&lan, vip, &["--vrrp-peers", peers]);
    wait_for("both routers of the second wait", PATIENCE, || {
        second.vrrp().iter().all(|it| it["state"] == "backup")
    });
    let waits = second.metric("skep_balancer_vrrp_adverts_received_total", "family=\"ipv6\"");
    wait_for("adverts of IPv6", PATIENCE, || {
        second.metric("skep_balancer_vrrp_adverts_received_total", "family=\"ipv6\"") > waits
    });
    assert_eq!(first.stop(), Some(0), "{}", first.log());
    wait_for("the second has both", PATIENCE, || lan.has(1, "10.78.0.100") && lan.has(1, "fd78::100"));
}

#[test]
fn two_addresses_are_shared_each_balancer_active_for_one() {
    if !possible("two VRIDs", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let vips = [
        "10.78.0.100/24 vrid=51 priority=200; 10.78.0.101/24 vrid=52 priority=150",
        "10.78.0.100/24 vrid=51 priority=150; 10.78.0.101/24 vrid=52 priority=200",
    ];
    let start = |at: usize| {
        start_backend(&lan.host(at), &format!("host {at}"));
        let more = ["--preempt", "true"];
        Ours { lan: &lan, at, vip: vips[at], priority: 100, interval: "100ms", mesh: false, more: &more }
            .start()
    };
    let (mut first, second) = (start(0), start(1));
    let holds = |at, address| lan.has(at, address) && !lan.has(1 - at, address);
    wait_for("each has one", PATIENCE, || holds(0, "10.78.0.100") && holds(1, "10.78.0.101"));
    first.kill();
    wait_for("the second has both", PATIENCE, || lan.has(1, "10.78.0.100") && lan.has(1, "10.78.0.101"));
    assert!(second.vrrp().iter().all(|it| it["state"] == "active"));
}

#[test]
fn a_pulled_cable_is_a_fault_and_the_address_moves() {
    if !possible("a pulled cable", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (first, second) = pair(&lan, VIP, &[]);
    lan.set_cable(0, false);
    first.wait_state("initialize");
    second.wait_state("active");
    assert!(!lan.has(0, "10.78.0.100"));
    assert!(first.vrrp()[0]["health"].as_str().unwrap().contains("eth0 is down"));
    lan.set_cable(0, true);
    first.wait_state("backup");
    let attempts = {
        let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(5));
        pause(Duration::from_millis(300));
        client.finish()
    };
    assert_eq!(failures(&attempts), 0);
}

#[test]
fn the_address_goes_where_the_backends_are_and_stays_where_nobody_has_any() {
    if !possible("lost backends", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    // The first has no backend: its claim is weak, but nobody else is there.
    let start = |at, priority| {
        Ours { lan: &lan, at, vip: VIP, priority, interval: "100ms", mesh: false, more: &[] }.start()
    };
    let first = start(0, 200);
    first.wait_state("active");
    assert_eq!(first.vrrp()[0]["effective_priority"], 1);
    // The second has, and takes over, whatever is said about preemption.
    start_backend(&lan.host(1), "host 1");
    let second = start(1, 100);
    second.wait_state("active");
    first.wait_state("backup");
    assert!(first.vrrp()[0]["health"].as_str().unwrap().contains("no backend"));
}

#[test]
fn hosts_that_stood_still_together_do_not_take_over_from_each_other() {
    if !possible("hosts that stand still", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (first, second) = pair(&lan, VIP, &[]);
    pause(Duration::from_millis(300));
    let transitions = |program: &Program| program.metric("skep_balancer_vrrp_transitions", "");
    let before = (transitions(&first), transitions(&second));
    for _ in 0..3 {
        for program in [&first, &second] {
            program.signal(Signal::STOP);
        }
        pause(Duration::from_millis(700));
        // The one that listens wakes first, and hears nothing.
        for program in [&second, &first] {
            program.signal(Signal::CONT);
        }
        pause(Duration::from_millis(500));
    }
    assert_eq!((first.state(), second.state()), ("active".into(), "backup".into()));
    assert_eq!((transitions(&first), transitions(&second)), before);
}
