//! What the holder of an address does for it, and what is left of it when it dies.

use std::path::Path;
use std::time::{Duration, Instant};

use skep_kit::effort::{expect_under, machine_alone, measured};
use skep_kit::folders::scratch;
use skep_kit::hosts::attempts::{Client, failures, outage};
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::lan::{Lan, command_in};
use skep_kit::hosts::program::{
    HOLDER_SHOWN, Ours, Program, READY, start_backend, start_holder, start_server,
};
use skep_kit::programs::balancer_path;
use skep_kit::wait::{PATIENCE, pause, wait_for};

const VIP: &str = "10.78.0.100/24";
/// Connections of a millisecond each, one begun every millisecond, that one moment can cut.
const CUT_MAX: usize = 3;

fn start(lan: &Lan, at: usize, priority: u8, more: &[&str]) -> Program {
    Ours { lan, at, vip: VIP, priority, interval: "100ms", mesh: false, more }.start()
}

#[test]
fn an_address_that_someone_takes_away_is_put_back_within_100_ms() {
    if !possible("a deleted address", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(1);
    start_backend(&lan.host(0), "host 0");
    let program = start(&lan, 0, 200, &[]);
    program.wait_state("active");
    wait_for("the address", PATIENCE, || lan.has(0, "10.78.0.100"));
    let mut gone = Vec::new();
    for _ in 0..10 {
        lan.run(&lan.host(0), "addr del 10.78.0.100/24 dev eth0");
        let begun = Instant::now();
        wait_for("the address is back", PATIENCE, || lan.has(0, "10.78.0.100"));
        gone.push(begun.elapsed());
    }
    measured("a deleted address is back", &gone);
    expect_under("back", *gone.iter().max().unwrap(), Duration::from_millis(100));
    assert!(program.metric("skep_balancer_vrrp_address_restored_total", "") >= 10);
}

#[test]
fn what_is_left_by_kill_9_is_gone_in_two_and_a_half_seconds_and_clients_reach_the_new_holder() {
    if !possible("kill -9 of the holder alone", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    // The holders stand alone; the web servers of both hosts live on.
    let mut servers = Vec::new();
    for at in 0..2 {
        start_backend(&lan.host(at), &format!("host {at}"));
        servers.push(start_server(&lan, at));
    }
    let more = [&HOLDER_SHOWN[..], &["--track", READY]].concat();
    let alone = |at, priority| start_holder(&lan, at, VIP, priority, &more, &[]);
    let mut first = alone(0, "200");
    wait_for("the first holds", PATIENCE, || lan.has(0, "10.78.0.100"));
    let _second = alone(1, "150");
    pause(Duration::from_millis(800));
    let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(1));
    pause(Duration::from_millis(300));
    first.kill();
    let left = wait_for("the address is gone", PATIENCE, || !lan.has(0, "10.78.0.100"));
    assert!(left < Duration::from_millis(2500), "{left:?}");
    measured("an orphaned address is gone after", &[left]);
    pause(Duration::from_millis(500));
    let attempts = client.finish();
    // The web server is still there: nobody is refused, whoever is asked. What was being said at
    // the moment of the take-over may be cut: nobody was left to send it on.
    assert!(failures(&attempts) <= CUT_MAX, "{} in {:?}", failures(&attempts), outage(&attempts));
    assert_eq!(attempts.last().unwrap().result.as_deref(), Ok("host 1"));
}

#[test]
fn a_stale_address_is_taken_away_at_the_start() {
    if !possible("a stale address", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    for at in 0..2 {
        start_backend(&lan.host(at), "host");
    }
    let first = start(&lan, 0, 200, &[]);
    first.wait_state("active");
    lan.run(&lan.host(1), "addr add 10.78.0.100/24 dev eth0");
    let second = start(&lan, 1, 150, &[]);
    second.wait_state("backup");
    assert!(!lan.has(1, "10.78.0.100"));
}

#[test]
fn a_tracked_proxy_that_is_lost_moves_the_address_at_once_and_notify_is_run() {
    if !possible("tracking", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let mut servers = Vec::new();
    for at in 0..2 {
        start_backend(&lan.host(at), &format!("host {at}"));
        servers.push(start_server(&lan, at));
    }
    let folder = scratch();
    let told = folder.join(format!("{}-notify", lan.host(0)));
    let script = folder.join(format!("{}-notify.sh", lan.host(0)));
    std::fs::write(
        &script,
        format!("#!/bin/sh\necho \"$@ $SKEP_VRRP_ADDRESSES $SKEP_VRRP_REASON\" >> {}\n", told.display()),
    )
    .unwrap();
    let notify = format!("/bin/sh {}", script.display());
    let alone = |at, priority, notify| {
        let more = [&HOLDER_SHOWN[..], &["--track", READY, "--notify", notify]].concat();
        start_holder(&lan, at, VIP, priority, &more, &[])
    };
    let _first = alone(0, "200", &notify);
    wait_for("the first holds", PATIENCE, || lan.has(0, "10.78.0.100"));
    let _second = alone(1, "150", "/bin/true");
    pause(Duration::from_millis(800));
    let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(1));
    pause(Duration::from_millis(200));
    servers[0].kill();
    wait_for("the second holds", PATIENCE, || lan.has(1, "10.78.0.100"));
    pause(Duration::from_millis(300));
    let attempts = client.finish();
    measured("outage, tracked proxy killed, no mesh, 100 ms", &[outage(&attempts)]);
    expect_under("outage", outage(&attempts), Duration::from_millis(150));
    wait_for("notify has run", PATIENCE, || {
        std::fs::read_to_string(&told).unwrap_or_default().lines().count() >= 3
    });
    let lines = std::fs::read_to_string(&told).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with("backup 51 ipv4 10.78.0.100/24"), "{lines:?}");
    assert!(lines[1].starts_with("active 51 ipv4"), "{lines:?}");
    assert!(
        lines[2].starts_with("initialize 51 ipv4") && lines[2].contains("8080/-/ready fails"),
        "{lines:?}"
    );
    let _ = (std::fs::remove_file(told), std::fs::remove_file(script));
}

#[test]
fn without_its_capabilities_it_says_which_and_with_them_alone_it_runs() {
    if !possible("capabilities", &["setpriv"]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(1);
    let program = balancer_path().to_str().expect("a plain path");
    let vrrp = [
        program,
        "vrrp",
        "--vip",
        VIP,
        "--vrrp-interface",
        "eth0",
        "--log-format",
        "human",
        "--admin",
        "127.0.0.1:9401",
    ];
    let with = |caps: &str| {
        let mut command = command_in(&lan.host(0), "setpriv");
        command.args([format!("--bounding-set={caps}"), format!("--inh-caps={caps}")]).args(vrrp);
        command
    };
    let output = with("-all").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("NET_ADMIN") && error.contains("cap_add"), "{error}");
    let mut args = vec!["--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all,+net_admin,+net_raw"];
    args.extend(vrrp);
    let running = Program::start(&lan.host(0), Path::new("/usr/bin/setpriv"), &args, &[]);
    running.wait_state("active");
    let missing = command_in(&lan.host(0), program)
        .args(["vrrp", "--vip", VIP, "--vrrp-interface", "eth9"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no interface eth9"));
}
