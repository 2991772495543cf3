//! Runs against small servers on loopback: what is sent, what counts, what is an error.

mod fake_etcd;
mod fake_skep;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use clap::Parser as _;
use fake_skep::Fault;
use skep_load::args::{Args, Options, Verb};
use skep_load::report::Report;
use skep_load::run::run_blocking;

fn options(mode: &str, targets: &[SocketAddr], more: &[&str]) -> Options {
    let targets = targets.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let mut line = vec!["skep-load", "run", mode, "--targets", &targets, "--connections", "4"];
    line.extend(["--seconds", "0.3", "--warmup", "0.1", "--preload", "50"]);
    line.extend(more);
    match Args::try_parse_from(line).unwrap().verb {
        Verb::Run(options) => options,
        verb => panic!("{verb:?}"),
    }
}

fn run(mode: &str, targets: &[SocketAddr], more: &[&str]) -> Report {
    run_blocking(options(mode, targets, more)).unwrap()
}

#[track_caller]
fn assert_clean(report: &Report) {
    assert!(report.requests > 0 && report.errors.is_empty(), "{report}");
    assert!(report.p50_ms > 0.0 && report.p50_ms <= report.p99_ms && report.p99_ms <= report.max_ms);
}

#[test]
fn puts_are_unique_messages_of_the_size_asked_for_spread_over_all_targets() {
    let servers = [fake_skep::start(Fault::None), fake_skep::start(Fault::None)];
    let report = run("skep-put", &servers.each_ref().map(|server| server.address), &[]);
    assert_clean(&report);
    let mut unique = HashSet::new();
    for server in servers {
        let seen = server.seen.lock().unwrap();
        assert_eq!(seen.connections, 2);
        assert!(seen.bodies.iter().all(|body| body.len() == 100 && unique.insert(body.clone())));
        assert_eq!(seen.content_types, HashSet::from(["application/json".to_owned()]));
    }
    assert!(unique.len() as u64 >= report.requests);
}

#[test]
fn a_raw_put_sends_the_bytes_themselves() {
    let server = fake_skep::start(Fault::None);
    assert_clean(&run("skep-put", &[server.address], &["--content-type", "raw", "--bytes", "64"]));
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.content_types, HashSet::from(["application/octet-stream".to_owned()]));
    assert!(seen.bodies.iter().all(|body| body.len() == 64));
}

#[test]
fn reads_find_what_was_put_before() {
    let server = fake_skep::start(Fault::None);
    for mode in ["skep-get-present", "skep-read"] {
        assert_clean(&run(mode, &[server.address], &[]));
    }
}

#[test]
fn an_absent_digest_is_answered_well_by_404() {
    assert_clean(&run("skep-get-absent", &[fake_skep::start(Fault::None).address], &[]));
}

#[test]
fn a_message_that_is_missing_is_an_error_by_its_status() {
    // Preloaded at the first server alone, read at the second.
    let seed = ["--seed", "1", "--preload", "1"];
    let servers = [fake_skep::start(Fault::None), fake_skep::start(Fault::None)];
    let report = run("skep-get-present", &servers.map(|server| server.address), &seed);
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["status-404"], "{report}");
}

#[test]
fn a_status_that_is_no_success_is_an_error_and_keeps_the_connection() {
    let server = fake_skep::start(Fault::Unavailable(10));
    let report = run("skep-put", &[server.address], &[]);
    assert!(report.requests > 0);
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["status-503"], "{report}");
    let seen = server.seen.lock().unwrap();
    assert_eq!(report.errors["status-503"], seen.requests / 10);
    assert_eq!(seen.connections, 4);
}

#[test]
fn a_connection_that_is_closed_unanswered_is_an_error_and_is_opened_again() {
    let server = fake_skep::start(Fault::Hangup(10));
    let report = run("skep-put", &[server.address], &[]);
    let lost: u64 = report.errors.values().sum();
    let seen = server.seen.lock().unwrap();
    assert_eq!(lost, seen.requests / 10, "{report}");
    assert!(report.requests > 0 && seen.connections > 4);
}

#[test]
fn a_server_that_closes_after_each_answer_makes_no_errors() {
    let server = fake_skep::start(Fault::OneShot);
    let report = run("skep-put", &[server.address], &[]);
    assert_clean(&report);
    assert!(server.seen.lock().unwrap().connections >= report.requests);
}

#[test]
fn a_request_without_an_answer_is_a_timeout() {
    let report = run("skep-put", &[fake_skep::start(Fault::Silent).address], &["--timeout", "0.2"]);
    assert_eq!(report.requests, 0);
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["timeout"], "{report}");
}

#[test]
fn a_target_that_is_not_there_is_said_before_the_run() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run_blocking(options("skep-put", &[gone], &[])).unwrap_err();
    assert!(format!("{error:#}").contains(&gone.to_string()), "{error:#}");
}

#[test]
fn an_open_loop_sends_exactly_its_schedule() {
    let server = fake_skep::start(Fault::None);
    let report = run("skep-put", &[server.address], &["--rate", "500"]);
    assert_clean(&report);
    assert_eq!(server.seen.lock().unwrap().requests, 200, "0.4 s at 500 a second");
}

#[test]
fn an_open_loop_counts_the_time_that_a_request_waited_for_a_connection() {
    // A hundred a second are asked of a server that takes 20 ms for each: half of them wait, and
    // the last ones for as long as the run lasts.
    let server = fake_skep::start(Fault::Slow(Duration::from_millis(20)));
    let report = run("skep-put", &[server.address], &["--rate", "100", "--connections", "1"]);
    assert!(report.max_ms > 150.0, "{report}");
    assert_eq!(server.seen.lock().unwrap().requests, 40);
}

#[test]
fn an_open_loop_reports_what_it_could_not_send() {
    let server = fake_skep::start(Fault::Slow(Duration::from_millis(150)));
    let more = ["--rate", "100", "--connections", "1", "--timeout", "0.2"];
    let report = run("skep-put", &[server.address], &more);
    let sent = server.seen.lock().unwrap().requests;
    assert_eq!(report.errors.get("unsent"), Some(&(40 - sent)), "{report}");
}

#[test]
fn etcd_keys_are_32_bytes_and_values_as_long_as_messages() {
    let server = fake_etcd::start(None);
    let report = run("etcd-put", &[server.address], &[]);
    assert_clean(&report);
    let keys = server.keys.lock().unwrap();
    assert!(keys.len() as u64 >= report.requests);
    assert!(keys.iter().all(|(key, value)| key.len() == 32 && value.len() == 100));
}

#[test]
fn etcd_ranges_find_what_was_put_before() {
    let server = fake_etcd::start(None);
    assert_clean(&run("etcd-range", &[server.address], &[]));
    assert_eq!(server.keys.lock().unwrap().len(), 50);
}

#[test]
fn a_key_that_etcd_does_not_find_is_an_error() {
    let servers = [fake_etcd::start(None), fake_etcd::start(None)];
    let report = run("etcd-range", &servers.map(|server| server.address), &["--preload", "1"]);
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["wrong-answer"], "{report}");
}

#[test]
fn a_grpc_status_other_than_0_is_an_error() {
    let report = run("etcd-put", &[fake_etcd::start(Some(10)).address], &[]);
    assert!(report.requests > 0);
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["grpc-14"], "{report}");
}

#[test]
fn a_report_survives_json() {
    let report = run("skep-put", &[fake_skep::start(Fault::Unavailable(3)).address], &[]);
    let text = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back.to_string(), report.to_string());
}
