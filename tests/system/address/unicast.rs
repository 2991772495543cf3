//! Unicast peers: whose advertisements count, with the mesh and without.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use rustix::process::Signal;
use skep_kit::effort::{machine_alone, measured};
use skep_kit::hosts::keepalived::Keepalived;
use skep_kit::hosts::lan::{Lan, command_in, possible, within};
use skep_kit::hosts::program::{Ours, Program, start_backend};
use skep_kit::wait::{PATIENCE, wait_for};

use crate::packets::{advert_between, forge};

const VIP: &str = "10.78.0.100/24";
const PEERS: &str = "10.78.0.11,10.78.0.12";
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 0, 11), Ipv4Addr::new(10, 78, 0, 12)];
const INTERVAL: Duration = Duration::from_millis(100);
/// Also without its word, where that is not to be had.
const BELIEVED: &[&str] = &[];
const PROVEN: &[&str] = &["--vrrp-peers-proven", "true"];
const REFUSED_LEAST: u64 = 30;
/// Of something that is tracked.
const TRACKED: u16 = 9100;
/// How often a time is taken that a machine which stands still spoils.
const ATTEMPTS_MAX: usize = 5;

fn start(lan: &Lan, at: usize, priority: u8, more: &[&str]) -> Program {
    start_backend(&lan.host(at), &format!("host {at}"));
    let more = [&["--vrrp-peers", PEERS], more].concat();
    Ours { lan, at, vip: VIP, priority, interval: "100ms", mesh: true, more: &more }.start()
}

/// Whether the mesh confirms so many peers to it.
fn confirms(program: &Program, peers: u64) -> bool {
    program.vrrp().first().is_some_and(|it| it["confirmed_peers"] == peers)
}

/// The first holds the address, and each has the other's word.
fn pair(lan: &Lan, first: &[&str], second: (u8, &[&str])) -> (Program, Program) {
    let first = start(lan, 0, 200, first);
    first.wait_state("active");
    let other = start(lan, 1, second.0, second.1);
    for program in [&first, &other] {
        wait_for("each has the other's word", PATIENCE, || confirms(program, 1));
    }
    assert_eq!(first.state(), "active");
    other.wait_state("backup");
    (first, other)
}

/// Sends advertisements in the name of one host to the other, as the client host.
fn forged(lan: &Lan, (from, to): (usize, usize), claims: &[(u8, Duration)]) {
    let (from, to, claims) = (HOSTS[from], HOSTS[to], claims.to_vec());
    within(&lan.client(), move || {
        for (priority, interval) in claims {
            forge(from, to, &advert_between((from, to), (51, priority), interval, &["10.78.0.100"]));
        }
    });
}

fn refused(program: &Program) -> u64 {
    program.metric("skep_balancer_vrrp_discards_total", "reason=\"unconfirmed\"")
}

/// Forges until enough was refused; the state of the one that it is sent to is this all the time.
fn forged_in_vain(lan: &Lan, way: (usize, usize), claims: &[(u8, Duration)], (to, state): (&Program, &str)) {
    let before = refused(to);
    wait_for("what is forged is refused", PATIENCE, || {
        forged(lan, way, claims);
        assert_eq!(to.state(), state, "{}", to.log());
        refused(to) >= before + REFUSED_LEAST
    });
}

/// What takes no longer than this, but where the machine stands still meanwhile: then it is taken again.
fn soon(what: &str, bar: Duration, mut attempt: impl FnMut() -> Duration) -> Duration {
    let mut late = Vec::new();
    while late.len() < ATTEMPTS_MAX {
        match attempt() {
            took if took <= bar => return took,
            took => late.push(took),
        }
    }
    panic!("{what}: {late:?}, each over {bar:?}");
}

fn transitions(program: &Program) -> u64 {
    program.metric("skep_balancer_vrrp_transitions_total", "")
}

#[test]
fn what_is_forged_in_a_peers_name_is_counted_and_changes_nothing() {
    if !possible("forged peers", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (first, second) = pair(&lan, &[], (150, &[]));
    let before = (transitions(&first), transitions(&second));
    // In the name of the Backup, that it is Active; in that of the Active, that it stops, is another, or is
    // to be waited for.
    forged_in_vain(&lan, (1, 0), &[(255, INTERVAL), (201, INTERVAL)], (&first, "active"));
    forged_in_vain(&lan, (0, 1), &[(0, INTERVAL)], (&second, "backup"));
    forged_in_vain(&lan, (0, 1), &[(255, INTERVAL)], (&second, "backup"));
    forged_in_vain(&lan, (0, 1), &[(200, 400 * INTERVAL)], (&second, "backup"));
    assert_eq!((transitions(&first), transitions(&second)), before);
    assert!(first.log().contains("unconfirmed"), "{}", first.log());
}

#[test]
fn where_all_are_to_prove_it_nobody_is_believed_for_one_that_is_gone() {
    if !possible("forged peers that are gone", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (mut first, second) = pair(&lan, PROVEN, (150, PROVEN));
    first.kill();
    second.wait_state("active");
    forged_in_vain(&lan, (0, 1), &[(200, INTERVAL), (255, INTERVAL)], (&second, "active"));
    drop((second, lan));
    // Its host is lost: its last word is believed until the mesh is known to have lost it.
    let lan = Lan::new(2);
    let (_first, second) = pair(&lan, PROVEN, (150, PROVEN));
    lan.set_isolated(0, true);
    wait_for("another takes over from a host that is off", PATIENCE, || {
        forged(&lan, (0, 1), &[(200, INTERVAL)]);
        second.state() == "active"
    });
    forged_in_vain(&lan, (0, 1), &[(200, INTERVAL)], (&second, "active"));
}

#[test]
fn an_active_that_is_frozen_is_not_waited_for_though_what_it_said_last_is_repeated() {
    if !possible("a frozen peer", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (first, second) = pair(&lan, PROVEN, (150, PROVEN));
    // Its kernel keeps its connections.
    first.signal(Signal::STOP);
    wait_for("another takes over from one that is frozen", PATIENCE, || {
        forged(&lan, (0, 1), &[(200, INTERVAL)]);
        second.state() == "active"
    });
    forged_in_vain(&lan, (0, 1), &[(200, INTERVAL)], (&second, "active"));
    first.signal(Signal::CONT);
    second.wait_state("backup");
    assert_eq!(first.state(), "active");
}

#[test]
fn after_a_partition_the_lower_of_two_peers_gives_way_within_an_interval_and_a_new_connection() {
    if !possible("unicast peers after a partition", &[]) {
        return;
    }
    let _machine = machine_alone();
    // An eighth of a second is waited for an answer on the old connection.
    let bar = INTERVAL + Duration::from_millis(200);
    let kinds = [(BELIEVED, false), (BELIEVED, true), (PROVEN, false), (PROVEN, true)];
    let healed = kinds.map(|(more, long)| soon("one holder", bar, || heal(more, long)));
    measured("one holder again of two peers after a partition", &healed);
}

/// How long two hold it once their partition is over, which was longer than any patience or was not.
fn heal(more: &[&str], long: bool) -> Duration {
    let lan = Lan::new(2);
    let (first, second) = pair(&lan, more, (250, more));
    lan.set_isolated(0, true);
    second.wait_state("active");
    if long {
        wait_for("neither confirms the other", PATIENCE, || confirms(&first, 0) && confirms(&second, 0));
    }
    assert!(lan.has(0, "10.78.0.100"));
    lan.set_isolated(0, false);
    let healed = wait_for("one holder", PATIENCE, || !lan.has(0, "10.78.0.100"));
    assert_eq!(second.state(), "active", "{}", second.log());
    first.wait_state("backup");
    healed
}

#[test]
fn peers_confirm_each_other_again_once_the_interface_of_one_was_made_anew() {
    if !possible("an interface that is made anew", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let (first, second) = pair(&lan, &[], (150, &[]));
    lan.unplug(1);
    wait_for("neither has the other's word", PATIENCE, || confirms(&first, 0) && confirms(&second, 0));
    lan.plug(1);
    wait_for("each has the other's word again", PATIENCE, || confirms(&first, 1) && confirms(&second, 1));
    second.wait_state("backup");
    assert_eq!(first.state(), "active");
}

/// The mesh between two: as it is, filtered without a word, or with a reset.
const MESH: [Option<&str>; 3] = [None, Some("drop"), Some("reject with tcp reset")];

/// Filters the mesh's port on a host, both ways.
fn filter_mesh(lan: &Lan, at: usize, verdict: &str) {
    let table = format!(
        "add table inet f; \
         add chain inet f i {{ type filter hook input priority 0; }}; \
         add chain inet f o {{ type filter hook output priority 0; }}; \
         add rule inet f i tcp dport 7402 {verdict}; add rule inet f i tcp sport 7402 {verdict}; \
         add rule inet f o tcp dport 7402 {verdict}; add rule inet f o tcp sport 7402 {verdict}"
    );
    let status = command_in(&lan.host(at), "nft").arg(table).status().expect("nft runs");
    assert!(status.success());
}

#[test]
fn a_take_over_is_heeded_at_once_by_the_mesh_and_within_the_patience_where_that_is_cut() {
    if !possible("a take-over that the mesh confirms", &["nft"]) {
        return;
    }
    let _machine = machine_alone();
    for mesh in MESH {
        // A peer may owe its word for half a second; then it is the advertisement after that.
        let bar = Duration::from_millis(if mesh.is_some() { 1100 } else { 300 });
        let took = soon("a take-over is heeded", bar, || take_over(mesh));
        measured(&format!("a take-over is heeded by a peer, mesh {mesh:?}"), &[took]);
    }
}

/// How long two hold it where the second takes over from the first.
fn take_over(mesh: Option<&str>) -> Duration {
    // It claims less than the other until that port is open.
    let track = format!("tcp://127.0.0.1:{TRACKED} weight=100");
    let claims = ["--preempt", "true", "--track", track.as_str()];
    let lan = Lan::new(2);
    let (first, second) = pair(&lan, &[], (250, &claims[..]));
    if let Some(verdict) = mesh {
        filter_mesh(&lan, 0, verdict);
    }
    let _open = within(&lan.host(1), || TcpListener::bind(("127.0.0.1", TRACKED)).expect("the port is free"));
    second.wait_state("active");
    let both = first.wait_state("backup");
    assert_eq!(first.log().contains("believed without"), mesh.is_some(), "{}", first.log());
    both
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
    drop((ours, higher, lan));
    // Nobody is believed who does not prove it.
    let lan = Lan::new(2);
    let strict = start(&lan, 0, 200, PROVEN);
    strict.wait_state("active");
    forged_in_vain(&lan, (1, 0), &[(255, INTERVAL)], (&strict, "active"));
}
