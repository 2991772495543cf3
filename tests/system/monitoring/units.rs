//! systemd's word on the units.

use std::path::Path;
use std::process::Command;

use skep_kit::monitoring::shipped;
use skep_kit::programs::{self, balancer_path, installed};

const UNITS: [&str; 4] =
    ["skep-node.service", "skep-balancer.service", "skep-vrrp.service", "skep-worker.service"];
/// Verified beside them.
const SOCKETS: &str = "skep-balancer.socket";
/// Of `systemd-analyze security`, in tenths: below is OK.
const EXPOSURE_MAX: &str = "30";

/// The units, with the programs where they were built.
fn lay_out(folder: &Path) -> Vec<String> {
    let built = balancer_path().parent().expect("a program lies in a folder");
    let lay_out = |name: &&str| {
        let text = shipped::text(&format!("systemd/{name}"));
        assert!(text.contains("ExecStart=/usr/local/bin/") || name.ends_with(".socket"), "{name}");
        let text = text.replace("/usr/local/bin/", &format!("{}/", built.display()));
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a unit can be written");
        path.to_str().expect("a plain path").to_owned()
    };
    UNITS.iter().chain([&SOCKETS]).map(lay_out).collect()
}

#[test]
fn systemd_takes_the_units_and_finds_little_exposed() {
    if !installed("systemd's units", &["systemd-analyze"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let units = lay_out(folder.path());
    let run = |args: &[&str], units: &[String]| {
        let output = Command::new("systemd-analyze").args(args).args(units).output().expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let (ok, said) = run(&["verify", "--man=no"], &units);
    assert!(ok && said.is_empty(), "systemd-analyze verify: {said}");
    let security = ["security", "--offline=yes", "--no-pager", &format!("--threshold={EXPOSURE_MAX}")];
    let (ok, said) = run(&security, &units[..UNITS.len()]);
    assert!(ok, "systemd-analyze security: {said}");
}

#[test]
fn each_unit_has_a_user_that_systemd_makes() {
    if !installed("systemd's users", &["systemd-sysusers"]) {
        return;
    }
    let root = tempfile::tempdir().expect("a folder can be made");
    std::fs::create_dir(root.path().join("etc")).expect("a folder can be made");
    let file = shipped::path("systemd/skep.sysusers.conf");
    let mut command = Command::new("systemd-sysusers");
    let output = command.arg(format!("--root={}", root.path().display())).arg(&file).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let users = std::fs::read_to_string(root.path().join("etc/passwd")).expect("users were made");
    for name in UNITS {
        let unit = shipped::text(&format!("systemd/{name}"));
        let dynamic = unit.lines().any(|line| line == "DynamicUser=yes");
        let user = unit.lines().find_map(|line| line.strip_prefix("User="));
        let made = user.is_some_and(|user| users.lines().any(|line| line.starts_with(&format!("{user}:"))));
        assert!(dynamic || made, "{name}: {user:?} is not in\n{users}");
    }
}

#[test]
fn a_stop_is_given_more_time_than_the_programs_take() {
    let seconds = |name: &str| {
        let text = shipped::text(&format!("systemd/{name}"));
        let line =
            text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("a time to stop");
        line.trim_end_matches('s').parse::<u64>().expect("seconds")
    };
    // What `--drain` is by default, and the node's way out of the voters.
    let drain = |mut program: Command| {
        let help = program.arg("--help").output().expect("it runs");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let drain = help.split("--drain").nth(1).and_then(|text| text.split("[default: ").nth(1));
        let drain = drain.and_then(|text| text.split("s]").next()).and_then(|text| text.parse::<u64>().ok());
        drain.expect("--drain has a default")
    };
    for name in ["skep-balancer.service", "skep-vrrp.service"] {
        assert!(seconds(name) > drain(programs::balancer()) + 5, "{name}");
    }
    // It tells its programs to end, and says what it gives back.
    assert!(seconds("skep-worker.service") > drain(programs::worker()) + 10 + 5);
    assert!(seconds("skep-node.service") > 10 + 5);
}

#[test]
fn the_drop_in_gives_the_edge_key_in_the_place_of_the_cluster_key() {
    let lines = |name: &str| -> Vec<String> {
        let text = shipped::text(&format!("systemd/{name}"));
        text.lines().filter(|line| line.starts_with("LoadCredential=")).map(str::to_owned).collect()
    };
    for unit in ["skep-node.service", "skep-balancer.service", "skep-vrrp.service"] {
        assert_eq!(lines(unit), ["LoadCredential=cluster-key:/etc/skep/cluster.key"], "{unit}");
    }
    // The empty one takes the unit's away.
    assert_eq!(lines("edge-key.conf"), ["LoadCredential=", "LoadCredential=cluster-key:/etc/skep/edge.key"]);
}
