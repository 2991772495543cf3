//! Faster than the protocol, where the peers are ours: the mesh, and the planned hand-over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skep_kit::effort::{expect_under, figure, machine_alone, measured};
use skep_kit::hosts::attempts::{Client, failures, keep_connection, outage};
use skep_kit::hosts::lan::Lan;
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::program::{KEY, Ours, Program, start_backend, start_server};
use skep_kit::wait::{PATIENCE, pause, wait_for};

/// Connections whose first packet a hand-over may lose on the way: the client's kernel sends it again.
const LATE_MAX: usize = 5;
const VIP: &str = "10.78.0.100/24,fd78::100/64";

fn pair(lan: &Lan, interval: &str) -> (Program, Program) {
    for at in 0..2 {
        start_backend(&lan.host(at), &format!("host {at}"));
    }
    let start = |at, priority| Ours { lan, at, vip: VIP, priority, interval, mesh: true, more: &[] }.start();
    let first = start(0, 200);
    // Before it answers it says nothing of any.
    wait_for("the first holds", PATIENCE, || {
        let routers = first.vrrp();
        routers.len() == 2 && routers.iter().all(|it| it["state"] == "active")
    });
    let second = start(1, 150);
    wait_for("the second is named", PATIENCE, || {
        let routers = second.vrrp();
        routers.len() == 2 && routers.iter().all(|it| it["successor"] == true)
    });
    (first, second)
}

#[test]
fn with_the_mesh_a_killed_holder_is_replaced_at_once_whatever_the_interval() {
    if !possible("the mesh", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (mut first, second) = pair(&lan, "1s");
    let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(1));
    pause(Duration::from_millis(500));
    first.kill();
    second.wait_state("active");
    pause(Duration::from_millis(800));
    let attempts = client.finish();
    measured("outage, kill -9 with the mesh, adverts of 1 s", &[outage(&attempts)]);
    expect_under("outage", outage(&attempts), Duration::from_millis(20));
    assert_eq!(attempts.last().unwrap().result.as_deref(), Ok("host 1"));
    assert!(second.vrrp()[0]["reason"].as_str().unwrap().contains("process ended"));
}

#[test]
fn a_planned_hand_over_fails_no_request_and_resets_no_connection() {
    if !possible("a planned hand-over", &[]) {
        return;
    }
    let _machine = machine_alone();
    for address in ["10.78.0.100", "fd78::100"] {
        let lan = Lan::new(2);
        let (mut first, second) = pair(&lan, "1s");
        let stop = Arc::new(AtomicBool::new(false));
        let kept = keep_connection(&lan, address, stop.clone());
        let client = Client::start_patient(&lan, address, Duration::from_millis(1));
        pause(Duration::from_millis(500));
        first.signal(rustix::process::Signal::TERM);
        wait_for("the second holds", PATIENCE, || second.vrrp().iter().all(|it| it["state"] == "active"));
        assert_eq!(first.wait(), Some(0), "{}", first.log());
        pause(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        let (answered, ended) = kept.join().unwrap();
        let attempts = client.finish();
        let errors: Vec<_> = attempts.iter().filter(|it| it.result.is_err()).take(5).collect();
        assert_eq!(failures(&attempts), 0, "{address}: {errors:?}\n{}\n{}", first.log(), second.log());
        let late = attempts.iter().filter(|it| it.took > Duration::from_millis(700)).count();
        figure(&format!("planned hand-over of {address}: of {} late by a lost packet", attempts.len()), late);
        assert!(late <= LATE_MAX, "{late} connections waited for a packet that was lost");
        assert!(attempts.len() > 1000 && answered > 100, "{} {answered}", attempts.len());
        // The draining proxy may say that it closes the connection; nothing else may end it.
        assert_eq!(ended, None, "{address}: after {answered} answers");
        assert_eq!(attempts.last().unwrap().result.as_deref(), Ok("host 1"));
        // Nothing is left behind.
        wait_for("nothing is sent on", PATIENCE, || second.vrrp().iter().all(|it| it["forwarding"] == false));
        assert!(!lan.has(0, address));
        assert_eq!(rules(&lan, 0) + &rules(&lan, 1), "");
        assert_eq!(second.metric("skep_balancer_vrrp_handovers_taken_total", ""), 2);
    }
}

#[test]
fn a_holder_that_dies_while_it_drains_leaves_no_rule_behind() {
    if !possible("death while draining", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (mut first, second) = pair(&lan, "100ms");
    let stop = Arc::new(AtomicBool::new(false));
    // Keeps the first from ending.
    let kept = keep_connection(&lan, "10.78.0.100", stop.clone());
    pause(Duration::from_millis(200));
    first.signal(rustix::process::Signal::TERM);
    wait_for("the second sends on", PATIENCE, || second.vrrp().iter().all(|it| it["forwarding"] == true));
    first.kill();
    wait_for("nothing is sent on", PATIENCE, || second.vrrp().iter().all(|it| it["forwarding"] == false));
    assert_eq!(rules(&lan, 0) + &rules(&lan, 1), "");
    wait_for("the address is gone", PATIENCE, || !lan.has(0, "10.78.0.100"));
    stop.store(true, Ordering::Relaxed);
    let _ = kept.join();
}

#[test]
fn a_holder_that_stands_alone_hands_over_when_its_proxy_drains() {
    if !possible("a draining proxy", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let mut servers = Vec::new();
    for at in 0..2 {
        start_backend(&lan.host(at), &format!("host {at}"));
        servers.push(start_server(&lan, at));
    }
    let alone = |at: usize, priority: &str| {
        let args = [
            "vrrp",
            "--vip",
            "10.78.0.100/24",
            "--vrrp-interface",
            "eth0",
            "--priority",
            priority,
            "--log-format",
            "human",
            "--advert-interval",
            "1s",
            "--track",
            "http://127.0.0.1:8080/-/ready",
            "--admin",
            "127.0.0.1:9402",
            "--vrrp-handover",
            "socket",
            "--drain",
            "2s",
        ];
        Program::ours(&lan.host(at), &args, &[("SKEP_CLUSTER_KEY", KEY)])
    };
    let _first = alone(0, "200");
    wait_for("the first holds", PATIENCE, || lan.has(0, "10.78.0.100"));
    let second = alone(1, "150");
    wait_for("the mesh stands", PATIENCE, || {
        let status = second.admin_at(9402, "/vrrp").unwrap_or_default();
        status.contains("\"successor\":true")
    });
    let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(1));
    pause(Duration::from_millis(200));
    servers[0].signal(rustix::process::Signal::TERM);
    wait_for("the second holds", PATIENCE, || lan.has(1, "10.78.0.100"));
    servers[0].wait();
    pause(Duration::from_millis(300));
    let attempts = client.finish();
    let errors: Vec<_> = attempts.iter().filter(|it| it.result.is_err()).take(5).collect();
    assert_eq!(failures(&attempts), 0, "{errors:?}");
    wait_for("the first lets go", PATIENCE, || !lan.has(0, "10.78.0.100"));
}

/// What nf_tables holds on a host; nothing where there is no `nft` to ask.
fn rules(lan: &Lan, at: usize) -> String {
    if !std::path::Path::new("/usr/sbin/nft").exists() {
        return String::new();
    }
    skep_kit::programs::system("ip", &["netns", "exec", &lan.host(at), "nft", "list", "ruleset"])
}
