//! Faster than the protocol, where the peers are ours: the mesh, and the planned hand-over.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use skep_kit::effort::{expect_under, figure, machine_alone, measured};
use skep_kit::hosts::attempts::{Client, connect_from, failures, keep_connection, outage};
use skep_kit::hosts::lan::{Lan, possible, within};
use skep_kit::hosts::program::{
    HOLDER_ADMIN, HOLDER_SHOWN, KEY, Ours, Program, READY, start_backend, start_holder, start_server,
};
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

/// A proxy on each of so many hosts.
fn serve(lan: &Lan, hosts: usize) -> Vec<Program> {
    let start = |at| {
        start_backend(&lan.host(at), &format!("host {at}"));
        start_server(lan, at)
    };
    (0..hosts).map(start).collect()
}

/// Who is told nothing is kept so long, as an end of its connection is an answer: it asks anew twice a second.
const PULSE_KEPT_MAX: usize = 64;
const WELL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What says on a host that all is well, or nothing.
struct Pulse {
    url: String,
    well: Arc<AtomicBool>,
}

impl Pulse {
    fn start(lan: &Lan, at: usize) -> Self {
        let listener = within(&lan.host(at), || TcpListener::bind("127.0.0.1:0").expect("a port is free"));
        let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
        let well = Arc::new(AtomicBool::new(true));
        let says = well.clone();
        std::thread::spawn(move || {
            // Who is told nothing is kept, for the end of its connection is an answer; and who asks nothing waits for that end.
            let mut kept = VecDeque::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                if says.load(Ordering::Relaxed) {
                    std::thread::spawn(move || {
                        let _ = stream.read(&mut [0; 1024]);
                        let _ = stream.write_all(WELL);
                    });
                } else {
                    kept.push_front(stream);
                    kept.truncate(PULSE_KEPT_MAX);
                }
            }
        });
        Self { url, well }
    }

    fn set(&self, well: bool) {
        self.well.store(well, Ordering::Relaxed);
    }
}

/// A holder that follows these things.
fn alone(lan: &Lan, at: usize, priority: &str, tracks: &str) -> Program {
    alone_for(lan, at, priority, tracks, "2s")
}

/// The same, which lets connections end for so long.
fn alone_for(lan: &Lan, at: usize, priority: &str, tracks: &str, drain: &str) -> Program {
    let ways = ["--advert-interval", "1s", "--track", tracks, "--vrrp-handover", "socket", "--drain", drain];
    let more = [&HOLDER_SHOWN[..], &ways].concat();
    start_holder(lan, at, "10.78.0.100/24", priority, &more, &[("SKEP_CLUSTER_KEY", KEY)])
}

/// What a holder without a proxy says of its one virtual router.
fn says(holder: &Program, field: &str) -> Value {
    let said = holder.admin_at(HOLDER_ADMIN, "/vrrp").unwrap_or_default();
    let said: Value = serde_json::from_str(&said).unwrap_or_default();
    said[0][field].clone()
}

#[test]
fn a_holder_whose_proxy_is_silent_keeps_the_address_where_the_others_are_no_better() {
    if !possible("silent proxies", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let servers = serve(&lan, 2);
    let first = alone(&lan, 0, "200", READY);
    wait_for("the first holds", PATIENCE, || says(&first, "state") == "active");
    let second = alone(&lan, 1, "150", READY);
    wait_for("the second is named", PATIENCE, || says(&second, "successor") == true);
    let held_since = says(&first, "since");
    // One after the other they hang, as on hosts that have much to do.
    for (server, holder) in servers.iter().zip([&first, &second]).rev() {
        server.signal(rustix::process::Signal::STOP);
        wait_for("it is weak", PATIENCE, || says(holder, "effective_priority") == 1);
    }
    // Longer than until a Backup that hears nothing takes over.
    pause(Duration::from_secs(5));
    assert_eq!((says(&first, "state"), says(&second, "state")), ("active".into(), "backup".into()));
    for (server, holder) in servers.iter().zip([&first, &second]) {
        server.signal(rustix::process::Signal::CONT);
        wait_for("it is well", PATIENCE, || says(holder, "effective_priority") != 1);
    }
    assert_eq!((says(&first, "state"), says(&first, "since")), ("active".into(), held_since));
}

#[test]
fn a_weak_holder_hands_over_to_whoever_comes_that_can_do_better() {
    if !possible("a weak holder", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let _servers = serve(&lan, 2);
    // It takes connections, and never says a word.
    let mute = within(&lan.host(0), || TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let tracks = format!("{READY}, http://{}/", mute.local_addr().expect("it is bound"));
    let first = alone(&lan, 0, "200", &tracks);
    wait_for("the first holds", PATIENCE, || lan.has(0, "10.78.0.100"));
    assert_eq!(says(&first, "effective_priority"), 1);
    let stop = Arc::new(AtomicBool::new(false));
    let kept = keep_connection(&lan, "10.78.0.100", stop.clone());
    let client = Client::start_patient(&lan, "10.78.0.100", Duration::from_millis(1));
    let second = alone(&lan, 1, "150", READY);
    wait_for("the second holds", PATIENCE, || says(&second, "state") == "active");
    pause(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let ((answered, ended), attempts) = (kept.join().unwrap(), client.finish());
    let errors: Vec<_> = attempts.iter().filter(|it| it.result.is_err()).take(5).collect();
    assert_eq!(failures(&attempts), 0, "{errors:?}");
    assert_eq!(ended, None, "after {answered} answers");
    assert_eq!(attempts.last().unwrap().result.as_deref(), Ok("host 1"));
}

#[test]
fn who_still_sends_on_to_the_one_before_is_handed_over_to_again_with_the_connections_of_the_next() {
    if !possible("hand-overs to and fro", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(3);
    let _servers = serve(&lan, 3);
    let pulses: Vec<Pulse> = (0..3).map(|at| Pulse::start(&lan, at)).collect();
    let priorities = ["200", "150", "100"];
    let holders: Vec<Program> = (0..3)
        .map(|at| {
            let tracks = format!("{READY}, {}", pulses[at].url);
            let holder = alone_for(&lan, at, priorities[at], &tracks, "60s");
            let state = if at == 0 { "active" } else { "backup" };
            wait_for("it runs", PATIENCE, || says(&holder, "state") == state);
            holder
        })
        .collect();
    wait_for("the second is named", PATIENCE, || says(&holders[1], "successor") == true);
    let client = Client::start_patient(&lan, "10.78.0.100", Duration::from_millis(1));
    let stop = Arc::new(AtomicBool::new(false));
    let mut kept = Vec::new();
    // To the second, to the third, and back to the second, which sends on to the first all the while.
    for (weak, well, next) in [(0, None, 1), (1, None, 2), (2, Some(1), 1)] {
        kept.push(keep_connection(&lan, "10.78.0.100", stop.clone()));
        pause(Duration::from_millis(200));
        if next == 2 {
            wait_for("the third is named", PATIENCE, || says(&holders[2], "successor") == true);
        }
        pulses[weak].set(false);
        wait_for("it is weak", PATIENCE, || says(&holders[weak], "effective_priority") == 1);
        if let Some(well) = well {
            pulses[well].set(true);
        }
        wait_for("the next one holds", PATIENCE, || says(&holders[next], "state") == "active");
        assert_eq!(says(&holders[next], "reason"), "the active one stopped");
    }
    assert_eq!(says(&holders[0], "state"), "backup");
    pause(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let attempts = client.finish();
    // The first one's are let go where the second sends on to the third.
    let ends: Vec<_> = kept.into_iter().map(|it| it.join().unwrap()).skip(1).collect();
    let errors: Vec<_> = attempts.iter().filter(|it| it.result.is_err()).take(5).collect();
    assert_eq!(failures(&attempts), 0, "{errors:?}");
    assert!(ends.iter().all(|(_, ended)| ended.is_none()), "{ends:?}");
    assert_eq!(attempts.last().unwrap().result.as_deref(), Ok("host 1"));
}

#[test]
fn a_connection_from_a_port_that_another_had_at_the_next_holder_goes_on() {
    if !possible("a port that is used again", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let _servers = serve(&lan, 2);
    let pulses: Vec<Pulse> = (0..2).map(|at| Pulse::start(&lan, at)).collect();
    let holders: Vec<Program> = (0..2)
        .map(|at| {
            let tracks = format!("{READY}, {}", pulses[at].url);
            let holder = alone_for(&lan, at, ["200", "150"][at], &tracks, "60s");
            let state = ["active", "backup"][at];
            wait_for("it runs", PATIENCE, || says(&holder, "state") == state);
            holder
        })
        .collect();
    let is_handed_over = |from: usize, to: usize| {
        wait_for("the other is named", PATIENCE, || says(&holders[to], "successor") == true);
        pulses[from].set(false);
        wait_for("the other holds", PATIENCE, || says(&holders[to], "state") == "active");
        assert_eq!(says(&holders[to], "reason"), "the active one stopped");
    };
    // The first ends it, and remembers its ends for a minute.
    let mut before = connect_from(&lan, PORT, "10.78.0.100").expect("the first takes it");
    assert!(asked(&mut before, "connection: close\r\n").starts_with("HTTP/1.1 200 "));
    assert_eq!(before.read(&mut [0; 16]).expect("an end"), 0);
    drop(before);
    is_handed_over(0, 1);
    let mut kept = connect_from(&lan, PORT, "10.78.0.100").expect("the second takes it");
    assert!(asked(&mut kept, "").contains("host 1"));
    pulses[0].set(true);
    is_handed_over(1, 0);
    assert!(asked(&mut kept, "").contains("host 1"), "it is where it was");
    // Begun anew from there, it is the first's.
    assert!(asked(&mut kept, "connection: close\r\n").contains("host 1"));
    assert_eq!(kept.read(&mut [0; 16]).expect("an end"), 0);
    drop(kept);
    let mut again = connect_from(&lan, PORT, "10.78.0.100").expect("the first takes it");
    assert!(asked(&mut again, "").contains("host 0"));
    assert!(asked(&mut again, "").contains("host 0"));
}

/// Of the client's.
const PORT: u16 = 23_456;

/// The answer to one request, which comes at once.
fn asked(stream: &mut TcpStream, more: &str) -> String {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\n{more}\r\n").as_bytes()).expect("it is sent");
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap_or_else(|error| panic!("no answer: {error}"));
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[test]
fn a_holder_that_stands_alone_hands_over_when_its_proxy_drains() {
    if !possible("a draining proxy", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let mut servers = serve(&lan, 2);
    let _first = alone(&lan, 0, "200", READY);
    wait_for("the first holds", PATIENCE, || lan.has(0, "10.78.0.100"));
    let second = alone(&lan, 1, "150", READY);
    wait_for("the mesh stands", PATIENCE, || {
        let status = second.admin_at(HOLDER_ADMIN, "/vrrp").unwrap_or_default();
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
