//! Asks a backend, again and again, whether it is well.
//!
//! One task per backend, on the control runtime. A hung process still accepts connections (its
//! kernel does), so only an answer counts.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::pools::source::{Probe, Target};

/// Between a good answer and the next question.
const INTERVAL: Duration = Duration::from_millis(250);
/// Time for an answer. Twice this and the interval must stay below the 2 s after which a hung
/// backend is out.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Time-outs in a row that make a backend down: one alone may be a busy moment.
const TIMEOUTS_MAX: u32 = 2;

/// What probes know of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Unknown,
    Up,
    /// It answers that it is not ready; what it has, it finishes.
    Unready,
    /// It does not answer.
    Down,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Unready => "unready",
            Self::Down => "down",
        }
    }
}

/// Starts to probe; each result is sent.
pub fn start(serial: u64, target: &Target, results: mpsc::Sender<(u64, Health)>) -> AbortHandle {
    let probe = target.probe;
    tokio::spawn(async move {
        let mut timeouts = 0;
        loop {
            let health = match timeout(TIMEOUT, ask(probe)).await {
                Ok(health) => {
                    timeouts = 0;
                    Some(health)
                }
                Err(_) => {
                    timeouts += 1;
                    (timeouts >= TIMEOUTS_MAX).then_some(Health::Down)
                }
            };
            if let Some(health) = health
                && results.send((serial, health)).await.is_err()
            {
                return;
            }
            // After a silence the next question follows at once.
            if timeouts == 0 {
                sleep(INTERVAL).await;
            }
        }
    })
    .abort_handle()
}

async fn ask(probe: Probe) -> Health {
    let answer = match probe {
        Probe::Connects(address) => {
            return if TcpStream::connect(address).await.is_ok() { Health::Up } else { Health::Down };
        }
        Probe::Readyz(address) => status(address, "/readyz").await.map(|status| status == 200),
        Probe::Answers(address) => status(address, "/").await.map(|status| status < 500),
    };
    match answer {
        Ok(true) => Health::Up,
        Ok(false) => Health::Unready,
        Err(_) => Health::Down,
    }
}

/// The status that a `GET` of `path` is answered with.
async fn status(address: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status = line.strip_prefix(b"HTTP/1.1 ").and_then(|text| std::str::from_utf8(text).ok());
    status.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
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
        let ready = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert_eq!(ask(Probe::Readyz(ready)).await, Health::Up);
        let unready = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(ask(Probe::Readyz(unready)).await, Health::Unready);
        let missing = server(b"HTTP/1.1 404 Not Found\r\n\r\n").await;
        assert_eq!(ask(Probe::Answers(missing)).await, Health::Up);
        let silent = server(b"").await;
        assert_eq!(ask(Probe::Readyz(silent)).await, Health::Down);
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(ask(Probe::Readyz(gone)).await, Health::Down);
        assert_eq!(ask(Probe::Connects(gone)).await, Health::Down);
    }

    #[tokio::test]
    async fn a_hung_backend_is_down_after_two_silences() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut target = crate::pools::source::fixed(&[address]).remove(0);
        target.probe = Probe::Readyz(address);
        let (results, mut incoming) = mpsc::channel(1);
        let begun = std::time::Instant::now();
        let probe = start(7, &target, results);
        assert_eq!(incoming.recv().await, Some((7, Health::Down)));
        assert!(begun.elapsed() < Duration::from_millis(1800));
        probe.abort();
    }
}
