//! Unicast peers: whose advertisements count, with the mesh and without.

use std::net::Ipv4Addr;
use std::time::Duration;

use skep_kit::effort::machine_alone;
use skep_kit::hosts::keepalived::Keepalived;
use skep_kit::hosts::lan::{Lan, command_in, possible, within};
use skep_kit::hosts::program::{Ours, Program, start_backend};
use skep_kit::wait::{PATIENCE, pause, wait_for};

use crate::packets::{advert_between, forge};

const VIP: &str = "10.78.0.100/24";
const PEERS: &str = "10.78.0.11,10.78.0.12";
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 0, 11), Ipv4Addr::new(10, 78, 0, 12)];
const INTERVAL: Duration = Duration::from_millis(100);

fn start(lan: &Lan, at: usize, priority: u8, more: &[&str]) -> Program {
    start_backend(&lan.host(at), &format!("host {at}"));
    let more = [&["--vrrp-peers", PEERS], more].concat();
    Ours { lan, at, vip: VIP, priority, interval: "100ms", mesh: true, more: &more }.start()
}

/// The first holds the address, and each has the other's word.
fn pair(lan: &Lan, second: (u8, &[&str])) -> (Program, Program) {
    let first = start(lan, 0, 200, &[]);
    first.wait_state("active");
    let other = start(lan, 1, second.0, second.1);
    other.wait_state("backup");
    for program in [&first, &other] {
        wait_for("each has the other's word", PATIENCE, || {
            program.vrrp().first().is_some_and(|it| it["confirmed_peers"] == 1)
        });
    }
    (first, other)
}

/// Sends advertisements in the name of one host to the other, as the client host.
fn forged(lan: &Lan, from: usize, to: usize, priorities: &[u8], length: Duration) {
    let (from, to, priorities) = (HOSTS[from], HOSTS[to], priorities.to_vec());
    within(&lan.client(), move || {
        let packets: Vec<Vec<u8>> = priorities
            .iter()
            .map(|priority| advert_between((from, to), (51, *priority), INTERVAL, &["10.78.0.100"]))
            .collect();
        for _ in 0..length.as_millis() / 10 {
            packets.iter().for_each(|packet| forge(from, to, packet));
            pause(Duration::from_millis(10));
        }
    });
}

fn refused(program: &Program) -> u64 {
    program.metric("skep_balancer_vrrp_discards_total", "reason=\"unconfirmed\"")
}

fn transitions(program: &Program) -> u64 {
    program.metric("skep_balancer_vrrp_transitions_total", "")
}

/// Filters the mesh's port on a host, both ways.
fn filter_mesh(lan: &Lan, at: usize) {
    let table = "add table inet f; \
                 add chain inet f i { type filter hook input priority 0; }; \
                 add chain inet f o { type filter hook output priority 0; }; \
                 add rule inet f i tcp dport 7402 drop; add rule inet f i tcp sport 7402 drop; \
                 add rule inet f o tcp dport 7402 drop; add rule inet f o tcp sport 7402 drop";
    let status = command_in(&lan.host(at), "nft").arg(table).status().expect("nft runs");
    assert!(status.success());
}

#[test]
fn what_is_forged_in_a_peers_name_is_counted_and_changes_nothing() {
    if !possible("forged peers", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (mut first, second) = pair(&lan, (150, &[]));
    let before = (transitions(&first), transitions(&second));
    // In the name of the Backup, that it is Active; in that of the Active, that it stops, or is another.
    forged(&lan, 1, 0, &[255, 201], Duration::from_secs(1));
    forged(&lan, 0, 1, &[0, 255], Duration::from_secs(1));
    assert_eq!((first.state(), second.state()), ("active".into(), "backup".into()));
    assert_eq!((transitions(&first), transitions(&second)), before);
    assert!(refused(&first) > 50 && refused(&second) > 50, "{} {}", refused(&first), refused(&second));
    assert!(first.log().contains("unconfirmed"), "{}", first.log());
    // Who forges what the Active says does not keep its death from being seen.
    let begun = std::time::Instant::now();
    first.kill();
    forged(&lan, 0, 1, &[200], Duration::from_millis(600));
    assert_eq!(second.state(), "active", "{}", second.log());
    second.wait_state("active");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_take_over_is_heeded_at_once_by_the_mesh_and_within_the_down_interval_where_that_is_cut() {
    if !possible("a take-over that the mesh confirms", &["nft"]) {
        return;
    }
    let _machine = machine_alone();
    for cut in [false, true] {
        let lan = Lan::new(2);
        let (first, second) = pair(&lan, (250, &["--preempt", "true", "--preempt-delay", "3s"]));
        if cut {
            filter_mesh(&lan, 0);
        }
        second.wait_state("active");
        let both = first.wait_state("backup");
        // 3 x 100 ms and a skew of 22 ms, and the advertisement after that; asking takes its time, too.
        let bar = Duration::from_millis(if cut { 900 } else { 300 });
        assert!(both < bar, "{both:?}: {}", first.log());
        assert_eq!(first.log().contains("believed without"), cut, "{}", first.log());
    }
}

#[test]
fn a_keepalived_among_the_peers_is_believed_as_before_and_where_all_are_to_prove_it_is_not() {
    if !possible("keepalived as a unicast peer", &["keepalived"]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let more = "version 3\n unicast_src_ip 10.78.0.12\n unicast_peer {\n 10.78.0.11\n }";
    let keepalived = |priority| {
        Keepalived { lan: &lan, at: 1, vips: &[VIP], priority, interval: "0.1", more, before: "" }.start()
    };
    let ours = start(&lan, 0, 200, &["--preempt", "true"]);
    ours.wait_state("active");
    let mut higher = keepalived(250);
    ours.wait_state("backup");
    wait_for("keepalived has it alone", PATIENCE, || lan.has(1, "10.78.0.100") && !lan.has(0, "10.78.0.100"));
    assert_eq!(refused(&ours), 0);
    higher.kill();
    ours.wait_state("active");
    drop(ours);
    // Nobody is believed who does not prove it.
    let strict = start(&lan, 0, 200, &["--vrrp-peers-proven", "true"]);
    strict.wait_state("active");
    forged(&lan, 1, 0, &[255], Duration::from_secs(1));
    assert_eq!(strict.state(), "active");
    assert!(refused(&strict) > 50, "{}", refused(&strict));
}
