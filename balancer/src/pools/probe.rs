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
/// How often who is asked at another address proves over TLS who it is.
const TRUST_INTERVAL: Duration = Duration::from_secs(2);
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
    let mut asked =
        Asked { probe: target.probe.clone(), http: target.address, tls, trusted: None, complained: false };
    tokio::spawn(async move {
        let mut row = Row::default();
        loop {
            let (health, pause) = row.next(timeout(TIMEOUT, asked.ask()).await.ok());
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
    /// When it last proved who it is, where nothing else was heard of it since.
    trusted: Option<Instant>,
    /// The log has that it does not.
    complained: bool,
}

impl Asked {
    fn interval(&self) -> Duration {
        match &self.probe {
            Probe::Service(_, question) => question.interval,
            _ => INTERVAL,
        }
    }

    /// An error is of this process's own, and says nothing of the backend.
    async fn ask(&mut self) -> io::Result<Health> {
        match self.answer().await {
            Ok(true) => Ok(Health::Up),
            Ok(false) => Ok(Health::Unready),
            Err(error) if is_own_lack(&error) => Err(error),
            Err(error) => {
                self.trusted = None;
                Ok(match distrust(&error) {
                    Some(why) => {
                        // Said when it begins.
                        if !std::mem::replace(&mut self.complained, true) {
                            tracing::warn!(
                                backend = %self.http,
                                "no TLS with it, and no request goes there (a node takes it with --http-tls): {why}"
                            );
                        }
                        Health::Untrusted
                    }
                    None if error.kind() == io::ErrorKind::InvalidData => Health::Unready,
                    None if is_refusal(&error) => Health::Refused,
                    None => Health::Silent,
                })
            }
        }
    }

    async fn answer(&mut self) -> io::Result<bool> {
        let tls = self.tls.as_ref();
        let well = match &self.probe {
            // Whether it believes this balancer shows in an answer alone: over TLS 1.3 the handshake is over on
            // this side before it has judged.
            Probe::Connects(address) if tls.is_some_and(BackendTls::is_mutual) => {
                status(*address, "/", tls).await? < 500
            }
            Probe::Connects(address) => connect(*address, tls).await.map(|_| true)?,
            Probe::Answers(address) => status(*address, "/", tls).await? < 500,
            Probe::Service(address, question) => match &question.path {
                Some(path) => question.statuses.contains(&status(*address, path, tls).await?),
                None => connect(*address, tls).await.map(|_| true)?,
            },
            Probe::Check(address, path) => status(*address, path, tls).await? < 400,
            // Its admin address speaks plain HTTP, and says no more than a word. Where requests go it is asked now
            // and then.
            Probe::Readyz(address) => {
                let well = status(*address, "/readyz", None).await? == 200;
                let is_due = self.trusted.is_none_or(|at| at.elapsed() >= TRUST_INTERVAL);
                if tls.is_none() || !well || !is_due {
                    return Ok(well);
                }
                status(self.http, "/", tls).await?;
                self.trusted = Some(Instant::now());
                well
            }
        };
        self.complained = false;
        Ok(well)
    }
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
    let mut stream = connect(address, tls).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "));
    let status = status.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buf = [0; 1024];
                let _ = stream.read(&mut buf).await;
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_probe_tells_ready_from_not_ready_from_gone() {
        let asked = async |probe| {
            let http = ([127, 0, 0, 1], 1).into();
            let mut asked = Asked { probe, http, tls: None, trusted: None, complained: false };
            asked.ask().await.unwrap()
        };
        let ready = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert_eq!(asked(Probe::Readyz(ready)).await, Health::Up);
        let unready = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(asked(Probe::Readyz(unready)).await, Health::Unready);
        assert_eq!(asked(Probe::Connects(unready)).await, Health::Up);
        let missing = server(b"HTTP/1.0 404 Not Found\r\n\r\n").await;
        assert_eq!(asked(Probe::Answers(missing)).await, Health::Up);
        assert_eq!(asked(Probe::Check(missing, "/health".into())).await, Health::Unready);
        let other = server(b"220 mail.test ESMTP\r\n").await;
        assert_eq!(asked(Probe::Readyz(other)).await, Health::Unready);
        let silent = server(b"").await;
        assert_eq!(asked(Probe::Readyz(silent)).await, Health::Refused);
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(asked(Probe::Readyz(gone)).await, Health::Refused);
        assert_eq!(asked(Probe::Connects(gone)).await, Health::Refused);
    }

    #[test]
    fn one_refusal_or_silence_is_chance_two_are_believed_and_ones_own_lack_says_nothing() {
        let refused = || Some(Ok(Health::Refused));
        let unreachable = || Some(Ok(Health::Silent));
        let lack = || Some(Err(io::Error::from_raw_os_error(libc::EMFILE)));
        let mut row = Row::default();
        for (answer, believed) in [
            (refused(), None),
            (Some(Ok(Health::Up)), Some(Health::Up)),
            (refused(), None),
            (lack(), None),
            (refused(), Some(Health::Refused)),
            (Some(Ok(Health::Up)), Some(Health::Up)),
            (None, None),
            (lack(), None),
            (None, Some(Health::Silent)),
            (refused(), Some(Health::Refused)),
            (None, Some(Health::Refused)),
            (unreachable(), Some(Health::Silent)),
            (Some(Ok(Health::Unready)), Some(Health::Unready)),
            (lack(), None),
            (refused(), None),
            (None, Some(Health::Refused)),
            (Some(Ok(Health::Up)), Some(Health::Up)),
            (unreachable(), None),
            (None, Some(Health::Silent)),
        ] {
            let what = format!("{answer:?}");
            assert_eq!(row.next(answer).0, believed, "{what}");
        }
    }

    #[test]
    fn who_cannot_be_reached_has_not_refused() {
        for (code, refuses) in [
            (libc::ECONNREFUSED, true),
            (libc::ECONNRESET, true),
            (libc::EHOSTUNREACH, false),
            (libc::ENETUNREACH, false),
            (libc::ETIMEDOUT, false),
        ] {
            assert_eq!(is_refusal(&io::Error::from_raw_os_error(code)), refuses, "{code}");
        }
        let mut row = Row::default();
        assert_eq!(row.next(Some(Ok(Health::Silent))), (None, TIMEOUT), "it is not asked in a busy loop");
    }

    #[tokio::test]
    async fn a_hung_backend_is_silent_after_two_time_outs() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut target = crate::pools::source::fixed(&[address], None).remove(0);
        target.probe = Probe::Readyz(address);
        let (results, mut incoming) = mpsc::channel(1);
        let begun = std::time::Instant::now();
        let probe = start(7, &target, None, results);
        assert_eq!(incoming.recv().await, Some((7, Health::Silent)));
        assert!(begun.elapsed() < Duration::from_millis(1800));
        probe.abort();
    }
}
