//! The gateway's configuration as nodes tell it: followed, kept, and refused until there is one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use skep_base::id::{ClusterId, NodeId};
use skep_gateway::told::Told;
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole};
use skep_members::key::KeyRing;
use skep_members::seeds::Seed;
use skep_members::tls::peer_tls;

use crate::harness::*;
use crate::process::{Process, ask};

const ANY: &str = "127.0.0.1:0";
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two beats; a node's are farther apart.
const BEAT: Duration = Duration::from_millis(100);

/// What a node does as it is asked to tell.
#[derive(Clone)]
enum Does {
    /// It says this line, and beats.
    Tells(Vec<u8>),
    /// It says this, and nothing more.
    Says(Vec<u8>),
    /// It answers this status, over TLS.
    Answers(u16),
    /// It speaks plain HTTP alone, and answers this status to the same.
    Plain(u16),
}

/// A node, as a balancer sees one: in gossip, and at its HTTP port. Others' requests it answers with its name.
struct Node {
    peer: SocketAddr,
    does: Arc<Mutex<(u64, Does)>>,
    /// Lines that went out, on all connections.
    said: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    gossip: Gossip,
    runtime: tokio::runtime::Runtime,
}

fn state(lineage: u128, revision: u64, document: Option<&str>) -> Vec<u8> {
    Told::State { lineage, revision, document }.encode()
}

/// One route, below `/app`, to there.
fn app(at: SocketAddr) -> String {
    format!(
        r#"{{"services":{{"app":{{"urls":["http://{at}"]}}}},"routes":{{"app":{{"match":{{"path":"/app"}},"service":"app"}}}}}}"#
    )
}

impl Node {
    fn start(id: u64, keys: &KeyRing, seeds: &[SocketAddr], does: Does) -> Self {
        let listener = TcpListener::bind(ANY).unwrap();
        let http = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(ANY).unwrap();
        let peer = socket.local_addr().unwrap();
        let record = PeerRecord {
            id: NodeId(id),
            program: Program::Node,
            state: NodeState::Ready,
            cluster: Some(ClusterId(1)),
            peer,
            http: Some(http),
            admin: None,
            version: "0.1.0".into(),
            protocol: (1, 1),
            expect: 1,
            raft: RaftRole::Follower,
            leader: None,
            term: 1,
            generation: PeerRecord::generation_now(),
        };
        let seeds = seeds.iter().map(|it| Seed::parse(&it.to_string()).unwrap()).collect();
        let config = GossipConfig { socket, seeds, nodes: vec![], keys: keys.clone(), record };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gossip = runtime.block_on(Gossip::start(config)).unwrap();
        let does = Arc::new(Mutex::new((0, does)));
        let (said, asked) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let served = Port { does: does.clone(), said: said.clone(), asked: asked.clone(), tls: tls(keys) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.connection(stream));
            }
        });
        Self { peer, does, said, asked, gossip, runtime }
    }

    fn alone(does: Does) -> Self {
        Self::start(1, &KeyRing::insecure_loopback(), &[], does)
    }

    fn now(&self, does: Does) {
        let mut now = self.does.lock().unwrap();
        *now = (now.0 + 1, does);
    }

    /// Until it has said so much more, each on a connection that goes on.
    fn wait_said(&self, more: usize) {
        let enough = self.said.load(Ordering::SeqCst) + more;
        wait("it says more", || self.said.load(Ordering::SeqCst) >= enough);
    }

    /// Others hear no more of it.
    fn die(self) {
        self.now(Does::Answers(500));
        self.runtime.block_on(self.gossip.leave());
    }
}

fn tls(keys: &KeyRing) -> Arc<ServerConfig> {
    peer_tls(keys).unwrap().for_http().server
}

#[derive(Clone)]
struct Port {
    does: Arc<Mutex<(u64, Does)>>,
    said: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    tls: Arc<ServerConfig>,
}

impl Port {
    fn connection(&self, mut stream: TcpStream) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut first = [0];
        if !matches!(stream.peek(&mut first), Ok(1)) {
            return;
        }
        let is_plain = matches!(self.does.lock().unwrap().1, Does::Plain(_));
        if first[0] == 22 && is_plain {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        } else if first[0] == 22 {
            let connection = ServerConnection::new(self.tls.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            if read_head(&mut stream).is_some_and(|head| head.starts_with("GET /-/gateway/watch ")) {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let _ = self.tell(&mut stream);
            }
        } else {
            while let Some(head) = read_head(&mut stream) {
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let status = match self.does.lock().unwrap().1 {
                    Does::Plain(status) if target == "/-/gateway/watch" => status,
                    _ => 200,
                };
                let body = format!("node {target}");
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    }

    fn tell(&self, stream: &mut impl Write) -> std::io::Result<()> {
        let mut seen = None;
        let mut beat = Instant::now();
        loop {
            let (version, does) = self.does.lock().unwrap().clone();
            let is_new = seen != Some(version);
            let line = match does {
                Does::Answers(status) if seen.is_none() => {
                    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")?;
                    return stream.flush();
                }
                // What is to be answered from now on ends what was.
                Does::Answers(_) | Does::Plain(_) => return Ok(()),
                Does::Tells(line) | Does::Says(line) if is_new => line,
                Does::Tells(_) if beat.elapsed() >= BEAT => b"{\"beat\":1}\n".to_vec(),
                Does::Tells(_) | Does::Says(_) => {
                    pause(Duration::from_millis(2));
                    continue;
                }
            };
            if seen.is_none() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")?;
            }
            (seen, beat) = (Some(version), Instant::now());
            // In pieces, as they may come.
            for piece in line.chunks(64 * 1024) {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            stream.flush()?;
            self.said.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).ok()
}

fn balancer(nodes: &[&Node], more: &[&str]) -> Process {
    let seeds: Vec<String> = nodes.iter().map(|it| it.peer.to_string()).collect();
    let args = ["--http", ANY, "--admin", ANY, "--peer", ANY, "--seeds", &seeds.join(",")];
    Process::start(&[&args, more].concat())
}

fn metrics(process: &Process) -> String {
    ask(process.admin, "/metrics")
}

/// Where it stands, by its own word.
fn stands(process: &Process, lineage: u128, revision: u64) -> bool {
    let line = format!("skep_balancer_gateway_revision{{lineage=\"{lineage:032x}\"}} {revision}.0");
    metrics(process).lines().any(|it| it == line)
}

fn shown(process: &Process) -> serde_json::Value {
    let answer = ask(process.admin, "/gateway");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn is_at(process: &Process, path: &str, body: &str) -> bool {
    ask(process.http, path).ends_with(body)
}

#[test]
fn what_nodes_tell_is_followed_forwards_and_never_back_and_another_history_at_once() {
    let (one, two) = (Scripted::plain("one"), Scripted::plain("two"));
    let node = Node::alone(Does::Tells(state(0, 0, None)));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    assert!(is_at(&process, "/app", "node /app"), "there are no routes yet");
    node.now(Does::Tells(state(7, 1, Some(&app(one.address)))));
    wait("the first is in force", || stands(&process, 7, 1));
    assert!(is_at(&process, "/app", "one /app") && is_at(&process, "/other", "node /other"));
    node.now(Does::Tells(state(7, 3, Some(&app(two.address)))));
    wait("the next is in force", || stands(&process, 7, 3));
    assert!(is_at(&process, "/app", "two /app"));
    // Of a node that lags: an older one, and none.
    for (lineage, revision, document) in [(7, 2, Some(app(one.address))), (0, 0, None)] {
        node.now(Does::Tells(state(lineage, revision, document.as_deref())));
        node.wait_said(3);
        assert!(stands(&process, 7, 3) && is_at(&process, "/app", "two /app"), "{lineage} {revision}");
    }
    node.now(Does::Tells(state(8, 1, Some(&app(one.address)))));
    wait("another history is followed", || stands(&process, 8, 1));
    assert!(is_at(&process, "/app", "one /app"));
    let shown = shown(&process);
    assert_eq!(
        (&shown["cluster"]["word"], &shown["cluster"]["revision"]),
        (&"node".into(), &1.into()),
        "{shown}"
    );
    assert!(shown["cluster"]["age_s"].as_f64().unwrap() < 3.0, "{shown}");
}

#[test]
fn until_a_node_has_told_it_nothing_is_served_and_that_there_is_none_counts() {
    // It takes the question, and says nothing.
    let node = Node::alone(Does::Says(vec![]));
    let process = balancer(&[&node], &[]);
    for path in ["/", "/-/ready"] {
        let answer = ask(process.http, path);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no node has told"), "{answer}");
    }
    assert!(ask(process.admin, "/readyz").contains("no node has told"));
    assert_eq!(shown(&process)["cluster"]["word"], "nobody");
    assert!(metrics(&process).lines().any(|it| it == "skep_balancer_gateway_told{} 0.0"));
    node.now(Does::Tells(state(0, 0, None)));
    process.wait_ready();
    assert!(is_at(&process, "/x", "node /x"));
    let private = ask(process.http, "/-/gateway/watch");
    assert!(private.starts_with("HTTP/1.1 404 "), "that is for no client: {private}");
    assert!(metrics(&process).lines().any(|it| it == "skep_balancer_gateway_told{} 1.0"));
}

#[test]
fn where_every_node_is_too_old_to_have_any_all_goes_to_them_until_one_is_not() {
    let app_server = Scripted::plain("app");
    for does in [Does::Answers(404), Does::Plain(404)] {
        let node = Node::alone(does);
        let process = balancer(&[&node], &[]);
        process.wait_ready();
        assert!(is_at(&process, "/app", "node /app"));
        assert_eq!(shown(&process)["cluster"]["word"], "older nodes");
        // The next to come is newer.
        let keys = KeyRing::insecure_loopback();
        let newer =
            Node::start(2, &keys, &[node.peer], Does::Tells(state(7, 1, Some(&app(app_server.address)))));
        wait("the newer one is heard", || stands(&process, 7, 1));
        assert!(is_at(&process, "/app", "app /app"));
        assert!(newer.asked.load(Ordering::SeqCst) > 0);
    }
}

#[test]
fn a_node_that_says_anything_else_in_plain_text_is_not_believed() {
    let node = Node::alone(Does::Plain(200));
    let process = balancer(&[&node], &[]);
    let is_asked = |node: &Node| node.asked.load(Ordering::SeqCst) >= 2;
    wait("it was asked, and asked again", || is_asked(&node));
    assert!(ask(process.http, "/").contains("no node has told"));
    // Where nodes prove themselves by the cluster's keys, not even that it is too old.
    let node = Node::alone(Does::Plain(404));
    let process = balancer(&[&node], &["--backend-tls", "cluster"]);
    wait("it was asked, and asked again", || is_asked(&node));
    assert!(ask(process.http, "/").contains("no node has told"));
}

#[test]
fn who_is_silent_or_says_what_is_no_line_is_left_for_another() {
    let (one, two) = (Scripted::plain("one"), Scripted::plain("two"));
    let keys = KeyRing::insecure_loopback();
    let first = Node::start(1, &keys, &[], Does::Tells(state(7, 1, Some(&app(one.address)))));
    let process = balancer(&[&first], &[]);
    process.wait_ready();
    wait("it is in force", || stands(&process, 7, 1));
    let second = Node::start(2, &keys, &[first.peer], Does::Tells(state(7, 1, Some(&app(one.address)))));
    let (mut revision, mut nodes) = (1, [&first, &second]);
    let mut long = b"{\"beat\":1,\"x\":\"".to_vec();
    long.resize(skep_gateway::told::LINE_MAX + 100_000, b'x');
    for (bad, why) in [
        (b"no line\n".to_vec(), "it answers what is none"),
        (b"{\"lineage\":\"7\",\"revision\":9,\"document\":{}}\n".to_vec(), "it answers what is none"),
        (long, "a line has more than"),
        // It is there, and says nothing more.
        (vec![], "it was silent"),
    ] {
        // Who tells now goes wrong, and the other has news.
        nodes[0].now(Does::Says(bad));
        revision += 1;
        nodes[1].now(Does::Tells(state(7, revision, Some(&app(two.address)))));
        wait("the other is heard", || stands(&process, 7, revision));
        assert!(is_at(&process, "/app", "two /app"), "{why}");
        process.logged(why);
        nodes.swap(0, 1);
    }
}

#[test]
fn a_document_that_cannot_be_read_leaves_the_last_or_nothing_and_is_told() {
    let one = Scripted::plain("one");
    let node = Node::alone(Does::Tells(state(7, 1, Some(&app(one.address)))));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    let later = state(7, 2, Some(r#"{"routes":{"r":{"service":"skep","later":1}}}"#));
    node.now(Does::Tells(later.clone()));
    let fault: serde_json::Value = serde_json::from_str(&process.logged("\"/routes/r/later\"")).unwrap();
    assert_eq!(fault["pointer"], "/routes/r/later");
    assert!(stands(&process, 7, 1) && is_at(&process, "/app", "one /app"));
    assert!(metrics(&process).lines().any(|it| it == "skep_balancer_gateway_faults{} 1.0"));
    assert_eq!(shown(&process)["cluster"]["refused"], 2);
    // One that starts now has none that it could keep.
    let process = balancer(&[&node], &[]);
    wait("it has heard of it", || shown(&process)["cluster"]["refused"] == 2);
    let answer = ask(process.http, "/app");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    node.now(Does::Tells(state(7, 3, Some(&app(one.address)))));
    process.wait_ready();
    assert!(is_at(&process, "/app", "one /app"));
}

/// With a folder for its copy, and these keys.
fn with_state(peer: SocketAddr, folder: &Path, keys: &str) -> Process {
    let (state, file) = (folder.join("state"), folder.join("keys"));
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&file).unwrap();
    opened.write_all(keys.as_bytes()).unwrap();
    let [state, file] = [&state, &file].map(|it| it.to_str().unwrap());
    let seed = peer.to_string();
    let args = ["--http", ANY, "--admin", ANY, "--peer", ANY, "--seeds", &seed];
    Process::start(&[&args[..], &["--state", state, "--cluster-key-file", file]].concat())
}

#[test]
fn a_restart_while_all_nodes_are_away_serves_from_the_copy_which_its_keys_alone_open() {
    let one = Scripted::plain("one");
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let edge = KeyRing::parse(&old).unwrap().edge_lines().remove(0);
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(
        1,
        &KeyRing::parse(&old).unwrap(),
        &[],
        Does::Tells(state(7, 4, Some(&app(one.address)))),
    );
    let peer = node.peer;
    let mut process = with_state(peer, folder.path(), &edge);
    process.wait_ready();
    let file = folder.path().join("state/gateway.sealed");
    wait("the copy is written", || file.exists());
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(4).any(|it| it == b"/app"), "it is sealed");
    process.signal("TERM");
    assert!(process.wait().success());
    node.die();
    // The old key is the second of the ring by now.
    let process = with_state(peer, folder.path(), &format!("{new}\n{edge}"));
    process.wait_ready();
    assert!(is_at(&process, "/app", "one /app"));
    let shown = shown(&process);
    assert_eq!(
        (&shown["cluster"]["word"], &shown["cluster"]["revision"]),
        (&"copy".into(), &4.into()),
        "{shown}"
    );
    assert!(ask(process.http, "/other").starts_with("HTTP/1.1 503 "), "there are no nodes");
    drop(process);
    // No key opens it: as if there were none, and no start fails for it.
    let process = with_state(peer, folder.path(), &new);
    let answer = ask(process.http, "/app");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no node has told"), "{answer}");
    assert!(ask(process.admin, "/livez").starts_with("HTTP/1.1 200 "));
}
