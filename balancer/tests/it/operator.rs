//! What operators do to backends at the admin address, and what of it outlives what.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::*;
use crate::process::{Process, ask};

const ANY: &str = "127.0.0.1:0";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers, and counts the requests of clients.
struct Counted {
    backend: Scripted,
}

impl Counted {
    fn start() -> Self {
        let backend = Scripted::start(|served| {
            while served.head().is_some() {
                served.send(OK);
            }
        });
        Self { backend }
    }

    fn name(&self) -> String {
        self.backend.address.to_string()
    }

    fn count(&self) -> usize {
        self.backend.heads().len()
    }
}

fn start(backends: &[&Counted], more: &[&str]) -> Process {
    let list: Vec<String> = backends.iter().map(|it| it.name()).collect();
    let args = ["--http", ANY, "--admin", ANY, "--backends", &list.join(",")];
    let process = Process::start(&[&args, more].concat());
    process.wait_ready();
    wait("all are up", || ask(process.admin, "/backends").matches("\"up\"").count() == backends.len());
    process
}

/// What a verb that succeeds says as JSON.
fn said(process: &Process, args: &[&str]) -> Value {
    let output = process.verb(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn json(admin: SocketAddr, path: &str) -> Value {
    let answer = ask(admin, path);
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn listed(process: &Process, backend: &Counted) -> Value {
    let list = json(process.admin, "/backends");
    let found = list.as_array().unwrap().iter().find(|it| it["address"] == backend.name().as_str());
    found.unwrap().clone()
}

fn metric(process: &Process, name: &str, backend: &Counted) -> String {
    let text = ask(process.admin, "/metrics");
    let start = format!("skep_balancer_{name}{{backend=\"{}\"}} ", backend.name());
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
}

/// How many of so many requests each got.
fn spread<const N: usize>(process: &Process, backends: [&Counted; N], requests: usize) -> [usize; N] {
    let before = backends.map(Counted::count);
    let mut client = Client::connect(process.http);
    for _ in 0..requests {
        client.send(get("/"));
        assert!(client.answer().0.starts_with("HTTP/1.1 200"));
    }
    let mut at = 0;
    backends.map(|it| {
        at += 1;
        it.count() - before[at - 1]
    })
}

#[test]
fn a_drained_backend_finishes_what_it_has_and_gets_nothing_new_until_it_is_taken_back() {
    let (open, gate) = mpsc::channel::<()>();
    let (gate, slow_ones) = (Mutex::new(gate), AtomicUsize::new(0));
    let slow = Counted {
        backend: Scripted::start(move |served| {
            while let Some(head) = served.head() {
                if head.starts_with("GET /slow") && slow_ones.fetch_add(1, Ordering::SeqCst) == 0 {
                    let _ = gate.lock().unwrap().recv();
                }
                served.send(OK);
            }
        }),
    };
    let other = Counted::start();
    let process = start(&[&slow], &[]);
    let mut client = Client::connect(process.http);
    client.send(get("/slow"));
    wait("it has the request", || slow.count() > 0);

    let order = said(&process, &["drain", &slow.name()]);
    assert_eq!((&order["backend"], &order["drained"]), (&slow.name().into(), &true.into()));
    wait("it is drained", || listed(&process, &slow)["drained"] == true);
    assert!(ask(process.http, "/").starts_with("HTTP/1.1 503"), "nothing new, though nobody else is there");
    assert!(ask(process.http, "/-/ready").starts_with("HTTP/1.1 503"));
    assert_eq!(metric(&process, "backend_drained", &slow), "1.0");
    let table = String::from_utf8(process.verb(&["backends"]).stdout).unwrap();
    assert!(table.contains(" drained "), "{table}");
    // Longer than any look at who is gone.
    pause(Duration::from_millis(500));
    open.send(()).unwrap();
    assert!(client.answer().0.starts_with("HTTP/1.1 200"), "it finishes what it has");

    said(&process, &["undrain", &slow.name()]);
    wait("it is taken back", || ask(process.http, "/").starts_with("HTTP/1.1 200"));
    assert_eq!(metric(&process, "backend_drained", &slow), "0.0");
    drop(other);
}

#[test]
fn what_an_operator_set_outlives_sighup_and_a_list_that_had_the_backend_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("skep.toml");
    let (a, b) = (Counted::start(), Counted::start());
    let list = |backends: &[&Counted]| {
        let names: Vec<String> = backends.iter().map(|it| it.name()).collect();
        std::fs::write(&config, format!("backends = \"{}\"\n", names.join(","))).unwrap();
    };
    list(&[&a, &b]);
    let path = config.to_str().unwrap();
    let process = Process::start(&["--http", ANY, "--admin", ANY, "--config", path]);
    wait("all are up", || ask(process.admin, "/backends").matches("\"up\"").count() == 2);
    said(&process, &["drain", &a.name()]);
    said(&process, &["weigh", &a.name(), "3"]);
    process.logged("by an operator: weighed");
    process.signal("HUP");
    process.logged("limits and times read again");
    list(&[&b]);
    process.signal("HUP");
    process.logged("the list of backends read again");
    wait("it is gone", || !ask(process.admin, "/backends").contains(&a.name()));
    list(&[&a, &b]);
    process.signal("HUP");
    wait("it is back", || ask(process.admin, "/backends").matches("\"up\"").count() == 2);
    let back = listed(&process, &a);
    assert_eq!(
        (&back["drained"], &back["weight"], &back["serving"]),
        (&true.into(), &3.0.into(), &false.into())
    );
    assert_eq!(spread(&process, [&a, &b], 20), [0, 20]);
    let all = json(process.admin, "/operator");
    assert_eq!((&all["backends"][0]["backend"], &all["backends"][1]), (&a.name().into(), &Value::Null));
    said(&process, &["reset", &a.name()]);
    assert_eq!(json(process.admin, "/operator")["backends"], Value::Array(vec![]));
}

#[test]
fn a_weight_is_seen_in_what_a_backend_gets() {
    let backends = [Counted::start(), Counted::start()];
    let process = start(&[&backends[0], &backends[1]], &[]);
    let [a, b] = &backends;
    let order = said(&process, &["weigh", &a.name(), "0.1"]);
    assert_eq!(order["weight"], 0.1);
    wait("it weighs less", || metric(&process, "backend_weight", a) == "0.1");
    // Slow starts are over by then.
    wait("both have their share", || [a, b].iter().all(|it| listed(&process, it)["share"] == 1.0));
    let counts = spread(&process, [a, b], 1000);
    assert!((40..160).contains(&counts[0]), "a part of 1 in 11: {counts:?}");
}

#[test]
fn a_weight_of_a_services_url_is_seen_in_what_it_gets_and_an_operators_is_on_top_of_it() {
    let (a, b) = (Counted::start(), Counted::start());
    let dir = tempfile::tempdir().unwrap();
    let document = dir.path().join("routes.toml");
    let text = format!(
        "[services.web]\nurls = [{{url = \"http://{}\", weight = 0.1}}, \"http://{}\"]\n[routes.all]\nservice = \"web\"\n",
        a.name(),
        b.name()
    );
    std::fs::write(&document, text).unwrap();
    let process = Process::start(&["--http", ANY, "--admin", ANY, "--gateway", document.to_str().unwrap()]);
    process.wait_ready();
    wait("both are up", || ask(process.admin, "/backends").matches("\"up\"").count() == 2);
    assert_eq!(listed(&process, &a)["weight"], 0.1);
    wait("both have their share", || [&a, &b].iter().all(|it| listed(&process, it)["share"] == 1.0));
    let counts = spread(&process, [&a, &b], 1000);
    assert!((40..160).contains(&counts[0]), "a part of 1 in 11: {counts:?}");
    said(&process, &["weigh", &a.name(), "10"]);
    wait("it weighs as much as the other", || listed(&process, &a)["weight"] == 1.0);
    // One answer that the machine delayed moves what weighs the same to the other, until that has faded.
    wait("each has half of them", || (50..150).contains(&spread(&process, [&a, &b], 200)[0]));
}

#[test]
fn an_operators_ejection_ends_at_its_time_and_traffic_neither_ends_it_nor_is_asked() {
    let (a, b) = (Counted::start(), Counted::start());
    let process = start(&[&a, &b], &[]);
    // More than half, which traffic may not eject.
    for backend in [&a, &b] {
        said(&process, &["eject", &backend.name()]);
    }
    wait("nobody is left", || ask(process.http, "/").starts_with("HTTP/1.1 503"));
    said(&process, &["reset", &b.name()]);
    wait("one is back", || ask(process.http, "/").starts_with("HTTP/1.1 200"));
    assert_eq!(spread(&process, [&a, &b], 50), [0, 50]);

    let begun = Instant::now();
    let order = said(&process, &["eject", &a.name(), "--for", "6s"]);
    assert!(order["ejected"] == true && order["ejected_for_s"].as_f64().unwrap() <= 6.0, "{order}");
    assert_eq!(metric(&process, "backend_ejected_by_operator", &a), "1.0");
    wait("its time is over", || listed(&process, &a)["ejected_by_operator"] == false);
    assert!(begun.elapsed() >= Duration::from_millis(5900), "{:?}", begun.elapsed());
    process.logged("the time of an operator's ejection is over");
    wait("it gets requests again", || spread(&process, [&a, &b], 20)[0] > 0);
}

#[test]
fn a_verb_that_makes_no_sense_is_refused_in_words() {
    let backend = Counted::start();
    let process = start(&[&backend], &[]);
    let name = backend.name();
    for (args, words) in [
        (&["drain", "127.0.0.1:1"][..], "no backend has this id or address"),
        (&["weigh", &name, "0"], "a weight is a number from 0.01 to 100"),
        (&["weigh", &name, "nan"], "f64"),
        (&["eject", &name, "--for", "31d"], "--for"),
        (&["log-level", "a=b=c"], "filter"),
        (&["log-level", ""], "a filter has"),
    ] {
        let output = process.verb(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words), "{args:?}: {text}");
    }
    assert_eq!(json(process.admin, "/operator")["backends"], Value::Array(vec![]));
}

#[test]
fn the_logs_level_is_changed_and_taken_back_and_the_retry_budget_is_shown() {
    let backend = Counted::start();
    let process = start(&[&backend], &[]);
    assert_eq!(said(&process, &["log-level"])["filter"], "info");
    // Nothing is below a warning then: what is a warning alone tells of it.
    said(&process, &["log-level", "skep_balancer=debug"]);
    assert!(ask(process.http, "/").starts_with("HTTP/1.1 200"));
    let level = said(&process, &["log-level"]);
    assert_eq!((&level["filter"], &level["configured"]), (&"skep_balancer=debug".into(), &"info".into()));
    process.signal("HUP");
    assert_eq!(said(&process, &["log-level"])["filter"], "skep_balancer=debug", "SIGHUP leaves it");
    assert_eq!(said(&process, &["log-level", "--reset"])["filter"], "info");

    wait("each core has told", || said(&process, &["retry-budget"])["tokens"] == 1000);
    let budget = said(&process, &["retry-budget"]);
    assert_eq!((&budget["tokens_max"], &budget["share"]), (&1000.into(), &0.2.into()));
    assert_eq!(budget["cores"].as_array().unwrap().len(), 2);
    assert!(ask(process.admin, "/metrics").contains("\nskep_balancer_retry_budget{} 1000.0"));
    let words = String::from_utf8(process.verb(&["retry-budget"]).stdout).unwrap();
    assert!(words.starts_with("1000 of 1000 retries may be made now"), "{words}");
}

#[test]
fn off_loopback_the_operators_token_is_asked_for_and_it_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "a-token-of-operators\n").unwrap();
    let path = file.to_str().unwrap();
    let backend = Counted::start();
    let (list, name) = (backend.name(), backend.name());
    let off = ["--http", ANY, "--admin", "0.0.0.0:0", "--backends", &list];
    let with = |more: &[&str]| {
        let mut process = Process::start(&[&off, more].concat());
        process.admin.set_ip([127, 0, 0, 1].into());
        process.wait_ready();
        process
    };
    let refused = |process: &Process, args: &[&str], words: &str| {
        let output = process.verb(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words), "{args:?}: {text}");
        assert!(!text.contains("a-token"), "{text}");
    };
    let process = with(&[]);
    refused(&process, &["drain", &name], "send the operators' token");
    refused(&process, &["drain", &name, "--operator-token-file", path], "no operators' token is set here");
    let process = with(&["--operator-token-file", path]);
    refused(&process, &["drain", &name], "send the operators' token");
    std::fs::write(dir.path().join("other"), "another-token-of-some\n").unwrap();
    let other = dir.path().join("other");
    refused(&process, &["drain", &name, "--operator-token-file", other.to_str().unwrap()], "is another one");
    assert_eq!(listed(&process, &backend)["drained"], false);
    let order = said(&process, &["drain", &name, "--operator-token-file", path]);
    assert_eq!(order["drained"], true);
}
