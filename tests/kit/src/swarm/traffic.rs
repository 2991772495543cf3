//! A client on the LAN that never stops asking: half on new connections, half on kept ones, half
//! writes, half reads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::lab::{ADDRESS, Lab};
use super::ledger::{Acked, Failure, Kind, Ledger};
use crate::effort::figure;
use crate::wait::pause;

/// Requests a second, on new connections and on kept ones together.
const RATE: u32 = 200;
/// Connections that are kept.
const KEPT: u32 = 10;
/// A lost SYN is sent again after 1 s, 2 s, 4 s: this is what people call not reachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the time that a node gives a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const MESSAGE_BYTES: usize = 100;
/// How much of a wrong answer is kept.
const SAID_MAX: usize = 300;
/// Asks for so long before something happens, and after all is whole again.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(1);

pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Asks while `event` happens, until three nodes and all else are whole again; prints what came of
/// it. Nothing that was acknowledged may be lost.
pub fn under_traffic(lab: &Lab, what: &str, event: impl FnOnce(&Traffic)) -> Ledger {
    let traffic = Traffic::start(lab);
    pause(BEFORE);
    event(&traffic);
    lab.settle(3);
    pause(AFTER);
    let ledger = traffic.stop();
    figure(what, ledger.summary());
    ledger.expect_nothing_lost(&messages(lab).unwrap());
    ledger
}

/// A client that runs.
pub struct Traffic {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    target: SocketAddr,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    serial: AtomicU64,
    run: u64,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder panics")
    }
}

impl Traffic {
    /// On the client's host, through the virtual address.
    pub fn start(lab: &Lab) -> Self {
        Self::start_at(lab, 0, SocketAddr::new(ADDRESS.parse().expect("an address"), 80))
    }

    /// On any host, to any address.
    pub fn start_at(lab: &Lab, host: usize, target: SocketAddr) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let shared = Arc::new(Shared {
            target,
            ledger: Mutex::default(),
            stop: AtomicBool::new(false),
            serial: AtomicU64::new(0),
            run: now.as_nanos() as u64,
        });
        let for_thread = shared.clone();
        let thread = lab.spawn_at(host, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(all(for_thread));
        });
        Self { shared, thread }
    }

    pub fn acked(&self) -> usize {
        self.shared.ledger().acked.len()
    }

    pub fn failed(&self) -> usize {
        self.shared.ledger().failures.len()
    }

    /// Lets every request end.
    pub fn stop(self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client ended well");
        std::mem::take(&mut *self.shared.ledger())
    }
}

async fn all(shared: Arc<Shared>) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..KEPT {
        tasks.spawn(on_kept_connections(shared.clone()));
    }
    let mut ticks = interval(Duration::from_secs(1) * 2 / RATE);
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let shared = shared.clone();
        tasks.spawn(async move { ask(&shared, &mut None, false).await });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn on_kept_connections(shared: Arc<Shared>) {
    let mut ticks = interval(Duration::from_secs(1) * 2 * KEPT / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        ask(&shared, &mut connection, true).await;
    }
}

/// What is asked for.
enum Ask {
    Write(String),
    Read(Acked),
    /// What stands at a number: asks the leader how far it is.
    List(Acked),
}

impl Ask {
    fn next(shared: &Shared) -> Self {
        let serial = shared.serial.fetch_add(1, Ordering::Relaxed);
        let ledger = shared.ledger();
        // Any but the newest, evenly.
        let known = usize::try_from(serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16).unwrap_or(0);
        match ledger.acked.get(known % ledger.acked.len().max(1)) {
            Some(acked) if serial % 8 == 1 => Self::List(acked.clone()),
            Some(acked) if serial % 2 == 1 => Self::Read(acked.clone()),
            _ => {
                let head = format!("{:x}-{serial:09}-", shared.run);
                Self::Write(head.clone() + &"x".repeat(MESSAGE_BYTES - head.len()))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Write(_) => "a write",
            Self::Read(_) => "a read",
            Self::List(_) => "a list",
        }
    }

    fn request(&self, host: &SocketAddr, keep: bool) -> Request<Full<Bytes>> {
        let (method, path, body) = match self {
            Self::Write(text) => {
                (Method::POST, "/messages".to_owned(), json!({ "message": text }).to_string())
            }
            Self::Read(acked) => (Method::GET, format!("/messages/{}", acked.digest), String::new()),
            Self::List(acked) => {
                (Method::GET, format!("/messages?after={}&limit=1", acked.seq - 1), String::new())
            }
        };
        let mut request = Request::builder().method(method).uri(path).header("host", host.to_string());
        if matches!(self, Self::Write(_)) {
            request = request.header("content-type", "application/json");
        }
        if !keep {
            request = request.header("connection", "close");
        }
        request.body(Full::new(body.into())).expect("the request is well formed")
    }

    /// An acknowledgement, or nothing, where the answer is right.
    fn judge(&self, status: u16, body: &[u8]) -> Result<Option<(String, u64)>, Kind> {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = || String::from_utf8_lossy(&body[..body.len().min(SAID_MAX)]).into_owned();
        let shown = || Kind::Wrong(said());
        match (self, status) {
            (Self::Write(_), 200 | 201) => match (json["digest"].as_str(), json["seq"].as_u64()) {
                (Some(digest), Some(seq)) => Ok(Some((digest.to_owned(), seq))),
                _ => Err(shown()),
            },
            (Self::Read(acked), 200) if json["message"] == acked.text.as_str() => Ok(None),
            (Self::List(acked), 200) if json["messages"][0]["digest"] == acked.digest.as_str() => Ok(None),
            (Self::List(_), 200) if json["messages"].as_array().is_some_and(Vec::is_empty) => Err(Kind::Lost),
            (Self::Read(_), 404) => Err(Kind::Lost),
            (_, 200) => Err(shown()),
            _ => Err(Kind::Status(status, said())),
        }
    }
}

/// One request, noted.
async fn ask(shared: &Shared, connection: &mut Option<Sender>, keep: bool) {
    let ask = Ask::next(shared);
    let sent = Instant::now();
    let request = ask.request(&shared.target, keep);
    let result = exchange(shared.target, connection, request, keep).await;
    let result = result.and_then(|(status, body)| ask.judge(status, &body));
    let took = sent.elapsed();
    let mut ledger = shared.ledger();
    match result {
        Ok(acknowledged) => {
            ledger.answered += 1;
            ledger.slowest = ledger.slowest.max(took);
            if took > Duration::from_secs(1) {
                ledger.slow.push((sent, took, keep));
            }
            if let (Ask::Write(text), Some((digest, seq))) = (ask, acknowledged) {
                ledger.acked.push(Acked { digest, seq, text, sent });
            }
        }
        Err(kind) => {
            *connection = None;
            ledger.failures.push(Failure { kind, at: sent, request: ask.name(), on_kept: keep, took });
        }
    }
}

/// One request on that connection, or a new one where there is none; it is kept where that is to be.
pub(super) async fn exchange(
    target: SocketAddr,
    connection: &mut Option<Sender>,
    mut request: Request<Full<Bytes>>,
    keep: bool,
) -> Result<(u16, Bytes), Kind> {
    loop {
        let fresh = connection.is_none();
        let mut sender = match connection.take() {
            Some(sender) => sender,
            None => connect(target).await?,
        };
        // A server may end an idle connection. What was seen before anything was sent is no failure,
        // and the request goes on a new one.
        if sender.ready().await.is_err() {
            if fresh {
                return Err(Kind::Cut("before the request".into()));
            }
            continue;
        }
        let answer = timeout(ANSWER_TIMEOUT, async {
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => return Err((error.take_message(), chain(&error.into_error()))),
            };
            let status = response.status().as_u16();
            let body =
                response.into_body().collect().await.map_err(|error| (None, chain(&error)))?.to_bytes();
            Ok((status, body))
        });
        match answer.await {
            Err(_) => return Err(Kind::Timeout),
            Ok(Err((Some(unsent), _))) if !fresh => request = unsent,
            Ok(Err((_, error))) => return Err(Kind::Cut(error)),
            Ok(Ok((status, body))) => {
                if keep && !sender.is_closed() {
                    *connection = Some(sender);
                }
                return Ok((status, body));
            }
        }
    }
}

async fn connect(target: SocketAddr) -> Result<Sender, Kind> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await;
    let stream =
        connected.map_err(|_| Kind::ConnectTimeout)?.map_err(|error| Kind::Connect(error.to_string()))?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| Kind::Cut(error.to_string()))?;
    // It ends with the connection; what went wrong shows at the request.
    tokio::spawn(connection);
    Ok(sender)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text += &format!(": {error}");
        next = error.source();
    }
    text
}

/// Every message that is there, by a client on a host: digest and number. The numbers have no gaps.
pub fn messages(lab: &Lab) -> Result<HashMap<String, u64>, String> {
    let target = SocketAddr::new(ADDRESS.parse().expect("an address"), 80);
    let thread = lab.spawn_at(0, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(pages(target))
    });
    thread.join().expect("the reader ended well")
}

async fn pages(target: SocketAddr) -> Result<HashMap<String, u64>, String> {
    const PAGE: usize = 1000;
    let (mut all, mut after) = (HashMap::new(), 0);
    loop {
        let mut sender = connect(target).await.map_err(|kind| format!("{kind:?}"))?;
        let request =
            Request::get(format!("/messages?after={after}&limit={PAGE}")).header("host", target.to_string());
        let request = request.body(Full::default()).expect("the request is well formed");
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| chain(&error))?.to_bytes();
        if status != 200 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        let page: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        for message in page["messages"].as_array().ok_or("no page")? {
            let seq = message["seq"].as_u64().ok_or("no number")?;
            if seq != after + 1 {
                return Err(format!("{seq} follows {after}"));
            }
            after = seq;
            all.insert(message["digest"].as_str().ok_or("no digest")?.to_owned(), seq);
        }
        if page["next"].is_null() {
            return Ok(all);
        }
    }
}
