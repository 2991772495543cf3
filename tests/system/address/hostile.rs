//! A network where someone means harm: what is sent is counted by its reason, and nothing changes.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use skep_kit::effort::{count, machine_alone, say};
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::lan::{Lan, within};
use skep_kit::hosts::program::{Ours, Program, start_backend};
use skep_kit::wait::{PATIENCE, pause, wait_for};

use crate::packets::{GROUP, SOURCE, advert_between, socket, to};

const VIP: &str = "10.78.0.100/24";

/// An advertisement of the client host to `target`.
fn advert_to(target: Ipv4Addr, vrid: u8, priority: u8, interval: Duration, addresses: &[&str]) -> Vec<u8> {
    advert_between((SOURCE, target), (vrid, priority), interval, addresses)
}

fn advert(vrid: u8, priority: u8, addresses: &[&str]) -> Vec<u8> {
    advert_to(GROUP, vrid, priority, Duration::from_millis(100), addresses)
}

fn discards(program: &Program, reason: &str) -> u64 {
    program.metric("skep_balancer_vrrp_discards_total", &format!("reason=\"{reason}\""))
}

fn holder(lan: &Lan, more: &[&str]) -> Program {
    start_backend(&lan.host(0), "host 0");
    let program = Ours { lan, at: 0, vip: VIP, priority: 150, interval: "100ms", mesh: false, more }.start();
    program.wait_state("active");
    program
}

#[test]
fn forged_and_broken_packets_are_counted_by_their_reason_and_change_nothing() {
    if !possible("a hostile network", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(1);
    let program = holder(&lan, &[]);
    let good = advert(51, 254, &["10.78.0.100"]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let cases = [
        ("ttl", 254, good.clone()),
        ("checksum", 255, with(2, 253)),
        ("vrid", 255, advert(77, 254, &["10.78.0.100"])),
        ("addresses", 255, advert(51, 254, &["10.78.0.99"])),
        ("addresses", 255, advert(51, 254, &["10.78.0.100", "10.78.0.101"])),
        ("version", 255, with(0, 0x41)),
        ("type", 255, with(0, 0x32)),
        ("count-zero", 255, with(3, 0)),
        ("length", 255, with(3, 9)),
        ("length", 255, vec![0x31, 51]),
    ];
    for (reason, ttl, bytes) in cases {
        let before = discards(&program, reason);
        within(&lan.client(), move || socket(ttl).send_to(&bytes, &to(GROUP)).map(drop)).unwrap();
        wait_for(reason, PATIENCE, || discards(&program, reason) == before + 1);
        assert_eq!(program.state(), "active", "{reason}");
    }
    assert_eq!(program.metric("skep_balancer_vrrp_transitions_total", ""), 2);
}

#[test]
fn in_unicast_mode_a_strangers_priority_255_changes_nothing() {
    if !possible("a stranger in unicast mode", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(1);
    let program = holder(&lan, &["--vrrp-peers", "10.78.0.12"]);
    let host = Ipv4Addr::new(10, 78, 0, 11);
    within(&lan.client(), move || {
        for target in [GROUP, host] {
            let bytes = advert_to(target, 51, 255, Duration::from_millis(100), &["10.78.0.100"]);
            socket(255).send_to(&bytes, &to(target)).unwrap();
        }
    });
    wait_for("both are counted", PATIENCE, || discards(&program, "stranger") == 2);
    assert_eq!((program.state(), lan.has(0, "10.78.0.100")), ("active".into(), true));
}

#[test]
fn ten_thousand_packets_a_second_cost_less_than_a_tenth_of_a_core() {
    if !possible("a flood", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(1);
    let program = holder(&lan, &[]);
    let length = Duration::from_secs(count(3, 20));
    for (what, bytes) in [
        ("wrong checksum", {
            let mut bytes = advert(51, 254, &["10.78.0.100"]);
            bytes[6] ^= 1;
            bytes
        }),
        ("wrong VRID", advert(77, 254, &["10.78.0.100"])),
        // It passes every check: a rival of low priority, who is answered, but not each time.
        ("lower priority", advert(51, 2, &["10.78.0.100"])),
    ] {
        let (begun, cpu) = (Instant::now(), cpu_time(&program));
        let sent = within(&lan.client(), move || {
            let (socket, group) = (socket(255), to(GROUP));
            let begun = Instant::now();
            let mut sent = 0_u64;
            while begun.elapsed() < length {
                let due = (begun.elapsed().as_micros() / 100) as u64;
                while sent < due {
                    // A full queue is the sender's affair.
                    let _ = socket.send_to(&bytes, &group);
                    sent += 1;
                }
                pause(Duration::from_millis(1));
            }
            sent
        });
        let share = (cpu_time(&program) - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        let rate = sent as f64 / begun.elapsed().as_secs_f64();
        say(&format!("measure: flood, {what}: {rate:.0} packets/s cost {:.1}% of a core", share * 100.0));
        // Unoptimised in parts and beside other work, the short form allows for more.
        assert!(share < count(0.35, 0.1), "{what}: {share}");
        assert_eq!(program.state(), "active");
    }
    assert_eq!(program.metric("skep_balancer_vrrp_transitions_total", ""), 2);
}

/// Of the whole process.
fn cpu_time(program: &Program) -> Duration {
    let path = format!("/proc/{}/schedstat", program.pid().as_raw_nonzero());
    let threads = std::fs::read_dir(format!("/proc/{}/task", program.pid().as_raw_nonzero()));
    let nanoseconds = |path: &std::path::Path| -> u64 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    match threads {
        Ok(threads) => {
            let all = threads.flatten().map(|thread| nanoseconds(&thread.path().join("schedstat")));
            Duration::from_nanos(all.sum())
        }
        Err(_) => Duration::from_nanos(nanoseconds(std::path::Path::new(&path))),
    }
}
