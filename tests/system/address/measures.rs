//! The table of outages: three of ours beside two of keepalived, in one run, at each interval.
//!
//! In the short form one trial of one row each; in full 20, as `scripts/bench/vrrp` asks for.

use std::time::Duration;

use skep_kit::effort::{count, long, machine_alone, median, say};
use skep_kit::hosts::attempts::{Client, failures, outage};
use skep_kit::hosts::keepalived::{Keepalived, Running};
use skep_kit::hosts::lan::Lan;
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::program::{
    HOLDER_SHOWN, Ours, Program, READY, start_backend, start_holder, start_server,
};
use skep_kit::wait::{PATIENCE, pause, wait_for};

const VIP: &str = "10.78.0.100/24";
const PROBE: &str = "10.78.0.100";

/// With the mesh, whatever the interval.
const KILLED_BAR: Duration = Duration::from_millis(20);

/// How the holder is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Killed,
    Terminated,
    CablePulled,
    ProxyLost,
}

impl Loss {
    const ALL: [Self; 4] = [Self::Killed, Self::Terminated, Self::CablePulled, Self::ProxyLost];

    fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "kill -9",
            Self::Terminated => "SIGTERM",
            Self::CablePulled => "link down",
            Self::ProxyLost => "tracked proxy lost",
        }
    }
}

/// Who holds the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Timers alone.
    Ours,
    OursMesh,
    Keepalived,
}

impl Holder {
    const ALL: [Self; 3] = [Self::Keepalived, Self::Ours, Self::OursMesh];
}

/// A host's programs: what holds the address, and what answers at it where that is another.
struct Host {
    ours: Option<Program>,
    keepalived: Option<Running>,
    server: Option<Program>,
}

struct Group {
    lan: Lan,
    holder: Holder,
    interval_ms: u64,
    separate: bool,
    hosts: Vec<Host>,
}

impl Group {
    /// `separate`: the proxy is another process, and is tracked.
    fn new(holder: Holder, interval_ms: u64, separate: bool) -> Self {
        let size = if holder == Holder::Keepalived { 2 } else { 3 };
        let lan = Lan::new(size);
        for at in 0..size {
            start_backend(&lan.host(at), &format!("host {at}"));
        }
        let mut group = Self { lan, holder, interval_ms, separate, hosts: Vec::new() };
        for at in 0..size {
            let host = group.start(at);
            group.hosts.push(host);
            if at == 0 {
                wait_for("the first holds", PATIENCE, || group.lan.has(0, PROBE));
            }
        }
        group.settle(0);
        group
    }

    /// keepalived with priorities of 150 and 100, as it was measured before; ours as it is shipped.
    fn start(&self, at: usize) -> Host {
        let interval = format!("{}ms", self.interval_ms);
        if self.holder == Holder::Keepalived {
            let server = start_server(&self.lan, at);
            // Its script runs once a second at best.
            let before = "vrrp_script proxy {\n \
                          script \"/usr/bin/curl -sf -m 1 -o /dev/null http://127.0.0.1:8080/\"\n \
                          interval 1\n fall 1\n rise 1\n}\n";
            let interval = format!("{}", self.interval_ms as f64 / 1000.0);
            let priority = 150 - 50 * at as u8;
            let (before, more) = if self.separate {
                (before, "nopreempt\n track_script {\n proxy\n }")
            } else {
                ("", "nopreempt")
            };
            wait_for("the server answers", PATIENCE, || server.admin("/readyz").is_some());
            let keepalived =
                Keepalived { lan: &self.lan, at, vips: &[VIP], priority, interval: &interval, more, before };
            return Host { ours: None, keepalived: Some(keepalived.start()), server: Some(server) };
        }
        let (mesh, priority) = (self.holder == Holder::OursMesh, 250 - 10 * at as u8);
        if !self.separate {
            let ours =
                Ours { lan: &self.lan, at, vip: VIP, priority, interval: &interval, mesh, more: &[] }.start();
            return Host { ours: Some(ours), keepalived: None, server: None };
        }
        let server = start_server(&self.lan, at);
        let priority = priority.to_string();
        let ways = ["--advert-interval", &interval, "--vrrp-handover", "socket", "--drain", "1s"];
        let more = [&HOLDER_SHOWN[..], &["--track", READY], &ways].concat();
        let key = [("SKEP_CLUSTER_KEY", skep_kit::hosts::program::KEY)];
        let env = if mesh { &key[..] } else { &[] };
        let ours = start_holder(&self.lan, at, VIP, &priority, &more, env);
        Host { ours: Some(ours), keepalived: None, server: Some(server) }
    }

    fn is_waiting(&self, at: usize) -> bool {
        let host = &self.hosts[at];
        match (&host.ours, &host.keepalived) {
            (Some(ours), _) => {
                let port = if self.separate { 9402 } else { 9401 };
                ours.admin_at(port, "/vrrp").is_some_and(|it| it.contains("\"backup\""))
            }
            (_, Some(keepalived)) => {
                let log = keepalived.program.log();
                let last = log.lines().rfind(|line| line.contains(" STATE")).unwrap_or_default();
                last.contains("Entering BACKUP STATE")
            }
            _ => false,
        }
    }

    /// The one holds, all others wait, and where there is a mesh, one of them is named.
    fn settle(&self, holder: usize) {
        let others = || (0..self.hosts.len()).filter(move |at| *at != holder);
        wait_for("the others wait", PATIENCE, || {
            self.lan.has(holder, PROBE) && others().all(|at| self.is_waiting(at))
        });
        if self.holder == Holder::OursMesh {
            let named = |at: usize| self.status(at).contains("\"successor\":true");
            let begun = std::time::Instant::now();
            wait_for("one is named", PATIENCE, || {
                let is_so = others().any(named);
                if !is_so && begun.elapsed() > PATIENCE / 2 {
                    say(&format!(
                        "{:#?}",
                        (0..self.hosts.len()).map(|at| self.status(at)).collect::<Vec<_>>()
                    ));
                }
                is_so
            });
        }
        // The announcements after a take-over are over for the most part.
        pause(Duration::from_millis(300));
    }

    /// `/vrrp`; empty where nothing of ours runs.
    fn status(&self, at: usize) -> String {
        let port = if self.separate { 9402 } else { 9401 };
        self.hosts[at].ours.as_ref().and_then(|it| it.admin_at(port, "/vrrp")).unwrap_or_default()
    }

    /// One trial; then everything is as it was, but for who holds the address.
    fn trial(&mut self, loss: Loss) -> (Duration, usize) {
        let holder =
            (0..self.hosts.len()).find(|at| self.lan.has(*at, PROBE)).expect("someone holds the address");
        let client = Client::start(&self.lan, PROBE, Duration::from_millis(1));
        pause(Duration::from_millis(250));
        let host = &mut self.hosts[holder];
        match loss {
            Loss::Killed => {
                if let Some(keepalived) = &mut host.keepalived {
                    keepalived.kill();
                }
                host.ours.iter_mut().chain(&mut host.server).for_each(Program::kill);
            }
            Loss::Terminated => {
                if let Some(keepalived) = &host.keepalived {
                    keepalived.program.signal(rustix::process::Signal::TERM);
                } else if let Some(ours) = &host.ours {
                    ours.signal(rustix::process::Signal::TERM);
                }
            }
            Loss::CablePulled => self.lan.set_cable(holder, false),
            Loss::ProxyLost => host.server.iter_mut().for_each(Program::kill),
        }
        let lan = &self.lan;
        let others: Vec<usize> = (0..self.hosts.len()).filter(|at| *at != holder).collect();
        wait_for("another holds", PATIENCE, || others.iter().any(|at| lan.has(*at, PROBE)));
        pause(Duration::from_millis(500));
        let attempts = client.finish();
        let new = others.into_iter().find(|at| self.lan.has(*at, PROBE)).expect("another holds the address");
        // Back with it, from the start.
        if loss == Loss::CablePulled {
            self.lan.set_cable(holder, true);
        }
        if let (Loss::Terminated, Some(ours)) = (loss, &mut self.hosts[holder].ours) {
            ours.wait();
        }
        if loss != Loss::CablePulled {
            self.hosts[holder] = Host { ours: None, keepalived: None, server: None };
            // keepalived leaves its address behind when it is killed.
            let _ = std::process::Command::new("ip")
                .args(["-n", &self.lan.host(holder), "addr", "del", VIP, "dev", "eth0"])
                .stderr(std::process::Stdio::null())
                .status();
            self.hosts[holder] = self.start(holder);
        }
        self.settle(new);
        (outage(&attempts), failures(&attempts))
    }
}

#[test]
fn outages_beside_those_of_keepalived() {
    let programs: &[&str] = if long() { &["keepalived", "curl"] } else { &[] };
    if !possible("the table of outages", programs) {
        return;
    }
    let _machine = machine_alone();
    let chosen =
        |name: &str, all: &str| std::env::var(name).map_or(true, |it| it.split(',').any(|it| it == all));
    let intervals: &[u64] = if long() { &[1000, 100, 10] } else { &[100] };
    let trials =
        std::env::var("SKEP_BENCH_TRIALS").ok().and_then(|it| it.parse().ok()).unwrap_or(count(1, 20));
    say(
        "measure: | outage, median/max ms (n, failed at most) | interval | keepalived | skep, no mesh | skep, mesh |",
    );
    let mut missed = Vec::new();
    for interval in intervals {
        if !chosen("SKEP_BENCH_INTERVALS", &interval.to_string()) {
            continue;
        }
        for loss in Loss::ALL {
            if !chosen("SKEP_BENCH_LOSSES", loss.as_str()) {
                continue;
            }
            let mut row = format!("measure: | {} | {interval} ms |", loss.as_str());
            let mut figures = Vec::new();
            for holder in Holder::ALL {
                if !long() && (holder == Holder::Keepalived || loss == Loss::CablePulled) {
                    row += " - |";
                    continue;
                }
                let mut group = Group::new(holder, *interval, loss == Loss::ProxyLost);
                let all: Vec<(Duration, usize)> = (0..trials).map(|_| group.trial(loss)).collect();
                let outages: Vec<Duration> = all.iter().map(|(outage, _)| *outage).collect();
                let failed = all.iter().map(|(_, failed)| *failed).max().unwrap_or(0);
                let (middle, most) = (median(&outages), outages.iter().max().copied().unwrap_or_default());
                let ms = |value: Duration| value.as_secs_f64() * 1e3;
                row += &format!(" {:.0}/{:.0} ({}, {failed}) |", ms(middle), ms(most), outages.len());
                figures.push((holder, middle, most, failed));
            }
            say(&row);
            if !long() {
                continue;
            }
            for (holder, _, most, failed) in figures {
                let holds = match loss {
                    Loss::Killed => most < KILLED_BAR,
                    Loss::Terminated => failed == 0,
                    _ => true,
                };
                if holder == Holder::OursMesh && !holds {
                    missed.push(row.clone());
                }
            }
        }
    }
    assert!(missed.is_empty(), "below the bar: {missed:#?}");
}
