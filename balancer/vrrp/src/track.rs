//! What the claim to the addresses depends on: the proxy in this process, and what is tracked.
//!
//! One task for each tracked thing, and one that puts all together. Beside asking now and then, a
//! connection is held with which nothing is done: its kernel closes it when the process dies, and
//! then the question is asked at once.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Between two questions.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Time for an answer.
const TIMEOUT: Duration = Duration::from_millis(400);
/// Silences in a row until it counts as weak: it may hang, or its host has much to do, and then the others' perhaps
/// too. A clear no counts at once.
const SILENCES_MAX: u32 = 2;
/// Good answers in a row until one that was bad is believed again.
const GOOD_MIN: u32 = 3;
/// Answers in a row, a second and a half, until a proxy is believed to have no backend: those of all proxies are the
/// same, and each notices their loss and return a moment apart.
const WEAK_MIN: u32 = 15;
/// As long for the proxy in this process.
pub const WEAK_AFTER: Duration = INTERVAL.saturating_mul(WEAK_MIN);
/// Results on their way.
const RESULTS_MAX: usize = 64;
/// Most things that are tracked.
pub const TRACKS_MAX: usize = 16;
/// What `/-/ready` says, with 503, where it could do no more than say 503: it is well itself, and where all
/// say so, a client is better answered that than not at all. So is any 503 but the two that follow.
pub const NO_BACKEND: &str = "no backend is ready";
pub const CORE_HANGS: &str = "a core hangs";
/// A proxy that follows a cluster's configuration, and knows nothing of it.
pub const NOT_TOLD: &str = "no node has told the configuration yet";
/// What it says, with 503, where it must not get new connections.
pub const DRAINING: &str = "draining";
/// In what it says, with 503, where it has as many clients as it may: it is well, and another would be as full.
pub const FULL: &str = "too many connections";
/// Most bytes of an answer that are read for that.
const ANSWER_BYTES_MAX: u64 = 1024;

/// How well a tracked thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Well,
    Weak,
    /// As an answer: it took the connection, and ended it. That is one who has no room, or what stands before a
    /// container (Docker's proxy) in which nothing listens.
    Ended,
    Failed,
    /// It fails, and says that it ends: until another answers in its place, that it says no more is no news.
    Drains,
}

/// How well the proxy in this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Well,
    /// It answers, but could do no more than say 503.
    Weak(&'static str),
    /// It must not get new connections.
    Fault(&'static str),
}

/// What a failure costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// The claim is given up.
    Fault,
    /// The priority is less by this.
    Weight(u8),
}

/// Something that is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// As it was given, for people.
    pub name: String,
    pub address: SocketAddr,
    /// What is asked for by HTTP; None: that it accepts a connection is enough.
    pub path: Option<String>,
    pub cost: Cost,
}

impl Track {
    /// Reads `http://IP:PORT/PATH` or `tcp://IP:PORT`, then `fault` (the default) or `weight=N`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?} cannot be tracked: expected http://IP:PORT/PATH or tcp://IP:PORT, then fault or \
                 weight=N, as in `http://127.0.0.1:8000/-/ready fault`"
            )
        };
        let mut words = text.split_whitespace();
        let name = words.next().ok_or_else(expected)?.to_owned();
        let cost = match words.next() {
            None | Some("fault") => Cost::Fault,
            Some(word) => {
                let weight = word.strip_prefix("weight=").and_then(|weight| weight.parse().ok());
                Cost::Weight(weight.filter(|weight| (1..=253).contains(weight)).ok_or_else(expected)?)
            }
        };
        if words.next().is_some() {
            return Err(expected());
        }
        let (address, path) = match (name.strip_prefix("http://"), name.strip_prefix("tcp://")) {
            (Some(rest), _) => match rest.split_once('/') {
                Some((address, path)) => (address, Some(format!("/{path}"))),
                None => (rest, Some("/".to_owned())),
            },
            (None, Some(address)) => (address, None),
            (None, None) => return Err(expected()),
        };
        let address = address.replace("localhost", "127.0.0.1");
        let address = match address.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) if path.is_some() => {
                SocketAddr::new(address.parse::<IpAddr>().map_err(|_| expected())?, 80)
            }
            Err(_) => return Err(expected()),
        };
        Ok(Self { name, address, path, cost })
    }
}

/// What it all comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assessment {
    pub fault: Option<String>,
    pub weak: Option<String>,
    /// What is taken off the priority, and why.
    pub penalty: u8,
    pub penalty_reason: Option<String>,
}

/// Starts to track. Must be called within a runtime; ends with the receiver.
///
/// Nothing is claimed until each thing has been asked once.
pub fn start(tracks: Vec<Track>, own: Option<watch::Receiver<Health>>) -> watch::Receiver<Assessment> {
    let (results, mut incoming) = mpsc::channel(RESULTS_MAX);
    for (at, track) in tracks.iter().cloned().enumerate() {
        tokio::spawn(follow(at, track, results.clone()));
    }
    drop(results);
    let mut found: Vec<Option<Found>> = vec![None; tracks.len()];
    let mut own = own;
    let first = assess(&tracks, &found, own.as_mut().map(|own| own.borrow_and_update().clone()));
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        loop {
            let changed = async {
                match &mut own {
                    Some(own) => own.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((at, it)) = incoming.recv() => found[at] = Some(it),
                true = changed => {}
                () = sender.closed() => return,
                else => return,
            }
            let next = assess(&tracks, &found, own.as_mut().map(|own| own.borrow_and_update().clone()));
            sender.send_if_modified(|before| {
                let changed = *before != next;
                *before = next;
                changed
            });
        }
    });
    receiver
}

fn assess(tracks: &[Track], found: &[Option<Found>], own: Option<Health>) -> Assessment {
    let mut all = Assessment::default();
    match own {
        Some(Health::Weak(why)) => all.weak = Some(why.into()),
        Some(Health::Fault(why)) => all.fault = Some(why.into()),
        Some(Health::Well) | None => {}
    }
    for (track, found) in tracks.iter().zip(found) {
        match (found, track.cost) {
            (Some(Found::Well), _) => {}
            (Some(Found::Weak | Found::Ended), Cost::Fault) => {
                all.weak = Some(format!("{} can serve nobody, or is silent", track.name))
            }
            (Some(Found::Failed | Found::Drains), Cost::Fault) => {
                all.fault = Some(format!("{} fails", track.name))
            }
            (Some(_), Cost::Weight(weight)) => {
                all.penalty = all.penalty.saturating_add(weight);
                all.penalty_reason = Some(format!("{} fails", track.name));
            }
            (None, _) => all.fault = Some(format!("{} has not answered yet", track.name)),
        }
    }
    all
}

/// Answers of a kind that came in a row.
#[derive(Debug, Default)]
struct Row {
    silences: u32,
    weak: u32,
    good: u32,
}

impl Row {
    /// Of an answer, or of none in time: what is believed now, where `told` was believed before.
    fn next(&mut self, told: Option<Found>, answer: Option<Found>) -> Option<Found> {
        if answer == Some(Found::Well) {
            *self = Self { good: self.good.saturating_add(1), ..Self::default() };
            let is_new = matches!(told, None | Some(Found::Well));
            return (is_new || self.good >= GOOD_MIN).then_some(Found::Well);
        }
        // What is bad in one way after the other is no better for it.
        self.good = 0;
        match answer {
            Some(Found::Ended) | None if told == Some(Found::Drains) => told,
            Some(Found::Ended) | None if told == Some(Found::Failed) => {
                self.weak = self.weak.saturating_add(1);
                Some(if self.weak >= WEAK_MIN { Found::Weak } else { Found::Failed })
            }
            Some(Found::Weak | Found::Ended) => {
                self.weak = self.weak.saturating_add(1);
                (told != Some(Found::Well) || self.weak >= WEAK_MIN).then_some(Found::Weak)
            }
            Some(no) => {
                (self.weak, self.silences) = (0, 0);
                Some(no)
            }
            None => {
                self.silences = self.silences.saturating_add(1);
                (self.silences >= SILENCES_MAX).then_some(Found::Weak)
            }
        }
    }
}

/// Asks one thing again and again; each change is sent.
async fn follow(at: usize, track: Track, results: mpsc::Sender<(usize, Found)>) {
    let mut row = Row::default();
    let mut told = None;
    let mut held: Option<TcpStream> = None;
    let mut held_since = Instant::now();
    loop {
        let answer = timeout(TIMEOUT, ask(&track)).await;
        let found = row.next(told, answer.ok().map(|answer| answer.unwrap_or(Found::Failed)));
        if let Some(found) = found.filter(|it| told != Some(*it)) {
            tracing::info!(track = track.name, ?found, "tracked");
            told = Some(found);
            if results.send((at, found)).await.is_err() {
                return;
            }
        }
        if held.is_none() && told == Some(Found::Well) {
            held = timeout(TIMEOUT, TcpStream::connect(track.address)).await.ok().and_then(Result::ok);
            held_since = Instant::now();
        }
        let lost = async {
            match &mut held {
                // It may say anything; only its end counts.
                Some(stream) => while matches!(stream.read(&mut [0; 512]).await, Ok(n) if n > 0) {},
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lost => {
                held = None;
                // One that is closed as soon as it is there says nothing, however often it is asked for.
                if held_since.elapsed() < INTERVAL {
                    sleep(INTERVAL).await;
                }
            }
            () = sleep(INTERVAL) => {}
            () = results.closed() => return,
        }
    }
}

/// An error is a clear no; but one who took the connection and ended it is there.
async fn ask(track: &Track) -> io::Result<Found> {
    let ended = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
    match ask_with(track, "").await {
        Err(error) if ended.contains(&error.kind()) => Ok(Found::Ended),
        found => found,
    }
}

/// Tells what is tracked by HTTP something, beside the usual question: a line of the request's head.
pub async fn tell(track: &Track, name: &str, value: &str) -> io::Result<()> {
    match timeout(TIMEOUT, ask_with(track, &format!("{name}: {value}\r\n"))).await?? {
        Found::Well => Ok(()),
        Found::Weak | Found::Ended | Found::Failed | Found::Drains => Err(ErrorKind::Other.into()),
    }
}

async fn ask_with(track: &Track, field: &str) -> io::Result<Found> {
    let mut stream = TcpStream::connect(track.address).await?;
    let Some(path) = &track.path else { return Ok(Found::Well) };
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{field}connection: close\r\n\r\n", track.address);
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..)).unwrap_or_default();
    if status.starts_with(b"2") {
        return Ok(Found::Well);
    }
    if status != b"503" {
        return Ok(Found::Failed);
    }
    let mut rest = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut rest).await?;
    let body = rest.windows(4).position(|it| it == b"\r\n\r\n").map_or(&[][..], |at| &rest[at + 4..]);
    Ok(if body.trim_ascii_end() == DRAINING.as_bytes() {
        Found::Drains
    } else if body.windows(FULL.len()).any(|part| part == FULL.as_bytes()) {
        Found::Well
    } else {
        Found::Weak
    })
}

#[cfg(test)]
mod tests;
