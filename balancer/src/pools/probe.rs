//! Asks a backend, again and again, whether it is well.
//!
//! One task per backend, on the control runtime. A hung process still accepts connections (its
//! kernel does), so only an answer counts.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::pools::source::{Probe, Target};
use crate::pools::tls::{BackendTls, Stream, distrust};

/// Between a good answer and the next question.
const INTERVAL: Duration = Duration::from_millis(250);
/// Time for an answer. Twice this and the interval must stay below the 2 s after which a hung
/// backend is out.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Longest time for an answer of a service's server, which has as long as the next question is away: it may be far.
const SERVICE_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// How often who is asked at another address proves over TLS who it is.
const TRUST_INTERVAL: Duration = Duration::from_secs(2);
/// Time for that proof. With the interval and two time-outs behind it, it must stay below the 2 s, too.
const TRUST_TIMEOUT: Duration = Duration::from_millis(500);
/// Time-outs in a row that are a silence: one alone may be a busy moment.
const SILENCES_MAX: u32 = 2;
/// Refusals, or refusals and time-outs, in a row that are believed: one alone is no death.
const MISSES_MAX: u32 = 2;
/// Between a first refusal and the next question.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What probes know of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Unknown,
    Up,
    /// It answers that it is not ready; what it has, it finishes.
    Unready,
    /// Nobody listens there, or the connection ends with no answer. It may still finish what it has: who
    /// ends in order closes the listener first.
    Refused,
    /// It is there, and does not prove over TLS that it is whom requests are meant for, or does not believe that of
    /// this balancer.
    Untrusted,
    /// It does not answer, nor does its kernel say why: it hangs, or its host is gone.
    Silent,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Unready => "unready",
            Self::Refused => "refused",
            Self::Untrusted => "untrusted",
            Self::Silent => "silent",
        }
    }
}

/// Whether an error is the word of a host that is there: nobody listens, or who did has ended. Any other, as a
/// host or network that cannot be reached, says no more than a silence does.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | UnexpectedEof
    )
}

/// Whether a connection failed because this process or host has nothing left to make one with: that says
/// nothing of who was to be reached.
pub fn is_own_lack(error: &io::Error) -> bool {
    let own = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
        // A rule of this host's forbids it.
        libc::EACCES,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|code| own.contains(&code))
}

/// Starts to probe; each result is sent.
pub fn start(
    serial: u64,
    target: &Target,
    tls: Option<BackendTls>,
    results: mpsc::Sender<(u64, Health)>,
) -> AbortHandle {
    let mut asked = Asked::new(target.probe.clone(), target.address, tls);
    tokio::spawn(async move {
        let mut row = Row::default();
        loop {
            let (health, pause) = row.next(asked.ask().await);
            if let Some(health) = health
                && results.send((serial, health)).await.is_err()
            {
                return;
            }
            sleep(if pause == INTERVAL { asked.interval() } else { pause }).await;
        }
    })
    .abort_handle()
}

/// What came in a row that may be chance.
#[derive(Debug, Default)]
struct Row {
    /// Silences, with nothing between them.
    silences: u32,
    /// Questions that were not answered, whatever came instead.
    misses: u32,
}

impl Row {
    /// Of an answer, or of none in time: what is believed now, and when to ask again.
    fn next(&mut self, answer: Option<io::Result<Health>>) -> (Option<Health>, Duration) {
        match answer {
            // Nobody was asked.
            Some(Err(_)) => (None, INTERVAL),
            Some(Ok(Health::Refused)) => {
                (self.silences, self.misses) = (0, self.misses.saturating_add(1));
                match self.misses >= MISSES_MAX {
                    true => (Some(Health::Refused), INTERVAL),
                    false => (None, REFUSED_PAUSE),
                }
            }
            // As long as a time-out would have taken: an address that is away for a moment is no death.
            Some(Ok(Health::Silent)) => (self.silent(), TIMEOUT),
            Some(Ok(health)) => {
                *self = Self::default();
                (Some(health), INTERVAL)
            }
            // After a silence the next question follows at once.
            None => (self.silent(), Duration::ZERO),
        }
    }

    /// Where refusals and silences alternate, it gets nothing new.
    fn silent(&mut self) -> Option<Health> {
        (self.silences, self.misses) = (self.silences.saturating_add(1), self.misses.saturating_add(1));
        if self.silences >= SILENCES_MAX {
            Some(Health::Silent)
        } else {
            (self.misses >= MISSES_MAX).then_some(Health::Refused)
        }
    }
}

/// Who is asked, and how.
struct Asked {
    probe: Probe,
    http: SocketAddr,
    tls: Option<BackendTls>,
    /// It has proved who it is, and no answer since says otherwise, nor that another may be there.
    trusted: bool,
    /// When it was last asked for that at another address than it is probed at.
    proof_asked: Option<Instant>,
    /// The log has that it does not.
    complained: bool,
}

impl Asked {
    fn new(probe: Probe, http: SocketAddr, tls: Option<BackendTls>) -> Self {
        let tls = tls.map(BackendTls::proving);
        Self { probe, http, tls, trusted: false, proof_asked: None, complained: false }
    }

    fn interval(&self) -> Duration {
        match &self.probe {
            Probe::Service(_, question) => question.interval,
            _ => INTERVAL,
        }
    }

    /// Time for an answer.
    fn patience(&self) -> Duration {
        match &self.probe {
            Probe::Service(_, question) => question.interval.clamp(TIMEOUT, SERVICE_TIMEOUT_MAX),
            _ => TIMEOUT,
        }
    }

    /// None: no answer in time. An error is of this process's own, and says nothing of the backend.
    async fn ask(&mut self) -> Option<io::Result<Health>> {
        let (well, open) = match timeout(self.patience(), self.answer()).await.ok()? {
            Ok(answer) => answer,
            Err(error) => return Some(self.failed(error)),
        };
        let Some(tls) = self.tls.clone().filter(|_| well) else { return Some(Ok(Self::well(well))) };
        let asks = match &self.probe {
            Probe::Connects(_) => true,
            Probe::Readyz(_) => {
                let is_due = self.proof_asked.is_none_or(|at| at.elapsed() >= TRUST_INTERVAL);
                is_due || !self.trusted
            }
            // They were answered over TLS.
            Probe::Answers(_) | Probe::Check(..) | Probe::Service(..) => false,
        };
        if !asks {
            self.complained = false;
            return Some(Ok(Health::Up));
        }
        self.proof_asked = Some(Instant::now());
        Some(match timeout(TRUST_TIMEOUT, prove(open, self.http, &tls)).await {
            Ok(Ok(())) => {
                (self.trusted, self.complained) = (true, false);
                Ok(Health::Up)
            }
            Ok(Err(error)) if is_contradiction(&error) => self.failed(error),
            // It is well by its own word, and may be full: what it has is not cut for that. One that never
            // proved who it is gets nothing.
            Ok(Err(error)) if is_own_lack(&error) && !self.trusted => Err(error),
            Ok(Err(_)) | Err(_) => Ok(Self::well(self.trusted)),
        })
    }

    fn well(is_well: bool) -> Health {
        if is_well { Health::Up } else { Health::Unready }
    }

    fn failed(&mut self, error: io::Error) -> io::Result<Health> {
        if is_own_lack(&error) {
            return Err(error);
        }
        let health = match distrust(&error) {
            Some(why) => {
                // Said when it begins.
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(
                        backend = %self.http,
                        "no TLS with it, and no request goes there (of a node: it takes it with --http-tls): {why}"
                    );
                }
                Health::Untrusted
            }
            None if error.kind() == io::ErrorKind::InvalidData => Health::Unready,
            None if is_refusal(&error) => Health::Refused,
            None => return Ok(Health::Silent),
        };
        // Who is there next may be another.
        self.trusted = false;
        Ok(health)
    }

    /// Whether it is well, and the connection that shows it where nothing was said on it.
    async fn answer(&mut self) -> io::Result<(bool, Option<TcpStream>)> {
        let tls = self.tls.as_ref();
        Ok(match &self.probe {
            Probe::Connects(address) => (true, Some(TcpStream::connect(*address).await?)),
            Probe::Answers(address) => (status(*address, "/", tls).await? < 500, None),
            Probe::Service(address, question) => match &question.path {
                Some(path) => {
                    let stream = connect(*address, tls).await?;
                    let status = status_on(stream, &question.host, path).await?;
                    (question.statuses.contains(&status), None)
                }
                None => (connect(*address, tls).await.map(|_| true)?, None),
            },
            Probe::Check(address, path) => (status(*address, path, tls).await? < 400, None),
            // Its admin address speaks plain HTTP, and says no more than a word. Where requests go it is asked now
            // and then.
            Probe::Readyz(address) => (status(*address, "/readyz", None).await? == 200, None),
        })
    }
}

/// Whether that is the word of who is there, and not that there was none.
fn is_contradiction(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Who is at `address` proves over TLS who it is, on a connection that is `open` or on another.
async fn prove(open: Option<TcpStream>, address: SocketAddr, tls: &BackendTls) -> io::Result<()> {
    let stream = match open {
        Some(stream) => stream,
        None => TcpStream::connect(address).await?,
    };
    let stream = Stream::Tls(Box::new(tls.connect(stream, address).await?));
    if tls.is_mutual() {
        // Whether it believes this balancer shows in an answer alone, whatever that says: over TLS 1.3 the
        // handshake is over on this side before it has judged.
        status_on(stream, &address.to_string(), "/").await?;
    }
    Ok(())
}

async fn connect(address: SocketAddr, tls: Option<&BackendTls>) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    Ok(match tls {
        None => Stream::Plain(stream),
        Some(tls) => Stream::Tls(Box::new(tls.connect(stream, address).await?)),
    })
}

/// The status that a `GET` of `path` is answered with.
async fn status(address: SocketAddr, path: &str, tls: Option<&BackendTls>) -> io::Result<u16> {
    status_on(connect(address, tls).await?, &address.to_string(), path).await
}

async fn status_on(mut stream: Stream, host: &str, path: &str) -> io::Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "));
    let status = status.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests;
