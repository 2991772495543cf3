//! TLS to the backends: what goes over it, and who gets no request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use skep_balancer::core::shared::Shared;
use skep_balancer::pools::Pools;
use skep_balancer::pools::tls::BackendTls;
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::tls::peer_tls;

use crate::harness::*;
use crate::process::{Process, ask};

const ANY: &str = "127.0.0.1:0";
const PATIENCE: Duration = Duration::from_secs(20);

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// A backend that speaks TLS alone, and echoes bodies.
pub struct Sealed {
    pub address: SocketAddr,
    gates: Arc<Gates>,
    pub heads: Arc<Mutex<Vec<String>>>,
    /// Connections that had a request of a client.
    pub used: Arc<AtomicUsize>,
    /// Probes on a connection that was proved by one before it.
    pub resumed_probes: Arc<AtomicUsize>,
}

/// What a backend holds back.
#[derive(Default)]
struct Gates {
    /// It takes no more connections.
    full: AtomicBool,
    /// It answers what it has held.
    open: AtomicBool,
}

impl Sealed {
    pub fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind(ANY).unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, used) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let gates = Arc::<Gates>::default();
        let resumed_probes = Arc::<AtomicUsize>::default();
        let sealed = Self {
            address,
            gates: gates.clone(),
            heads: heads.clone(),
            used: used.clone(),
            resumed_probes: resumed_probes.clone(),
        };
        std::thread::spawn(move || {
            let mut left = Vec::new();
            for stream in listener.incoming().flatten() {
                if gates.full.load(Ordering::SeqCst) {
                    left.push(stream);
                    continue;
                }
                let (config, heads, used) = (config.clone(), heads.clone(), used.clone());
                let (gates, resumed_probes) = (gates.clone(), resumed_probes.clone());
                std::thread::spawn(move || {
                    let mut stream = accepted(config, stream);
                    let mut first = true;
                    while let Some(head) = head(&mut stream) {
                        if std::mem::take(&mut first) && !head.starts_with("GET / ") {
                            used.fetch_add(1, Ordering::SeqCst);
                        }
                        let is_resumed = stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                        if is_resumed && head.starts_with("GET / ") {
                            resumed_probes.fetch_add(1, Ordering::SeqCst);
                        }
                        heads.lock().unwrap().push(head.clone());
                        if serve(&mut stream, &head, &gates).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        sealed
    }

    /// Heads of clients' requests, not of probes.
    pub fn asked(&self) -> Vec<String> {
        self.heads.lock().unwrap().iter().filter(|head| !head.starts_with("GET / ")).cloned().collect()
    }
}

fn head(stream: &mut Tls) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).ok()
}

fn accepted(config: Arc<ServerConfig>, stream: TcpStream) -> Tls {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ServerConnection::new(config).unwrap(), stream)
}

fn serve(stream: &mut Tls, head: &str, gates: &Gates) -> std::io::Result<()> {
    if head.starts_with("GET /held ") {
        wait("it may answer", || gates.open.load(Ordering::SeqCst));
    }
    if head.contains("upgrade: websocket") {
        stream.write_all(b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello")?;
        loop {
            let mut bytes = [0; 1024];
            let n = stream.read(&mut bytes)?;
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            stream.write_all(&bytes[..n])?;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    if let Some(length) = head.strip_prefix("GET /long/") {
        body = vec![b'x'; length.split(' ').next().unwrap().parse().unwrap()];
    }
    if let Some(said) = head.strip_prefix("GET /said/") {
        body = skep_gateway::auth::jwt::decode(said.split(' ').next().unwrap().as_bytes()).unwrap();
    }
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(answer.as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()
}

fn start(backends: &[SocketAddr], more: &[&str]) -> Process {
    let list: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
    Process::start(&[&["--http", ANY, "--admin", ANY, "--backends", &list.join(",")], more].concat())
}

fn of_members(keys: &KeyRing) -> Arc<ServerConfig> {
    peer_tls(keys).unwrap().for_http().server
}

#[test]
fn requests_bodies_and_tunnels_go_over_tls_and_connections_are_kept() {
    let backend = Sealed::start(of_members(&KeyRing::insecure_loopback()));
    let process = start(&[backend.address], &["--backend-tls", "cluster"]);
    process.wait_ready();
    let mut client = Client::connect(process.http);
    for at in 0..50 {
        client.send(format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n{at:8}"));
        assert_eq!(client.answer().1, format!("{at:8}"));
    }
    // Longer than any buffer on the way.
    for length in [100_000, 3_000_000] {
        let body = "b".repeat(length);
        client.send(format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
        let mut writer = client.0.try_clone().unwrap();
        let sent = body.clone();
        let sending = std::thread::spawn(move || writer.write_all(sent.as_bytes()));
        assert!(client.answer().1 == body, "{length}");
        sending.join().unwrap().unwrap();
        client.send(get(&format!("/long/{length}")));
        assert_eq!(client.answer().1.len(), length);
    }
    client.send("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    assert_eq!(client.until("hello").len(), 5);
    for word in ["one", "two", &"three".repeat(10_000)] {
        client.send(word);
        assert!(client.until(&word[word.len() - 3..]).len() <= word.len());
    }
    let heads = backend.asked();
    assert_eq!(heads.len(), 55);
    assert!(backend.used.load(Ordering::SeqCst) <= 2, "one connection a core does");
    assert!(heads.iter().all(|head| head.contains("x-forwarded-proto: http\r\n")), "{}", heads[0]);
}

#[test]
fn a_backend_that_speaks_plain_http_gets_no_request_and_the_log_says_why() {
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let bytes = seen.clone();
    // As a server of plain HTTP does, which takes what comes for a request that is none.
    let plain = Scripted::start(move |served| {
        let mut first = [0; 1024];
        let n = served.stream.read(&mut first).unwrap_or_default();
        bytes.lock().unwrap().extend(&first[..n]);
        served.send("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    });
    let process = start(&[plain.address], &["--backend-tls", "cluster"]);
    let said = process.logged("no TLS with it");
    assert!(said.contains(&plain.address.to_string()) && said.contains("--http-tls"), "{said}");
    wait("it is shown", || ask(process.admin, "/backends").contains("\"untrusted\""));
    for _ in 0..5 {
        assert!(ask(process.http, "/secret").starts_with("HTTP/1.1 503"));
    }
    assert!(ask(process.http, "/-/ready").starts_with("HTTP/1.1 503"));
    // Beside one that does, it gets nothing either.
    let sealed = Sealed::start(of_members(&KeyRing::insecure_loopback()));
    let process = start(&[plain.address, sealed.address], &["--backend-tls", "cluster"]);
    wait("the one is trusted and the other not", || {
        let list = ask(process.admin, "/backends");
        list.contains("\"up\"") && list.contains("\"untrusted\"")
    });
    for _ in 0..20 {
        assert!(ask(process.http, "/secret").starts_with("HTTP/1.1 200"));
    }
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && !seen.windows(5).any(|bytes| bytes == b"HTTP/"), "a request in plain");
}

#[test]
fn a_backend_of_another_cluster_gets_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let ours = KeyRing::generate_line();
    std::fs::write(&file, &ours).unwrap();
    let key = ["--backend-tls", "cluster", "--cluster-key-file", file.to_str().unwrap()];
    let stranger = Sealed::start(of_members(&KeyRing::parse(&KeyRing::generate_line()).unwrap()));
    let process = start(&[stranger.address], &key);
    process.logged("no TLS with it");
    assert!(ask(process.http, "/secret").starts_with("HTTP/1.1 503"));
    assert_eq!(stranger.asked(), Vec::<String>::new());
    // One that would have this balancer prove itself to another cluster.
    let ring = KeyRing::parse(&ours).unwrap();
    let ours = Sealed::start(of_members(&ring));
    let process = start(&[ours.address], &key);
    process.wait_ready();
    assert!(ask(process.http, "/ours").starts_with("HTTP/1.1 200"));
    // Peers' own port is no HTTP, though its certificate is good.
    let peers = Sealed::start(peer_tls(&ring).unwrap().server);
    let process = start(&[peers.address], &key);
    process.logged("no TLS with it");
    assert!(ask(process.http, "/secret").starts_with("HTTP/1.1 503"));
    assert_eq!(peers.asked(), Vec::<String>::new());
}

/// A backend with a certificate for that name, which is its own authority, and the file of that.
pub fn certified(name: &str, file: &Path) -> Sealed {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(file, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Sealed::start(Arc::new(config))
}

#[test]
fn a_backend_whose_certificate_an_authority_of_the_file_has_signed_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let certified = |name: &str, file: &str| {
        let path = dir.path().join(file);
        (certified(name, &path), path.to_str().unwrap().to_owned())
    };
    let (good, good_file) = certified("127.0.0.1", "good.pem");
    let process = start(&[good.address], &["--backend-ca", &good_file]);
    process.wait_ready();
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 200"));
    // Another's authority, and a certificate for another address.
    let (other, other_file) = certified("127.0.0.2", "other.pem");
    for (backend, file) in [(&good, &other_file), (&other, &other_file)] {
        let before = backend.asked().len();
        let process = start(&[backend.address], &["--backend-ca", file]);
        process.logged("no TLS with it");
        assert!(ask(process.http, "/x").starts_with("HTTP/1.1 503"));
        assert_eq!(backend.asked().len(), before);
    }
}

/// A core that speaks to backends as a member with these keys does.
fn of_one_core(backends: &[SocketAddr], keys: &KeyRing) -> Balancer {
    let pools = Pools::of_skep(Some(BackendTls::of_members(Keys::of_edge(keys.clone().into()).unwrap())));
    Balancer::of(backends, Shared { pools, ..Shared::default() })
}

#[test]
fn what_a_backend_has_is_not_cut_because_it_takes_no_more_connections() {
    let backend = Sealed::start(of_members(&KeyRing::insecure_loopback()));
    let process = start(&[backend.address], &["--backend-tls", "cluster"]);
    process.wait_ready();
    let mut client = Client::connect(process.http);
    client.send(get("/held"));
    wait("it has the request", || !backend.asked().is_empty());
    backend.gates.full.store(true, Ordering::SeqCst);
    // Longer than a silence takes to be believed.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        pause(Duration::from_millis(100));
        let list = ask(process.admin, "/backends");
        assert!(list.contains("\"up\""), "{list}");
    }
    backend.gates.open.store(true, Ordering::SeqCst);
    assert!(client.answer().0.starts_with("HTTP/1.1 200"));
}

#[test]
fn an_early_answer_is_passed_on_though_the_backend_resets_the_rest_of_the_upload() {
    let keys = KeyRing::insecure_loopback();
    let config = of_members(&keys);
    let listener = TcpListener::bind(ANY).unwrap();
    let balancer = of_one_core(&[listener.local_addr().unwrap()], &keys);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = accepted(config.clone(), stream);
            assert!(head(&mut stream).is_some());
            // The upload fills what lies on the way.
            pause(Duration::from_millis(100));
            stream.write_all(b"HTTP/1.1 413 x\r\ncontent-length: 0\r\n\r\n").unwrap();
            socket2::SockRef::from(&stream.sock).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    for _ in 0..8 {
        let mut client = balancer.client();
        let sending = uploading(&client, 8 << 20);
        let answer = client.rest_or_reset();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        sending.join().unwrap();
    }
}

#[test]
fn a_backend_that_does_not_take_this_balancers_certificate_has_done_nothing() {
    let (ours, theirs) = (KeyRing::generate_line(), KeyRing::generate_line());
    let [ours, theirs] = [ours, theirs].map(|line| KeyRing::parse(&line).unwrap());
    // It proves who it is, and believes others.
    let mut config = (*of_members(&theirs)).clone();
    config.cert_resolver = of_members(&ours).cert_resolver.clone();
    let (rejecting, good) = (Sealed::start(Arc::new(config)), Sealed::start(of_members(&ours)));
    let balancer = of_one_core(&[], &ours);
    let backends = balancer.set(&[rejecting.address, good.address], Some(0));
    for _ in 0..4 {
        let answer =
            balancer.ask("POST /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi"), "{answer}");
    }
    assert!(backends[0].stats.connect_failures.load(Ordering::SeqCst) > 0, "the leader is asked first");
    assert_eq!((rejecting.asked().len(), good.asked().len()), (0, 4));
}

/// Tells a process that its files are others now, and waits for its word.
fn read_again(process: &Process, word: &str) {
    process.signal("HUP");
    process.logged(word);
}

#[test]
fn authorities_of_backends_are_read_again_and_another_kind_of_tls_needs_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("ca.pem"), dir.path().join("skep.toml"));
    let configure = |line: &str| std::fs::write(&config, line).unwrap();
    let backend = certified("127.0.0.1", &dir.path().join("good.pem"));
    let _other = certified("127.0.0.1", &file);
    configure(&format!("backend_ca = {file:?}\n"));
    let process = start(&[backend.address], &["--config", config.to_str().unwrap()]);
    process.logged("no TLS with it");
    std::fs::copy(dir.path().join("good.pem"), &file).unwrap();
    read_again(&process, "the authorities of backends read again");
    process.wait_ready();
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 200"));
    std::fs::write(&file, "nonsense").unwrap();
    read_again(&process, "ca.pem has no certificate");
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 200"));
    configure("");
    read_again(&process, "--backend-tls and --backend-ca are left as they were");
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 200"));
}
