//! The gateway's document in its file: read at the start, at SIGHUP and when it is replaced; what is wrong changes
//! nothing.

use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use serde_json::Value;

use crate::harness::*;
use crate::process::{Process, ask};

pub struct Document {
    folder: tempfile::TempDir,
}

impl Document {
    pub fn new(text: &str) -> Self {
        let it = Self { folder: tempfile::tempdir().unwrap() };
        it.write(text);
        it
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// In the file that is there.
    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    /// In another that takes its name.
    pub fn replace(&self, text: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.path()).unwrap();
    }
}

/// Everything goes to that server.
pub fn all_to(service: &str, address: SocketAddr) -> String {
    format!("services.{service}.urls = [\"http://{address}\"]\nroutes.all.service = \"{service}\"\n")
}

pub fn without_nodes(document: &Path, more: &[&str]) -> Process {
    let (any, path) = ("127.0.0.1:0", document.to_str().unwrap());
    let process = Process::start(&[&["--http", any, "--admin", any, "--gateway", path], more].concat());
    process.wait_ready();
    process
}

fn metric(process: &Process, line: &str) -> bool {
    ask(process.admin, "/metrics").lines().any(|it| it == line)
}

#[test]
fn a_document_that_replaces_its_file_is_obeyed_and_no_request_or_websocket_is_lost() {
    let (one, two) = (Scripted::plain("one"), Scripted::plain("two"));
    let echo = Scripted::start(|served| {
        served.head().unwrap();
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        while let Ok(n @ 1..) = std::io::Read::read(&mut served.stream, &mut [0; 16]) {
            served.send(vec![b'x'; n]);
        }
    });
    let with_live = |text: String| {
        format!(
            "{text}services.live.urls = [\"http://{}\"]\nroutes.live = {{match.path = \"/live\", service = \"live\"}}\n",
            echo.address
        )
    };
    let document = Document::new(&with_live(all_to("one", one.address)));
    let process = without_nodes(&document.path(), &[]);
    let mut live = Client::connect(process.http);
    live.send("GET /live HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    live.until("\r\n\r\n");
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let newest = std::sync::Mutex::new(String::new());
    let load = || {
        let mut client = Client::connect(process.http);
        while !over.load(Relaxed) {
            client.send(get("/x"));
            let (head, body) = client.answer();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            *newest.lock().unwrap() = body;
            answered.fetch_add(1, Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let loads = [scope.spawn(load), scope.spawn(load)];
        for round in 0..20 {
            let (name, address) = if round % 2 == 0 { ("two", two.address) } else { ("one", one.address) };
            // A service that is new each time, and one that stays.
            let service = format!("s{round}");
            document.replace(&with_live(all_to(&service, address)));
            wait("the new routes are in force", || newest.lock().unwrap().starts_with(name));
            live.send("ping");
            live.until("xxxx");
            assert!(loads.iter().all(|load| !load.is_finished()), "a request failed");
        }
        over.store(true, Relaxed);
    });
    assert!(answered.load(Relaxed) > 100);
    // Its service, too.
    document.replace(&all_to("one", one.address));
    wait("its route is gone", || ask(process.http, "/live").ends_with("one /live"));
    live.send("ping");
    live.until("xxxx");
    live.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(live.rest(), "");
}

#[test]
fn a_file_that_is_written_over_is_read_at_sighup_and_a_bad_one_leaves_the_last() {
    let (one, two) = (Scripted::plain("one"), Scripted::plain("two"));
    let document = Document::new(&all_to("one", one.address));
    let process = without_nodes(&document.path(), &[]);
    assert!(ask(process.http, "/").ends_with("one /"));
    document.write("[routes.all]\nservcie = \"one\"\n");
    process.signal("HUP");
    process.logged("is not taken");
    assert!(ask(process.http, "/").ends_with("one /"));
    assert!(metric(&process, "skep_balancer_gateway_faults{} 2.0"));
    assert!(metric(&process, "skep_balancer_gateway_readings_total{result=\"refused\"} 1"));
    document.write(&all_to("two", two.address));
    process.signal("HUP");
    process.logged("is in force");
    assert!(ask(process.http, "/").ends_with("two /"));
    assert!(metric(&process, "skep_balancer_gateway_faults{} 0.0"));
    // One that is replaced by a bad one, and one that is taken away, change nothing.
    document.replace("{\"routes\": 1}");
    let fault: Value = serde_json::from_str(&process.logged("\"/routes\"")).unwrap();
    assert_eq!(fault["pointer"], "/routes");
    process.logged("is not taken");
    std::fs::remove_file(document.path()).unwrap();
    process.signal("HUP");
    process.logged("is not taken");
    assert!(ask(process.http, "/").ends_with("two /"));
}

#[test]
fn a_bad_document_ends_the_program_before_it_serves_and_the_verb_says_every_fault() {
    let document = Document::new(
        "services.web.urls = [\"ftp://a\"]\nroutes.r.service = \"wbe\"\n[routes.s]\nservice = \"skep\"\nmatch.paht = \"/\"\n",
    );
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep-balancer"));
        command.args(args).arg(document.path()).output().unwrap()
    };
    let serve = run(&["--http", "127.0.0.1:0", "--gateway"]);
    let said = String::from_utf8_lossy(&serve.stderr);
    assert_eq!(serve.status.code(), Some(2), "{said}");
    let check = run(&["gateway", "check"]);
    assert_eq!(check.status.code(), Some(1));
    let told = String::from_utf8_lossy(&check.stdout);
    for pointer in ["/services/web/urls/0: ", "/routes/r: ", "/routes/s/match/paht: "] {
        assert!(said.contains(pointer) && told.contains(pointer), "{pointer} in {said}{told}");
    }
    let json = run(&["gateway", "check", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["faults"].as_array().unwrap().len(), 3, "{json}");
    document.write("routes.r.service = \"skep\"\n");
    let check = run(&["gateway", "check"]);
    assert!(check.status.success() && check.stdout.starts_with(b"1 routes and 0 services"), "{check:?}");
    let explain = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep-balancer"));
        let explain = command.args(["gateway", "explain"]).arg(document.path()).arg(url).output().unwrap();
        (explain.status.code(), String::from_utf8_lossy(&explain.stdout).into_owned())
    };
    assert_eq!(explain("http://a/%78"), (Some(0), "route: r\noutcome: skep\nsent: /x\n".into()));
    assert_eq!(explain("http://a/../x").0, Some(1));
}

#[test]
fn without_nodes_a_balancer_is_ready_by_its_services_and_says_404_to_what_no_route_has() {
    let app = Scripted::plain("app");
    let document = Document::new(&format!(
        "services.app = {{urls = [\"http://localhost:{}\"], probe.interval = \"100ms\"}}\nroutes.app = {{match.path = \"/app\", service = \"app\"}}\n",
        app.address.port()
    ));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let process = without_nodes(&document.path(), &["--access-log", log.to_str().unwrap()]);
    assert!(ask(process.http, "/-/ready").starts_with("HTTP/1.1 200 "));
    assert!(ask(process.http, "/app/x").ends_with("app /app/x"), "by a name that is looked up");
    let answer = ask(process.http, "/other");
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("no route has this request"), "{answer}");
    // Seen by its service: in the list, in the metrics, in the log.
    let listed = ask(process.admin, "/backends");
    let listed: Value = serde_json::from_str(listed.split_once("\r\n\r\n").unwrap().1).unwrap();
    // What the name means beside it, nobody listens at.
    let name = app.address.to_string();
    let mine = listed.as_array().unwrap().iter().find(|it| it["id"] == name.as_str()).unwrap();
    assert_eq!(mine["service"], "app");
    let responses =
        format!("skep_balancer_backend_responses_total{{backend=\"{name}\",code=\"2xx\",service=\"app\"}} 1");
    assert!(metric(&process, &responses), "{}", ask(process.admin, "/metrics"));
    assert!(metric(&process, "skep_balancer_route_requests_total{route=\"app\",code=\"2xx\"} 1"));
    assert!(metric(&process, "skep_balancer_service_backends_available{service=\"app\"} 1.0"));
    let mut lines = Vec::new();
    wait("the log has both", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        lines = text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok()).collect();
        // Each core has lines of its own to write.
        ["/app/x", "/other"].iter().all(|target| lines.iter().any(|it| it["target"] == *target))
    });
    let line = lines.iter().find(|it| it["target"] == "/app/x").unwrap();
    assert_eq!((&line["route"], &line["service"]), (&"app".into(), &"app".into()), "{line}");
    let other = lines.iter().find(|it| it["target"] == "/other").unwrap();
    assert_eq!((&other["route"], &other["error"]), (&Value::Null, &"not-found".into()), "{other}");
    let shown = ask(process.admin, "/gateway");
    let shown: Value = serde_json::from_str(shown.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&shown["routes"][0]["name"], &shown["routes"][0]["answers"]["2xx"]),
        (&"app".into(), &1.into())
    );
    assert_eq!(
        (&shown["services"][1]["name"], &shown["services"][1]["available"]),
        (&"app".into(), &1.into())
    );
    assert_eq!((&shown["unmatched"], &shown["faults"]), (&"not-found".into(), &Value::Array(vec![])));
    // An operator may drain what is a service's as what is a node's.
    let drained = process.verb(&["drain", &name]);
    assert!(drained.status.success(), "{drained:?}");
    wait("it is not ready", || ask(process.admin, "/readyz").starts_with("HTTP/1.1 503 "));
}
