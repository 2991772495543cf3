//! A server that speaks the workers' routes, well or badly, as a test has it.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(40);
/// How long a claim that there is no task for is kept.
const CLAIM_WAIT_MAX: Duration = Duration::from_secs(2);

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub authorization: Option<String>,
    /// Whose port says which connection it came by.
    pub from: Option<SocketAddr>,
    pub body: Value,
}

/// What is answered instead of what a node would.
pub enum Bad {
    Status(u16),
    /// Bytes, and no more of the connection.
    Bytes(Vec<u8>),
    Json(Value),
    Cut,
    /// Nothing, for as long as the client waits.
    Hang,
}

type Script = Box<dyn FnMut(&Asked, usize) -> Option<Bad> + Send>;

#[derive(Default)]
struct State {
    tasks: VecDeque<Value>,
    /// By worker and number, what a claim gave: made again it gives the same.
    given: HashMap<(Value, Value), Value>,
    seen: Vec<Asked>,
    script: Option<Script>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Ends with the test's process.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(None)
    }

    /// Over TLS.
    pub fn tls(config: Arc<ServerConfig>) -> Self {
        Self::with(Some(config))
    }

    fn with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let of = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (of, tls) = (of.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(&of, stream.peer_addr().ok(), stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a connection");
                        serve(&of, stream.peer_addr().ok(), StreamOwned::new(connection, stream));
                    }
                });
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers by this first: it is told how many requests of the same path came before.
    pub fn script(&self, script: impl FnMut(&Asked, usize) -> Option<Bad> + Send + 'static) {
        self.state().script = Some(Box::new(script));
    }

    /// A task for whoever claims next; its id.
    pub fn put(&self, fence: u64, payload: Value) -> String {
        let id = format!("00000000-0000-8000-8000-{fence:012}");
        let task = json!({
            "id": id, "fence": fence, "queue": "q", "kind": "k", "payload": payload, "try": 1, "lost": 0,
            "timeout": 300.0,
        });
        self.state().tasks.push_back(task);
        self.shared.changed.notify_all();
        id
    }

    /// Waits until what came is as wanted.
    pub fn wait<T>(&self, what: &str, wanted: impl Fn(&[Asked]) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(found) = wanted(&state.seen) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {PATIENCE:?}: {what}; {:#?}", state.seen);
            state = self.shared.changed.wait_timeout(state, left).expect("no panic").0;
        }
    }

    /// Waits for a request of that path; the first.
    pub fn wait_for(&self, path: &str) -> Asked {
        self.wait(path, |seen| seen.iter().find(|asked| asked.path == path).cloned())
    }

    /// How many requests of a path came.
    pub fn count(&self, path: &str) -> usize {
        self.state().seen.iter().filter(|asked| asked.path == path).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no panic")
    }
}

fn serve(shared: &Shared, from: Option<SocketAddr>, stream: impl Read + Write) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream, from) {
        let bad = {
            let mut state = shared.state.lock().expect("no panic");
            let before = state.seen.iter().filter(|it| it.path == asked.path).count();
            state.seen.push(asked.clone());
            shared.changed.notify_all();
            state.script.as_mut().and_then(|script| script(&asked, before))
        };
        let (status, body) = match bad {
            None => answer(shared, &asked),
            Some(Bad::Status(status)) => (status, json!({"detail": "as the test has it"}).to_string()),
            Some(Bad::Json(body)) => (200, body.to_string()),
            Some(Bad::Bytes(bytes)) => {
                let _ = stream.get_mut().write_all(&bytes);
                return;
            }
            Some(Bad::Cut) => return,
            Some(Bad::Hang) => {
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
        let sent = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
        if sent.and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

/// What a node would say.
fn answer(shared: &Shared, asked: &Asked) -> (u16, String) {
    if asked.path.ends_with("/beat") {
        return (200, json!({"lost": []}).to_string());
    }
    if asked.path.contains("/stream?number=") {
        return (404, String::new());
    }
    if asked.path != "/claim" {
        return (200, json!({"state": "done"}).to_string());
    }
    let waits = asked.body["wait"] != "0s";
    let end = Instant::now() + if waits { CLAIM_WAIT_MAX } else { Duration::ZERO };
    let mut state = shared.state.lock().expect("no panic");
    let claim = (asked.body["worker"].clone(), asked.body["number"].clone());
    loop {
        if let Some(given) = state.given.get(&claim) {
            return (200, given.to_string());
        }
        let max = asked.body["max"].as_u64().unwrap_or(1) as usize;
        let tasks: Vec<Value> = std::iter::from_fn(|| state.tasks.pop_front()).take(max).collect();
        if !tasks.is_empty() {
            state.given.insert(claim.clone(), json!({ "tasks": tasks }));
            continue;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return (204, String::new());
        }
        state = shared.changed.wait_timeout(state, left).expect("no panic").0;
    }
}

fn read(stream: &mut BufReader<impl Read + Write>, from: Option<SocketAddr>) -> Option<Asked> {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        let field = line()?;
        let Some((name, value)) = field.split_once(": ") else { break };
        match name {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
    Some(Asked { path, authorization, from, body })
}
