//! An operator has a worker claim nothing, and go on.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::running::Running;
use crate::server::{Asked, Bad, Server};

/// The beats that say whether the worker is quiet: where they stand in what came.
fn beats(seen: &[Asked], quiet: bool) -> Vec<usize> {
    let beats = seen.iter().enumerate().filter(|(_, asked)| asked.path.ends_with("/beat"));
    beats.filter(|(_, asked)| asked.body["quiet"] == quiet).map(|(at, _)| at).collect()
}

#[test]
fn a_worker_that_is_told_to_be_quiet_claims_nothing_until_it_is_told_to_go_on() {
    let server = Server::start();
    let say = Arc::new(Mutex::new("quiet"));
    let said = say.clone();
    server.script(move |asked, _| {
        let say = *said.lock().expect("no panic");
        asked.path.ends_with("/beat").then(|| Bad::Json(json!({"lost": [], "say": say})))
    });
    let _running = Running::start(&["--url", &server.url(), "--exec", "cat"]);
    // What was claimed before is over by the second.
    server.wait("it says that it is quiet", |seen| (beats(seen, true).len() >= 2).then_some(()));
    let id = server.put(7, 1.into());
    server.wait("it is quiet on", |seen| {
        let beats = beats(seen, true);
        let since = &seen[*beats.get(1)?..];
        assert!(since.iter().all(|asked| asked.path != "/claim"), "{since:#?}");
        (beats.len() >= 3).then_some(())
    });
    *say.lock().expect("no panic") = "run";
    server.wait_for(&format!("/tasks/{id}/complete"));
    server.wait("it says that it goes on", |seen| {
        let (quiet, runs) = (beats(seen, true), beats(seen, false));
        (runs.last() > quiet.last()).then_some(())
    });
}
