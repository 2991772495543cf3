//! Nodes that tell balancers of the gateway, or something else, and what a balancer says of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use skep_base::id::{ClusterId, NodeId};
use skep_gateway::told::Told;
use skep_members::gossip::aside::Said;
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::seeds::Seed;
use skep_members::tls::{edge_tls, peer_tls};
use tokio::sync::mpsc;

use crate::harness::*;
use crate::process::{Process, ask};

pub const ANY: &str = "127.0.0.1:0";
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two beats; a node's are farther apart.
pub const BEAT: Duration = Duration::from_millis(100);

/// What a node does as it is asked to tell.
#[derive(Clone)]
pub enum Does {
    /// It says this line, and beats.
    Tells(Vec<u8>),
    /// It says this, and nothing more.
    Says(Vec<u8>),
    /// It answers this status, over TLS.
    Answers(u16),
    /// Gossip says that it is of a version that tells nothing, and its HTTP port says nothing at all.
    OldAndMute,
    /// It speaks plain HTTP alone, and answers this status to the same.
    Plain(u16),
}

/// A node, as a balancer sees one: in gossip, and at its HTTP port. Others' requests it answers with its name.
pub struct Node {
    pub peer: SocketAddr,
    does: Arc<Mutex<(u64, Does)>>,
    /// Who asks whether it is well hears that it is not.
    ill: Arc<AtomicBool>,
    pub asked: Arc<AtomicUsize>,
    gossip: Gossip,
    runtime: tokio::runtime::Runtime,
}

pub fn state(lineage: u128, revision: u64, document: Option<&str>) -> Vec<u8> {
    Told::State { lineage, revision, document }.encode()
}

/// One route, below `/app`, to there.
pub fn app(at: SocketAddr) -> String {
    format!(
        r#"{{"services":{{"app":{{"urls":["http://{at}"]}}}},"routes":{{"app":{{"match":{{"path":"/app"}},"service":"app"}}}}}}"#
    )
}

/// What a node says of itself.
pub fn record(id: u64, peer: SocketAddr) -> PeerRecord {
    PeerRecord {
        id: NodeId(id),
        program: Program::Node,
        state: NodeState::Ready,
        cluster: Some(ClusterId(1)),
        peer,
        http: None,
        admin: None,
        version: "0.1.0".into(),
        protocol: (1, 7),
        expect: 1,
        raft: RaftRole::Follower,
        leader: None,
        term: 1,
        gateway: None,
        generation: PeerRecord::generation_now(),
    }
}

impl Node {
    pub fn start(id: u64, keys: &KeyRing, seeds: &[SocketAddr], does: Does) -> Self {
        Self::start_with(id, keys, seeds, does, None)
    }

    /// One that says that it has an admin address.
    pub fn with_admin(admin: SocketAddr, does: Does) -> Self {
        Self::start_with(1, &KeyRing::insecure_loopback(), &[], does, Some(admin))
    }

    pub fn start_with(
        id: u64,
        keys: &KeyRing,
        seeds: &[SocketAddr],
        does: Does,
        admin: Option<SocketAddr>,
    ) -> Self {
        let listener = TcpListener::bind(ANY).unwrap();
        let http = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(ANY).unwrap();
        let peer = socket.local_addr().unwrap();
        let (protocol, does) = match does {
            Does::OldAndMute => ((1, 6), Does::Says(vec![])),
            does => ((1, 7), does),
        };
        let record = PeerRecord { http: Some(http), admin, protocol, ..record(id, peer) };
        let seeds = seeds.iter().map(|it| Seed::parse(&it.to_string()).unwrap()).collect();
        let config = GossipConfig {
            socket,
            seeds,
            nodes: vec![],
            // By an edge key it only says that it is one.
            keys: match keys.has_root() {
                true => Keys::of_node(keys.clone().into()).unwrap(),
                false => Keys::of_edge(keys.clone().into()).unwrap(),
            },
            record,
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gossip = runtime.block_on(Gossip::start(config)).unwrap();
        let does = Arc::new(Mutex::new((0, does)));
        let (ill, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let served = Port { does: does.clone(), ill: ill.clone(), asked: asked.clone(), tls: tls(keys) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.connection(stream));
            }
        });
        Self { peer, does, ill, asked, gossip, runtime }
    }

    pub fn alone(does: Does) -> Self {
        Self::start(1, &KeyRing::insecure_loopback(), &[], does)
    }

    pub fn now(&self, does: Does) {
        let mut now = self.does.lock().unwrap();
        *now = (now.0 + 1, does);
    }

    pub fn is_ill(&self, ill: bool) {
        self.ill.store(ill, Ordering::SeqCst);
    }

    /// Until it was asked so many times more.
    pub fn wait_asked(&self, more: usize) {
        let enough = self.asked.load(Ordering::SeqCst) + more;
        wait("it is asked again", || self.asked.load(Ordering::SeqCst) >= enough);
    }

    /// What others say to it beside gossip, for the first who wants to hear.
    pub fn hear(&self) -> mpsc::Receiver<Said> {
        self.gossip.hear().unwrap()
    }

    /// Says something beside gossip to the balancer that it sees, once it does.
    pub fn say(&self, said: &[u8]) {
        let view = self.gossip.view();
        let balancer =
            || view.borrow().live.iter().find(|it| it.program == Program::Balancer).map(|it| it.peer);
        wait("it sees the balancer", || balancer().is_some());
        self.runtime.block_on(self.gossip.say(balancer().unwrap(), said));
    }

    /// Others hear no more of it.
    pub fn die(self) {
        self.now(Does::Answers(500));
        self.runtime.block_on(self.gossip.leave());
    }
}

fn tls(keys: &KeyRing) -> Arc<ServerConfig> {
    let tls = if keys.has_root() { peer_tls(keys) } else { edge_tls(keys) };
    tls.unwrap().for_http().server
}

#[derive(Clone)]
struct Port {
    does: Arc<Mutex<(u64, Does)>>,
    ill: Arc<AtomicBool>,
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
            if read_head(&mut stream).is_some_and(|head| head.starts_with("GET /-/gateway/watch?")) {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let _ = self.tell(&mut stream);
            }
        } else {
            while let Some(head) = read_head(&mut stream) {
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let status = match self.does.lock().unwrap().1 {
                    Does::Plain(status) if target.starts_with("/-/gateway/watch?") => status,
                    _ if self.ill.load(Ordering::SeqCst) => 503,
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
        let mut at = 0;
        loop {
            let (version, does) = self.does.lock().unwrap().clone();
            let is_new = seen != Some(version);
            let line = match does {
                Does::Answers(status) if seen.is_none() => {
                    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")?;
                    return stream.flush();
                }
                // What is to be answered from now on ends what was.
                Does::Answers(_) | Does::Plain(_) | Does::OldAndMute => return Ok(()),
                Does::Tells(line) | Does::Says(line) if is_new => line,
                Does::Tells(_) if beat.elapsed() >= BEAT => Told::Beat { revision: at }.encode(),
                Does::Tells(_) | Does::Says(_) => {
                    pause(Duration::from_millis(2));
                    continue;
                }
            };
            if seen.is_none() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")?;
            }
            for line in line.split(|byte| *byte == b'\n') {
                if let Ok(Told::State { revision, .. }) = Told::decode(line) {
                    at = revision;
                }
            }
            (seen, beat) = (Some(version), Instant::now());
            // In pieces, as they may come.
            for piece in line.chunks(64 * 1024) {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            stream.flush()?;
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

pub fn balancer(nodes: &[&Node], more: &[&str]) -> Process {
    let seeds: Vec<String> = nodes.iter().map(|it| it.peer.to_string()).collect();
    let args = ["--http", ANY, "--admin", ANY, "--peer", ANY, "--seeds", &seeds.join(",")];
    Process::start(&[&args, more].concat())
}

pub fn metrics(process: &Process) -> String {
    ask(process.admin, "/metrics")
}

/// Where it stands, by its own word.
pub fn stands(process: &Process, lineage: u128, revision: u64) -> bool {
    let line = format!("skep_balancer_gateway_revision{{lineage=\"{lineage:032x}\"}} {revision}.0");
    metrics(process).lines().any(|it| it == line)
}

pub fn shown(process: &Process) -> serde_json::Value {
    let answer = ask(process.admin, "/gateway");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

pub fn is_at(process: &Process, path: &str, body: &str) -> bool {
    ask(process.http, path).ends_with(body)
}
