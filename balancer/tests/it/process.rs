//! The program itself: its signals, its verbs, and two of it on one port.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::harness::*;

/// Longer than any of these takes to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep-balancer"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SKEP_") {
            command.env_remove(name);
        }
    }
    command
}

/// A balancer that serves; killed where the test does not end it.
pub struct Process {
    child: Child,
    pub http: SocketAddr,
    pub https: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub kong: Option<SocketAddr>,
    /// What it logged until it served.
    pub began: String,
    /// What it logs.
    log: mpsc::Receiver<String>,
}

impl Process {
    pub fn start(args: &[&str]) -> Self {
        Self::run(command(), args)
    }

    /// It may have so many files and connections open, and no more.
    pub fn with_descriptors(most: u32, args: &[&str]) -> Self {
        let mut limited = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_skep-balancer");
        limited.args(["-c", "ulimit -n \"$0\"; exec \"$@\"", &most.to_string(), program]);
        Self::run(limited, args)
    }

    /// It is passed a listening socket, as by systemd.
    pub fn with_socket(socket: &std::net::TcpListener, args: &[&str]) -> Self {
        let mut activated = Command::new("sh");
        let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
        activated.args(["-c", script, "sh", env!("CARGO_BIN_EXE_skep-balancer")]);
        activated.stdin(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
        Self::spawn(activated, args)
    }

    fn run(mut command: Command, args: &[&str]) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(command, args)
    }

    fn spawn(mut command: Command, args: &[&str]) -> Self {
        let mut child = command
            .args(["--log-format", "json", "--cores", "2"])
            .args(if args.contains(&"--access-log") { &[][..] } else { &["--access-log", "off"] })
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let began = String::new();
        let mut process = Self { child, http: nowhere, https: None, admin: nowhere, kong: None, began, log };
        let (began, serving) = process.logs("\"message\":\"serving\"");
        process.began = began;
        let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
        let address = |name: &str| serving[name].as_str().and_then(|text| text.parse().ok());
        process.http = address("http").unwrap();
        process.admin = address("admin").unwrap();
        process.https = address("https");
        process.kong = address("kong");
        process
    }

    /// One core would do; two show that all of them obey.
    pub fn on_free_ports(backend: SocketAddr, more: &[&str]) -> Self {
        let backend = backend.to_string();
        let any = "127.0.0.1:0";
        let process = Self::start(&[&["--http", any, "--admin", any, "--backends", &backend], more].concat());
        process.wait_ready();
        process
    }

    /// Waits for a line of the log.
    pub fn logged(&self, text: &str) -> String {
        self.logs(text).1
    }

    /// What it logs before it.
    fn logs(&self, text: &str) -> (String, String) {
        let mut seen = String::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return (seen, line),
                Ok(line) => seen += &format!("{line}\n"),
                Err(error) => panic!("{text} was not logged: {error}\n{seen}"),
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn wait_ready(&self) {
        wait("it gets ready", || ask(self.admin, "/readyz").starts_with("HTTP/1.1 200"));
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// What of its memory is in the machine's, by the kernel's account.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn verb(&self, args: &[&str]) -> Output {
        command().args(args).args(["--admin", &self.admin.to_string()]).output().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn ask(address: SocketAddr, path: &str) -> String {
    let mut client = Client::connect(address);
    client.send(get_and_close(path));
    client.rest_or_reset()
}

/// Answers `GET /slow` once the gate opens.
fn gated() -> (mpsc::Sender<()>, Scripted) {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET /slow") {
                let _ = gate.lock().unwrap().recv();
            }
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    (open, backend)
}

fn wait_head(backend: &Scripted, start: &str) {
    wait(start, || backend.heads().iter().any(|head| head.starts_with(start)));
}

#[test]
fn sigterm_drains_and_the_process_ends_when_its_requests_have() {
    let (open, backend) = gated();
    let mut process = Process::on_free_ports(backend.address, &[]);
    let mut slow = Client::connect(process.http);
    slow.send(get("/slow"));
    wait_head(&backend, "GET /slow");
    process.signal("TERM");
    process.logged("\"draining\"");
    assert!(ask(process.admin, "/readyz").contains("draining"));
    assert!(ask(process.admin, "/livez").starts_with("HTTP/1.1 200"));
    open.send(()).unwrap();
    let (head, body) = slow.answer();
    assert!(head.contains("connection: close") && body == "ok", "{head}");
    assert!(process.wait().success());
}

#[test]
fn what_is_not_done_when_the_drain_is_over_is_cut() {
    let (_open, backend) = gated();
    let mut process = Process::on_free_ports(backend.address, &["--drain", "1s"]);
    let mut slow = Client::connect(process.http);
    slow.send(get("/slow"));
    wait_head(&backend, "GET /slow");
    let begun = Instant::now();
    process.signal("TERM");
    assert!(process.wait().success());
    // Sooner than the request would be given up.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(slow.rest_or_reset(), "");
}

/// Those who ask on and on are told when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_second_process_on_the_port_takes_over_and_no_request_is_lost() {
    let backend = Scripted::plain("b");
    let mut first = Process::on_free_ports(backend.address, &[]);
    let (http, list) = (first.http.to_string(), backend.address.to_string());
    let over = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let ask_on = |keep_alive: bool| {
        let mut client = None;
        while !over.load(Ordering::Relaxed) {
            if keep_alive {
                let open: &mut Client = client.get_or_insert_with(|| Client::connect(first.http));
                open.send(get("/x"));
                let (head, body) = open.answer();
                assert!(body == "b /x", "{head}");
                if head.contains("connection: close") {
                    client = None;
                }
            } else {
                let answer = ask(first.http, "/y");
                assert!(answer.ends_with("b /y"), "{answer:?}");
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let more = |count: usize| {
        let enough = answered.load(Ordering::Relaxed) + count;
        wait("more are answered", || answered.load(Ordering::Relaxed) >= enough);
    };
    let second = std::thread::scope(|scope| {
        // Whatever becomes of the rest.
        let _over = Over(&over);
        for keep_alive in [true, true, false, false] {
            scope.spawn(move || ask_on(keep_alive));
        }
        more(200);
        let second = Process::start(&["--http", &http, "--admin", "127.0.0.1:0", "--backends", &list]);
        second.wait_ready();
        more(200);
        first.signal("TERM");
        first.logged("\"stopped\"");
        more(200);
        second
    });
    assert!(first.wait().success());
    assert!(ask(second.http, "/z").ends_with("b /z"));
}

#[test]
fn a_restart_of_the_only_process_refuses_nobody_where_its_socket_was_passed() {
    let backend = Scripted::plain("b");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, list) = (socket.local_addr().unwrap(), backend.address.to_string());
    let start = || {
        let process = Process::with_socket(
            &socket,
            &["--admin", "127.0.0.1:0", "--http", "127.0.0.1:1", "--backends", &list],
        );
        assert_eq!(process.http, address);
        process.wait_ready();
        process
    };
    let mut first = start();
    assert!(ask(address, "/1").ends_with("b /1"));
    first.signal("TERM");
    first.logged("\"draining\"");
    // Some come while it drains, and some while there is none.
    let come = |count: usize| {
        let come = (0..count).map(|_| {
            let mut client = Client::connect(address);
            client.send(get_and_close("/2"));
            client
        });
        come.collect::<Vec<_>>()
    };
    let mut clients = come(5);
    assert!(first.wait().success());
    clients.extend(come(50));
    let _second = start();
    for mut client in clients {
        assert!(client.rest().ends_with("b /2"));
    }
}

#[test]
fn sighup_reads_limits_and_certificates_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| {
        std::fs::File::create(dir.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let certify = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        write("cert.pem", &made.cert.pem());
        write("key.pem", &made.signing_key.serialize_pem());
        made.cert.der().to_vec()
    };
    let before = certify("before.test");
    write("skep.toml", "max_body = \"10B\"\n");
    let backend = Scripted::start(|served| {
        while served.head().is_some() {
            let body = served.body(20);
            served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{body}"));
        }
    });
    let (config, cert, key) = (path("skep.toml"), path("cert.pem"), path("key.pem"));
    let process = Process::on_free_ports(
        backend.address,
        &["--config", &config, "--https", "127.0.0.1:0", "--cert", &cert, "--cert-key", &key],
    );
    let post = |process: &Process| {
        let mut client = Client::connect(process.http);
        client.send(format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 20\r\n\r\n{:20}",
            ""
        ));
        client.rest_or_reset()
    };
    assert!(post(&process).starts_with("HTTP/1.1 413"));
    assert_eq!(crate::http2::certificate(process.https.unwrap()), before);

    write("skep.toml", "max_body = \"nonsense\"\n");
    process.signal("HUP");
    process.logged("the configuration is left as it was");
    assert!(post(&process).starts_with("HTTP/1.1 413"));

    let after = certify("after.test");
    write("skep.toml", "max_body = \"1KiB\"\n");
    process.signal("HUP");
    process.logged("limits and times read again");
    process.logged("certificates read again");
    // Each core takes the new limits with its next tick.
    wait("the new limit holds", || post(&process).starts_with("HTTP/1.1 200"));
    assert_eq!(crate::http2::certificate(process.https.unwrap()), after);
}

#[test]
fn sighup_reads_the_list_of_backends_again_and_opens_the_log_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (config, log) = (dir.path().join("skep.toml"), dir.path().join("access.log"));
    let name = |address: SocketAddr| std::fs::write(&config, format!("backends = \"{address}\"\n")).unwrap();
    let (before, after) = (Scripted::plain("before"), Scripted::plain("after"));
    name(before.address);
    let any = "127.0.0.1:0";
    let paths = [&config, &log].map(|path| path.to_str().unwrap());
    let mut process =
        Process::start(&["--http", any, "--admin", any, "--config", paths[0], "--access-log", paths[1]]);
    process.wait_ready();
    assert!(ask(process.http, "/1").ends_with("before /1"));
    let has = |path: &std::path::Path, target: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("\"{target}\"")))
    };
    wait("it is logged", || has(&log, "/1"));
    let moved = dir.path().join("access.log.1");
    std::fs::rename(&log, &moved).unwrap();
    name(after.address);
    process.signal("HUP");
    process.logged("the list of backends read again");
    wait("the new one serves", || ask(process.http, "/2").ends_with("after /2"));
    for _ in 0..20 {
        assert!(ask(process.http, "/3").ends_with("after /3"));
    }
    process.signal("TERM");
    assert!(process.wait().success());
    assert!(has(&log, "/3") && !has(&moved, "/3"), "the last line is in the new file");
}

#[test]
fn the_verbs_show_backends_and_health_and_fail_where_nobody_answers() {
    let backend = Scripted::plain("b");
    let process = Process::on_free_ports(backend.address, &[]);
    let table = process.verb(&["backends"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(table.status.success());
    assert!(text.starts_with("BACKEND") && text.contains(&backend.address.to_string()), "{text}");
    let list: Vec<serde_json::Value> =
        serde_json::from_slice(&process.verb(&["backends", "--json"]).stdout).unwrap();
    assert_eq!((list.len(), &list[0]["serving"]), (1, &serde_json::Value::Bool(true)));
    let health = process.verb(&["health"]);
    assert!(health.status.success() && health.stdout == b"ready\n", "{health:?}");
    let live = process.verb(&["health", "--live", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&live.stdout).unwrap();
    assert!(live.status.success() && said["healthy"] == true && said["reason"].is_null(), "{live:?}");
    assert!(ask(process.admin, "/livez").ends_with("live\n"));

    let nobody = Scripted::refused().to_string();
    for verb in ["backends", "health"] {
        let failed = command().args([verb, "--admin", &nobody]).output().unwrap();
        assert_eq!(failed.status.code(), Some(1), "{verb}: {failed:?}");
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(said.starts_with("skep-balancer: ") && said.contains(&nobody), "{verb}: {said}");
    }
}

#[test]
fn a_bad_configuration_ends_with_2_and_names_the_flag() {
    for (args, named) in [
        (&["--http", "nowhere"][..], "--http"),
        (&["--max-body", "0"], "--max-body"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--config", "/does/not/exist"], "--config"),
    ] {
        let failed = command().args(args).output().unwrap();
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(failed.status.code() == Some(2) && text.contains(named), "{args:?}: {text}");
    }
    // A port that somebody holds who shares it with no one is a failure of running.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = command().args(["--http", &address, "--backends", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains(&format!("--http {address}")));
}
