//! The virtual MAC: hosts see one neighbour whoever holds the address, and nothing outlives its holder.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use skep_kit::effort::machine_alone;
use skep_kit::hosts::attempts::{Client, failures};
use skep_kit::hosts::lan::{Lan, possible, within};
use skep_kit::hosts::program::{
    HOLDER_SHOWN, HTTP, Ours, Program, start_backend, start_holder, start_server,
};
use skep_kit::programs::system;
use skep_kit::wait::{PATIENCE, pause, wait_for};

const VIP: &str = "10.78.0.100/24";
const VIRTUAL_MAC: &str = "00:00:5e:00:01:33";
/// What an earlier version made for it.
const LEFT: &str = "link add skep-vrrp.51 link eth0 address 00:00:5e:00:01:33 type macvlan mode private";

fn start(lan: &Lan, at: usize, priority: u8) -> Program {
    start_backend(&lan.host(at), &format!("host {at}"));
    let more = ["--vmac", "true"];
    Ours { lan, at, vip: VIP, priority, interval: "100ms", mesh: false, more: &more }.start()
}

/// A holder beside a web server of its host, which lives on.
fn holder(lan: &Lan, at: usize, priority: &str) -> Program {
    start_holder(lan, at, VIP, priority, &[&HOLDER_SHOWN[..], &["--vmac", "true"]].concat(), &[])
}

/// What a host's kernel has beside what the network was made with.
fn left(lan: &Lan, at: usize) -> String {
    let host = lan.host(at);
    let links = lan.run(&host, "-o link show");
    let more = links.lines().filter(|line| !line.contains(": lo:") && !line.contains(": eth0@"));
    let sockets = system("ip", &["netns", "exec", &host, "cat", "/proc/net/packet"]);
    let sockets = sockets.lines().skip(1);
    let rules = system("ip", &["netns", "exec", &host, "nft", "list", "ruleset"]);
    more.chain(sockets).chain(rules.lines()).collect::<Vec<_>>().join("\n")
}

/// Whether a host takes what is sent to the virtual MAC: the client is made to believe that the host's own
/// address is there, and the switch that the MAC is at its port.
fn takes_frames(lan: &Lan, at: usize) -> bool {
    let (address, port) = (format!("10.78.0.{}", 11 + at), format!("port-{at}"));
    let switch = |how: &str| {
        // Sticky: the holder's own frames do not move it back.
        let args = ["-n", &lan.switch(), "fdb", how, VIRTUAL_MAC, "dev", &port, "master", "static", "sticky"];
        system("bridge", &args);
    };
    switch("replace");
    lan.run(&lan.client(), &format!("neigh replace {address} lladdr {VIRTUAL_MAC} nud permanent dev eth0"));
    let taken = reached(lan, &address);
    lan.run(&lan.client(), &format!("neigh del {address} dev eth0"));
    switch("del");
    taken
}

fn reached(lan: &Lan, address: &str) -> bool {
    let address = SocketAddr::new(address.parse().expect("an address"), HTTP);
    within(&lan.client(), move || TcpStream::connect_timeout(&address, Duration::from_millis(400)).is_ok())
}

#[test]
fn with_the_virtual_mac_hosts_see_one_neighbour_whoever_holds_the_address() {
    if !possible("the virtual MAC", &["nft"]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let mut first = start(&lan, 0, 200);
    first.wait_state("active");
    let second = start(&lan, 1, 150);
    second.wait_state("backup");
    let reached = |expected: &str| {
        let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(2));
        pause(Duration::from_millis(300));
        let attempts = client.finish();
        assert_eq!(failures(&attempts), 0, "{:?}", attempts.iter().find(|it| it.result.is_err()));
        assert_eq!(attempts.last().unwrap().result.as_deref(), Ok(expected));
        let neighbours = lan.run(&lan.client(), "neigh show 10.78.0.100");
        assert!(neighbours.contains(VIRTUAL_MAC), "{neighbours}");
    };
    reached("host 0");
    // Asked anew, the kernel of the holder answers, and not an announcement.
    lan.run(&lan.client(), "neigh flush all");
    reached("host 0");
    assert!(takes_frames(&lan, 0) && !takes_frames(&lan, 1), "the Active does, and no Backup");
    assert_eq!(first.stop(), Some(0), "{}", first.log());
    second.wait_state("active");
    reached("host 1");
    let own = lan.run(&lan.client(), "neigh show 10.78.0.12");
    assert!(!own.contains("00:00:5e"), "{own}");
    assert_eq!(left(&lan, 0), "");
}

#[test]
fn a_killed_holder_of_the_virtual_mac_leaves_nothing_that_answers_for_it() {
    if !possible("kill -9 with the virtual MAC", &["nft"]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(1);
    let _server = start_server(&lan, 0);
    let mut first = holder(&lan, 0, "200");
    wait_for("it holds", PATIENCE, || reached(&lan, "10.78.0.100"));
    assert!(takes_frames(&lan, 0), "{}", left(&lan, 0));
    first.kill();
    assert_eq!(left(&lan, 0), "");
    assert!(!takes_frames(&lan, 0), "frames to the virtual MAC");
    let gone = wait_for("the address is gone", PATIENCE, || !lan.has(0, "10.78.0.100"));
    assert!(gone < Duration::from_millis(2500), "{gone:?}");
    lan.run(&lan.client(), "neigh flush all");
    assert!(reached(&lan, "10.78.0.11") && !reached(&lan, "10.78.0.100"));
    // One that comes after it finds nothing in its way.
    let _again = holder(&lan, 0, "200");
    wait_for("it holds again", PATIENCE, || reached(&lan, "10.78.0.100"));
    let neighbours = lan.run(&lan.client(), "neigh show 10.78.0.100");
    assert!(neighbours.contains(VIRTUAL_MAC), "{neighbours}");
}

#[test]
fn what_an_earlier_version_left_is_removed_and_what_is_anothers_is_refused_by_its_name() {
    if !possible("interfaces with the virtual MAC", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(1);
    let host = lan.host(0);
    let links = || lan.run(&host, "-o link show");
    for theirs in [LEFT.replace("skep-vrrp.51", "vrrp.51"), LEFT.replace("macvlan mode private", "macvtap")] {
        lan.run(&host, &theirs);
        let mut refused = holder(&lan, 0, "200");
        assert_eq!(refused.wait(), Some(1));
        let name = if theirs.contains("macvtap") { "skep-vrrp.51" } else { "vrrp.51" };
        assert!(
            refused.log().contains(&format!("the interface {name} has the virtual MAC")),
            "{}",
            refused.log()
        );
        assert!(links().contains(&format!(" {name}@eth0")), "{}", links());
        lan.run(&host, &format!("link del {name}"));
    }
    // Of the name alone: it has another MAC, and is nothing to us.
    lan.run(&host, "link add skep-vrrp.52 link eth0 type macvlan mode private");
    lan.run(&host, LEFT);
    lan.run(&host, "link set skep-vrrp.51 up");
    lan.run(&host, "addr add 10.78.0.100/32 dev skep-vrrp.51");
    let _server = start_server(&lan, 0);
    let program = holder(&lan, 0, "200");
    wait_for("it holds", PATIENCE, || reached(&lan, "10.78.0.100"));
    assert!(!links().contains("skep-vrrp.51") && links().contains("skep-vrrp.52"), "{}", links());
    assert!(program.log().contains("skep-vrrp.51"), "{}", program.log());
}
