//! What a large document costs: with ten times as many objects some ten times as much, whatever they have in common.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Document;
use crate::fault::FAULTS_MAX;
use crate::table::Table;

/// What it takes, at best.
fn least(does: impl Fn()) -> Duration {
    let runs = (0..3).map(|_| {
        let begun = Instant::now();
        does();
        begun.elapsed()
    });
    runs.min().unwrap_or_default()
}

/// What it takes to read and to compile it; it has so many faults.
fn cost_with(document: &str, faults: usize) -> Duration {
    least(|| {
        let found = Document::read(document).and_then(Table::compile).err().unwrap_or_default();
        assert_eq!(found.len(), faults, "{:?}", found.first());
    })
}

fn cost(document: &str) -> Duration {
    cost_with(document, 0)
}

/// Objects by their numbers, as JSON.
fn objects(count: usize, object: impl Fn(usize) -> String) -> String {
    let mut all = String::new();
    for at in 0..count {
        let comma = if at > 0 { "," } else { "" };
        write!(all, "{comma}\"n{at}\":{}", object(at)).unwrap();
    }
    all
}

#[test]
fn ten_times_as_many_objects_cost_some_ten_times_as_much() {
    let document = |count| {
        let service =
            |_| r#"{"urls":["http://one.test:80"],"addresses":{"deny":["192.0.2.0/24"]}}"#.to_owned();
        let route = |at| format!(r#"{{"match":{{"path":"/n{at}","raw":true}},"service":"n{at}"}}"#);
        let consumer = |at| format!(r#"{{"groups":["g"],"keys":["the-key-of-number-{at}"]}}"#);
        format!(
            r#"{{"defaults":{{"https_only":true}},"services":{{{}}},"routes":{{{}}},"consumers":{{{}}}}}"#,
            objects(count, service),
            objects(count, route),
            objects(count, consumer)
        )
    };
    let (small, large) = (cost(&document(1_000)), cost(&document(10_000)));
    // Between what is linear, and a square of it.
    assert!(large < small * 35, "1,000: {small:?}, 10,000: {large:?}");
}

#[test]
fn a_raw_route_costs_what_others_do_however_many_servers_it_leads_to() {
    let document = |is_raw: bool| {
        let service = |of| {
            let urls: Vec<String> = (0..250).map(|at| format!("\"http://s{at}.of{of}.test:80\"")).collect();
            format!(r#"{{"urls":[{}]}}"#, urls.join(","))
        };
        let route = |at| {
            format!(
                r#"{{"match":{{"path":"/n{at}","raw":{is_raw}}},"services":{{"n0":1,"n1":1,"n2":1,"n3":1}}}}"#
            )
        };
        format!(r#"{{"services":{{{}}},"routes":{{{}}}}}"#, objects(4, service), objects(4_000, route))
    };
    let (plain, raw) = (cost(&document(false)), cost(&document(true)));
    assert!(raw < plain * 3, "plain: {plain:?}, raw: {raw:?}");
}

#[test]
fn fields_of_a_route_are_looked_at_once_whatever_hosts_and_methods_it_is_for() {
    let fields: Vec<String> = (0..16).map(|at| format!("\"x-{at}\":\"{}\"", "v".repeat(4000))).collect();
    let document = |hosts: usize, methods: &str| {
        let hosts: Vec<String> = (0..hosts).map(|at| format!("\"h{at}.test\"")).collect();
        let (hosts, fields) = (hosts.join(","), fields.join(","));
        let route = |at| {
            format!(
                r#"{{"match":{{"path":"/n{at}","hosts":[{hosts}],"methods":[{methods}],"headers":{{{fields}}}}},"service":"skep"}}"#
            )
        };
        format!(r#"{{"routes":{{{}}}}}"#, objects(4, route))
    };
    let few = cost(&document(1, "\"GET\""));
    let many = cost(&document(64, r#""GET","HEAD","POST","PUT","PATCH","DELETE","OPTIONS""#));
    assert!(many < few * 10, "one host and method: {few:?}, all: {many:?}");
}

#[test]
fn no_more_faults_are_looked_for_than_can_be_told() {
    let document = |routes: usize, networks: usize| {
        let service = |at| {
            // The last one differs.
            let networks: Vec<String> =
                (0..networks).map(|n| format!("\"10.{}.{}.0/24\"", n / 256 + at / 3 * 9, n % 256)).collect();
            let networks = networks.join(",");
            let addresses = format!(r#","addresses":{{"allow":[{networks}],"deny":[{networks}]}}"#);
            let addresses = if networks.is_empty() { "" } else { &addresses };
            format!(r#"{{"urls":["http://a{at}.test"]{addresses}}}"#)
        };
        let route =
            |at| format!(r#"{{"match":{{"path":"/n{at}"}},"services":{{"n0":1,"n1":1,"n2":1,"n3":1}}}}"#);
        format!(r#"{{"services":{{{}}},"routes":{{{}}}}}"#, objects(4, service), objects(routes, route))
    };
    let without = document(9_600, 0);
    let read = least(|| assert!(Document::read(&without).is_ok()));
    let with_faults = cost_with(&document(9_600, 1000), FAULTS_MAX);
    // A good one is read to its end; what is looked for in all of them costs more than that.
    assert!(with_faults < read * 3 / 2, "with faults: {with_faults:?}, without: {read:?}");
}
