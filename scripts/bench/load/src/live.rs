//! Readers of the live feed, while messages are put at a rate: does each have every message once and
//! in order, and how long after the answer to who put it?
//!
//! A reader whose connection ends goes on at the next target, after the last message it had.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::args::LiveOptions;
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::http1::Http1;
use crate::pace::Pace;
use crate::payload::{Payload, Stream};
use crate::run::{cpu_time, seed_of_now};
use crate::websocket::WebSocket;

/// How long a reader rests before it connects again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// The figures of one run.
#[derive(Debug, Serialize)]
pub struct LiveReport {
    pub readers: usize,
    pub targets: usize,
    pub message_bytes: usize,
    pub rate: f64,
    pub seconds: f64,
    /// Messages that were acknowledged.
    pub put: u64,
    /// Frames that were read, over all readers.
    pub frames: u64,
    /// Messages that a reader did not have when the next one came, or at the end.
    pub missing: u64,
    /// Messages that a reader had twice, or too late.
    pub repeated: u64,
    /// Connections that readers lost, and resumed from.
    pub resumes: u64,
    /// From the answer to who put a message to its frame; 0 where the frame was first.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Of who put messages: how long the answer took.
    pub put_p50_ms: f64,
    pub put_p99_ms: f64,
    /// Of puts and of readers, by kind.
    pub errors: BTreeMap<String, u64>,
    /// CPU time of this client, in seconds.
    pub client_s: f64,
}

impl LiveReport {
    /// Whether every reader had every message once and in order.
    pub fn is_whole(&self) -> bool {
        self.put > 0 && self.missing == 0 && self.repeated == 0
    }
}

impl fmt::Display for LiveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} readers at {} targets, {} messages put in {:.1} s: {} frames, {} missing, {} repeated, {} resumes; \
             frame after answer: p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; put: p50 {:.2} ms, p99 {:.2} ms; client {:.1} s CPU",
            self.readers,
            self.targets,
            self.put,
            self.seconds,
            self.frames,
            self.missing,
            self.repeated,
            self.resumes,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.put_p50_ms,
            self.put_p99_ms,
            self.client_s
        )?;
        self.errors.iter().try_for_each(|(kind, count)| write!(f, " {kind}={count}"))
    }
}

/// What the tasks of a run share.
struct Shared {
    options: LiveOptions,
    payload: Payload,
    pace: Pace,
    next: Cell<u64>,
    put: Cell<u64>,
    /// The highest seq that was acknowledged.
    last: Cell<u64>,
    is_over: Cell<bool>,
    /// When each seq was acknowledged.
    answered: RefCell<BTreeMap<u64, Instant>>,
    tally: RefCell<Tally>,
}

#[derive(Default)]
struct Tally {
    frames: u64,
    missing: u64,
    repeated: u64,
    resumes: u64,
    later: Histogram,
    puts: Histogram,
    errors: BTreeMap<String, u64>,
}

/// Runs on a runtime of its own, on this thread.
pub fn run_blocking(options: LiveOptions) -> anyhow::Result<LiveReport> {
    options.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(options))
}

async fn run(options: LiveOptions) -> anyhow::Result<LiveReport> {
    let payload = Payload::new(seed_of_now());
    let start = first_seq(&options, &payload).await?;
    let mut sockets = Vec::new();
    for reader in 0..options.readers {
        let address = options.targets[reader % options.targets.len()];
        let path = format!("/messages/live?after={start}");
        let socket = timeout(options.timeout, WebSocket::open(address, &path)).await;
        sockets
            .push(socket.unwrap_or(Err(Failure::Timeout)).with_context(|| format!("reading at {address}"))?);
    }
    let origin = Instant::now();
    let until = origin + options.seconds;
    let pace = Pace::open(origin, until, options.rate, options.writers, options.timeout)?;
    let shared = Rc::new(Shared {
        payload,
        pace,
        next: Cell::new(0),
        put: Cell::new(0),
        last: Cell::new(start),
        is_over: Cell::new(false),
        answered: RefCell::default(),
        tally: RefCell::default(),
        options,
    });
    let cpu_before = cpu_time();
    let mut writers = JoinSet::new();
    for writer in 0..shared.options.writers {
        writers.spawn_local(write(shared.clone(), writer));
    }
    let mut readers = JoinSet::new();
    for (reader, socket) in sockets.into_iter().enumerate() {
        readers.spawn_local(read(shared.clone(), reader, socket, start));
    }
    while let Some(done) = writers.join_next().await {
        done.context("a writer's task failed")?;
    }
    shared.is_over.set(true);
    let drained = async {
        while let Some(done) = readers.join_next().await {
            let had = done.context("a reader's task failed")?;
            shared.tally.borrow_mut().missing += shared.last.get().saturating_sub(had);
        }
        anyhow::Ok(())
    };
    timeout(shared.options.timeout, drained).await.context("readers did not come to the end in time")??;
    let tally = shared.tally.borrow();
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    Ok(LiveReport {
        readers: shared.options.readers,
        targets: shared.options.targets.len(),
        message_bytes: shared.options.bytes,
        rate: shared.options.rate,
        seconds: shared.options.seconds.as_secs_f64(),
        put: shared.put.get(),
        frames: tally.frames,
        missing: tally.missing,
        repeated: tally.repeated,
        resumes: tally.resumes,
        p50_ms: milliseconds(tally.later.quantile(0.5)),
        p99_ms: milliseconds(tally.later.quantile(0.99)),
        max_ms: milliseconds(tally.later.max()),
        put_p50_ms: milliseconds(tally.puts.quantile(0.5)),
        put_p99_ms: milliseconds(tally.puts.quantile(0.99)),
        errors: tally.errors.clone(),
        client_s: cpu_time().saturating_sub(cpu_before).as_secs_f64(),
    })
}

/// Puts one message, so that the place is known from which all readers begin.
async fn first_seq(options: &LiveOptions, payload: &Payload) -> anyhow::Result<u64> {
    let mut last = None;
    for address in &options.targets {
        match put(&mut None, *address, &body(payload, Stream::Preloaded, 0, options.bytes)).await {
            Ok(seq) => return Ok(seq),
            Err(failure) => last = Some((address, failure)),
        }
    }
    match last {
        Some((address, failure)) => Err(failure).with_context(|| format!("putting a message at {address}")),
        None => anyhow::bail!("there are no targets"),
    }
}

fn body(payload: &Payload, stream: Stream, seq: u64, bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 16);
    body.extend_from_slice(br#"{"message":""#);
    payload.fill(stream, seq, bytes, &mut body);
    body.extend_from_slice(br#""}"#);
    body
}

async fn put(slot: &mut Option<Http1>, address: SocketAddr, body: &[u8]) -> Result<u64, Failure> {
    let mut connection = match slot.take() {
        Some(connection) => connection,
        None => Http1::open(address).await.map_err(Failure::Connect)?,
    };
    let answer = connection.post(b"/messages", b"application/json", body).await?;
    if !matches!(answer.status, 200 | 201) {
        return Err(Failure::Status(answer.status));
    }
    let seq = seq_in(connection.body()).ok_or(Failure::Wrong)?;
    if !answer.last {
        *slot = Some(connection);
    }
    Ok(seq)
}

/// The number behind `"seq":`.
fn seq_in(json: &[u8]) -> Option<u64> {
    const NAME: &[u8] = br#""seq":"#;
    let at = json.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = json[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&json[at..at + digits]).ok()?.parse().ok()
}

async fn write(shared: Rc<Shared>, writer: usize) {
    let targets = &shared.options.targets;
    let (mut turn, mut connection) = (writer, None);
    while let Some(_started) = shared.pace.next().await {
        let number = shared.next.replace(shared.next.get() + 1);
        let body = body(&shared.payload, Stream::Measured, number, shared.options.bytes);
        let sent = Instant::now();
        // A message is named by its content: sent again after a failure, it is the same.
        loop {
            let putting = put(&mut connection, targets[turn % targets.len()], &body);
            match timeout(shared.options.timeout, putting).await.unwrap_or(Err(Failure::Timeout)) {
                Ok(seq) => {
                    let now = Instant::now();
                    shared.put.set(shared.put.get() + 1);
                    shared.last.set(shared.last.get().max(seq));
                    shared.answered.borrow_mut().insert(seq, now);
                    shared.tally.borrow_mut().puts.record(now - sent);
                    break;
                }
                Err(failure) => {
                    *shared
                        .tally
                        .borrow_mut()
                        .errors
                        .entry(format!("put-{}", failure.kind()))
                        .or_default() += 1;
                    (turn, connection) = (turn + 1, None);
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    if sent.elapsed() > shared.options.timeout {
                        break;
                    }
                }
            }
        }
    }
}

/// Reads until the writers are done and everything was read; answers the last seq that was read.
async fn read(shared: Rc<Shared>, reader: usize, socket: WebSocket, start: u64) -> u64 {
    let targets = &shared.options.targets;
    let (mut turn, mut socket, mut last) = (reader, Some(socket), start);
    loop {
        if shared.is_over.get() && last >= shared.last.get() {
            return last;
        }
        let Some(open) = &mut socket else {
            turn += 1;
            let address = targets[turn % targets.len()];
            let path = format!("/messages/live?after={last}");
            match timeout(shared.options.timeout, WebSocket::open(address, &path)).await {
                Ok(Ok(opened)) => socket = Some(opened),
                _ => tokio::time::sleep(RECONNECT_PAUSE).await,
            }
            continue;
        };
        match timeout(Duration::from_secs(1), open.next()).await {
            // Nothing came: is it over?
            Err(_) => {}
            Ok(Ok(text)) => {
                let now = Instant::now();
                let Some(seq) = seq_in(&text[..text.len().min(40)]) else {
                    *shared.tally.borrow_mut().errors.entry("wrong-frame".into()).or_default() += 1;
                    continue;
                };
                let mut tally = shared.tally.borrow_mut();
                tally.frames += 1;
                if seq <= last {
                    tally.repeated += 1;
                    continue;
                }
                tally.missing += seq - last - 1;
                last = seq;
                let later = shared.answered.borrow().get(&seq).map(|answered| now - *answered);
                tally.later.record(later.unwrap_or(Duration::ZERO));
            }
            Ok(Err(_)) => {
                shared.tally.borrow_mut().resumes += 1;
                socket = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_is_found_in_answers_and_in_frames() {
        assert_eq!(seq_in(br#"{"digest":"2c","seq":17}"#), Some(17));
        assert_eq!(seq_in(br#"{"seq":3,"digest":"#), Some(3));
        assert_eq!(seq_in(br#"{"seq":}"#), None);
        assert_eq!(seq_in(b""), None);
    }
}
