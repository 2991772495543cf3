//! What a backend may still be given, seen at the program: probes, readiness, ends in order, and a lack of
//! the balancer's own.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::harness::*;
use crate::process::{Process, ask};

const ANY: &str = "127.0.0.1:0";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const PATIENCE: Duration = Duration::from_secs(20);

fn start(backends: &[SocketAddr], more: &[&str]) -> Process {
    let list: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
    Process::start(&[&["--http", ANY, "--admin", ANY, "--backends", &list.join(",")], more].concat())
}

/// What `/backends` says of the only one, over a connection that may be there already.
fn backend(admin: &mut Client) -> serde_json::Value {
    admin.send(get("/backends"));
    let list: Vec<serde_json::Value> = serde_json::from_str(&admin.answer().1).unwrap();
    list[0].clone()
}

fn is_ready(process: &Process) -> [bool; 3] {
    let ready = ask(process.http, "/-/ready").starts_with("HTTP/1.1 200");
    let readyz = ask(process.admin, "/readyz").starts_with("HTTP/1.1 200");
    [ready, readyz, process.verb(&["health"]).status.success()]
}

#[test]
fn who_can_reach_no_backend_is_not_ready_and_all_three_who_are_asked_say_so() {
    let address = Scripted::refused();
    let process = start(&[address, Scripted::refused()], &[]);
    wait("probes are refused", || ask(process.admin, "/backends").matches("\"refused\"").count() == 2);
    assert_eq!(is_ready(&process), [false; 3]);
    let _back = Scripted::at(TcpListener::bind(address).unwrap(), |served| {
        while served.head().is_some() {
            served.send(OK);
        }
    });
    wait("one is back", || is_ready(&process) == [true; 3]);
    assert!(process.verb(&["health", "--started"]).status.success());
}

#[test]
fn a_backend_that_a_flag_named_is_asked_for_the_path_of_check() {
    let well = Arc::new(AtomicBool::new(false));
    let says = well.clone();
    let asked = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET /healthz?x ") && !says.load(SeqCst) {
                served.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
            } else {
                served.send(OK);
            }
        }
    });
    let process = start(&[asked.address], &["--check", "/healthz?x"]);
    wait("it was asked", || ask(process.admin, "/backends").contains("\"unready\""));
    assert_eq!(is_ready(&process), [false; 3]);
    well.store(true, SeqCst);
    wait("it is well", || is_ready(&process) == [true; 3]);
}

/// A server that can close its listener and go on: it says when a request is there, and answers when it
/// may.
struct Closing {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    asked: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
}

impl Closing {
    fn start() -> Self {
        let listener = TcpListener::bind(ANY).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, gate) = mpsc::channel::<()>();
        let (asks, asked) = mpsc::channel::<()>();
        let (closing, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(gate)));
        let closes = closing.clone();
        std::thread::spawn(move || {
            // A probe comes soon, and then it is closed.
            for mut stream in listener.incoming().flatten().take_while(|_| !closes.load(SeqCst)) {
                let (gate, asks) = (gate.clone(), asks.clone());
                std::thread::spawn(move || {
                    if read_until(&mut stream, b"\r\n\r\nhello").is_some() {
                        asks.send(()).unwrap();
                        let _ = gate.lock().unwrap().recv();
                        let _ = stream.write_all(OK.as_bytes());
                    }
                });
            }
        });
        Self { address, closing, asked, open }
    }
}

#[test]
fn who_closes_its_listener_still_answers_what_it_has() {
    let closing = Closing::start();
    // With another beside it, it is no last resort.
    let other = Scripted::start(|served| {
        while served.head().is_some() {
            served.body(5);
            served.send(OK);
        }
    });
    let process = start(&[closing.address, other.address], &[]);
    process.wait_ready();
    let begun = Instant::now();
    let mut client = loop {
        let (mut client, before) = (Client::connect(process.http), other.heads().len());
        client.send("POST /write HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        let mut is_asked = false;
        wait("one of the two has it", || {
            is_asked = closing.asked.try_recv().is_ok();
            is_asked || other.heads().len() > before
        });
        if is_asked {
            break client;
        }
        assert!(client.answer().0.starts_with("HTTP/1.1 200"));
        assert!(begun.elapsed() < PATIENCE, "it gets no request");
    };
    closing.closing.store(true, SeqCst);
    wait("its probes are refused", || ask(process.admin, "/backends").contains("\"refused\""));
    // Longer than any look at who is gone.
    pause(Duration::from_millis(500));
    closing.open.send(()).unwrap();
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 200") && body == "ok", "{head}");
}

#[test]
fn an_upload_in_flight_at_the_balancers_end_is_answered() {
    let backend = Scripted::start(|served| {
        while served.head().is_some() {
            served.body(100_000);
            served.send(OK);
        }
    });
    let mut process = Process::on_free_ports(backend.address, &[]);
    let mut client = Client::connect(process.http);
    client.send("POST /write HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n");
    // More than is read before a backend is chosen.
    client.send("x".repeat(80_000));
    wait("its head is sent", || backend.heads().iter().any(|head| head.starts_with("POST")));
    process.signal("TERM");
    process.logged("\"draining\"");
    for _ in 0..20 {
        pause(Duration::from_millis(100));
        client.send("x".repeat(1000));
    }
    assert_eq!(client.answer().1, "ok");
    assert!(process.wait().success());
}

#[test]
fn a_lack_of_descriptors_is_no_fault_of_a_backend() {
    // Each request needs a connection of its own.
    let served = Scripted::start(|served| {
        if served.head().is_some() {
            served.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let address = served.address.to_string();
    let args = ["--http", ANY, "--admin", ANY, "--backends", &address];
    let process = Process::with_descriptors(64, &args);
    process.wait_ready();
    let mut admin = Client::connect(process.admin);
    backend(&mut admin);
    let mut clients: Vec<Client> = Vec::new();
    // Those that are accepted take what there is; others hear nothing.
    let lacked = (0..64).any(|_| {
        let mut client = Client::connect(process.http);
        client.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send(get("/"));
        let head = read_until(&mut client.0, b"\r\n\r\n").unwrap_or_default();
        clients.push(client);
        let lacks = head.starts_with("HTTP/1.1 503");
        assert!(!lacks || head.contains("skep-unprocessed: 1\r\n"), "nothing was done: {head}");
        lacks
    });
    assert!(lacked, "the process has descriptors enough");
    // A few probes more.
    pause(Duration::from_secs(1));
    let known = backend(&mut admin);
    assert_eq!((&known["failures"], &known["connect_failures"]), (&0.into(), &0.into()), "{known}");
    assert_eq!(known["ejected"], false, "{known}");
    // A busy machine may have held the backend up.
    wait("it is up, though the lack lasts", || backend(&mut admin)["probe"] == "up");
}

/// A thread that a tracer has stopped, while the others of its process go on. This thread is the tracer.
struct Stopped(Pid);

impl Stopped {
    /// Where it waits for events: elsewhere it may hold what all threads need.
    fn waiting_for_events(process: u32, thread: Pid) -> Option<Self> {
        // epoll_wait and epoll_pwait, of x86-64 and of AArch64.
        const EPOLL: [&str; 3] = ["232", "281", "22"];
        ptrace::seize(thread, ptrace::Options::empty()).ok()?;
        let stopped = Self(thread);
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        let call = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall")).ok()?;
        EPOLL.contains(&call.split(' ').next()?).then_some(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

#[test]
fn a_balancer_of_which_a_core_hangs_is_not_ready_until_it_goes_on() {
    let served = Scripted::plain("b");
    let process = Process::on_free_ports(served.address, &[]);
    let tasks = format!("/proc/{}/task", process.id());
    let named = |tid: &str| std::fs::read_to_string(format!("{tasks}/{tid}/comm")).unwrap_or_default();
    let core = || {
        let mut threads =
            std::fs::read_dir(&tasks).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        threads.find(|tid| named(tid).trim() == "core-1")
    };
    let mut stopped = None;
    wait("its second core waits for events", || {
        let core = core().map(|tid| Pid::from_raw(tid.parse().unwrap()));
        stopped = core.and_then(|core| Stopped::waiting_for_events(process.id(), core));
        stopped.is_some()
    });
    wait("it says so", || {
        let ready = ask(process.admin, "/readyz");
        ready.starts_with("HTTP/1.1 503") && ready.contains("a core hangs")
    });
    process.logged("a core hangs");
    // The other core says it as well.
    let answer = || {
        let mut client = Client::connect(process.http);
        client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        client.send(get_and_close("/-/ready"));
        client.rest_or_reset()
    };
    wait("the other core says so", || answer().ends_with("a core hangs\n"));
    drop(stopped);
    process.wait_ready();
}
