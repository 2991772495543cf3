//! One group of ours and keepalived, both ways round, in both families.

use std::time::Duration;

use skep_kit::effort::machine_alone;
use skep_kit::folders::scratch;
use skep_kit::hosts::keepalived::{Keepalived, Running};
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::lan::{Lan, command_in};
use skep_kit::hosts::program::{Ours, Program, start_backend};
use skep_kit::programs::system;
use skep_kit::wait::{PATIENCE, pause, wait_for};

struct Case {
    name: &'static str,
    ours: &'static str,
    theirs: &'static [&'static str],
    probe: &'static str,
    version: &'static str,
    /// As ours and keepalived are told it.
    interval: (&'static str, &'static str),
    /// After so long without a change there will be none.
    settled: Duration,
}

const CASES: [Case; 3] = [
    Case {
        name: "IPv4",
        ours: "10.78.0.100/24,10.78.0.101/24",
        theirs: &["10.78.0.100/24", "10.78.0.101/24"],
        probe: "10.78.0.100",
        version: "3",
        interval: ("100ms", "0.1"),
        settled: Duration::from_millis(600),
    },
    Case {
        name: "IPv6",
        ours: "fe80::100/64,fd78::100/64",
        theirs: &["fe80::100/64", "fd78::100/64"],
        probe: "fd78::100",
        version: "3",
        interval: ("100ms", "0.1"),
        settled: Duration::from_millis(600),
    },
    Case {
        name: "IPv4, version 2",
        ours: "10.78.0.100/24,10.78.0.101/24",
        theirs: &["10.78.0.100/24", "10.78.0.101/24"],
        probe: "10.78.0.100",
        version: "2",
        interval: ("1s", "1"),
        settled: Duration::from_secs(5),
    },
];

/// Records all VRRP packets on the bridge.
struct Capture {
    tshark: std::process::Child,
    file: std::path::PathBuf,
}

impl Capture {
    fn start(lan: &Lan) -> Self {
        let file = scratch().join(format!("{}.pcap", lan.switch()));
        let _ = std::fs::remove_file(&file);
        let mut command = command_in(&lan.switch(), "tshark");
        command.args(["-q", "-i", "br0", "-f", "ip proto 112 or ip6 proto 112 or arp", "-w"]).arg(&file);
        let tshark =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        wait_for("the capture begins", PATIENCE, || std::fs::metadata(&file).is_ok_and(|it| it.len() > 0));
        Self { tshark, file }
    }

    /// How many packets of VRRP there were, and those that tshark finds fault with.
    fn finish(mut self) -> (usize, String) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.tshark),
            rustix::process::Signal::INT,
        );
        let _ = self.tshark.wait();
        let path = self.file.to_str().unwrap();
        let all = system("tshark", &["-r", path, "-Y", "vrrp"]);
        let wrong = "_ws.malformed or (vrrp and _ws.expert.severity >= \"Warning\")";
        let check = ["-r", path, "-o", "ip.check_checksum:TRUE", "-Y", wrong];
        let bad = system("tshark", &check);
        (all.lines().count(), bad)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tshark.kill();
        let _ = self.tshark.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

fn theirs(lan: &Lan, at: usize, case: &Case, priority: u8) -> Running {
    let more = format!("version {}", case.version);
    Keepalived { lan, at, vips: case.theirs, priority, interval: case.interval.1, more: &more, before: "" }
        .start()
}

fn ours(lan: &Lan, at: usize, case: &Case, priority: u8, preempt: &str) -> Program {
    let more = ["--preempt", preempt, "--vrrp-version", case.version];
    Ours { lan, at, vip: case.ours, priority, interval: case.interval.0, mesh: true, more: &more }.start()
}

fn assert_content(ours: &Program, theirs: &str) {
    for line in theirs.lines() {
        let lower = line.to_lowercase();
        let complains =
            ["invalid", "error", "malformed", "checksum", "mismatch"].iter().any(|it| lower.contains(it));
        assert!(!complains, "keepalived says: {line}");
    }
    let log = ours.log();
    assert!(!log.contains("ERROR") && !log.contains("discarded"), "{log}");
}

#[test]
fn ours_and_keepalived_elect_fail_over_and_preempt_in_one_group() {
    if !possible("keepalived in the group", &["keepalived", "tshark"]) {
        return;
    }
    let _machine = machine_alone();
    // Each has hosts of its own, and waits for most of the time.
    std::thread::scope(|scope| {
        for case in &CASES {
            scope.spawn(|| both_ways_round(case));
        }
    });
}

fn both_ways_round(case: &Case) {
    let lan = Lan::new(2);
    start_backend(&lan.host(1), "ours");
    let capture = Capture::start(&lan);
    let has = |at: usize| lan.has(at, case.probe);

    // Ours is the higher: keepalived waits, takes over when it stops, gives back.
    let mut first = ours(&lan, 1, case, 200, "true");
    first.wait_state("active");
    let mut second = theirs(&lan, 0, case, 150);
    wait_for("keepalived waits", PATIENCE, || second.program.log().contains("Entering BACKUP STATE"));
    pause(case.settled);
    assert!(has(1) && !has(0), "{}: {}", case.name, second.program.log());
    assert_content(&first, &second.program.log());
    first.signal(rustix::process::Signal::TERM);
    wait_for("keepalived takes over", PATIENCE, || has(0));
    first.wait();
    assert!(!has(1), "{}", case.name);
    let mut first = ours(&lan, 1, case, 200, "true");
    first.wait_state("active");
    wait_for("keepalived gives back", PATIENCE, || !has(0));
    first.kill();
    wait_for("keepalived takes over after a kill", PATIENCE, || has(0));

    // keepalived is the lower and Active; without preemption it stays so.
    let content = ours(&lan, 1, case, 200, "false");
    content.wait_state("backup");
    pause(case.settled);
    assert!(has(0) && !has(1), "{}", case.name);
    second.kill();
    content.wait_state("active");
    drop(content);

    // keepalived is the higher: it preempts, ours waits and takes over when it is killed.
    wait_for("the address is gone there", PATIENCE, || !has(1));
    let lower = ours(&lan, 1, case, 100, "true");
    lower.wait_state("active");
    let mut higher = theirs(&lan, 0, case, 150);
    lower.wait_state("backup");
    wait_for("keepalived has it", PATIENCE, || has(0) && !has(1));
    assert_content(&lower, &higher.program.log());
    higher.program.signal(rustix::process::Signal::TERM);
    lower.wait_state("active");
    assert!(has(1), "{}", case.name);
    higher.kill();

    let (packets, bad) = capture.finish();
    assert!(packets > 20, "{}: {packets}", case.name);
    assert_eq!(bad, "", "{}", case.name);
}
