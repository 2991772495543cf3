//! A client that begins a new connection every millisecond, and one that keeps a connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use super::lan::{Lan, spawn_in, within};
use super::program::HTTP;

/// Time for one attempt: less than the second after which a lost SYN is sent again.
const TIMEOUT: Duration = Duration::from_millis(700);

/// Time for one of a client that waits: longer than it takes to send a lost SYN twice more.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// One attempt.
#[derive(Debug)]
pub struct Attempt {
    /// When it began, and how long it took.
    pub at: Instant,
    pub took: Duration,
    /// The body, or what went wrong.
    pub result: Result<String, String>,
}

/// Asks until it is stopped.
pub struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Attempt>>,
}

impl Client {
    /// Begins a connection to the address every `every`.
    pub fn start(lan: &Lan, address: &str, every: Duration) -> Self {
        Self::start_with(lan, address, every, TIMEOUT)
    }

    /// The same, waiting for each as long as clients do.
    pub fn start_patient(lan: &Lan, address: &str, every: Duration) -> Self {
        Self::start_with(lan, address, every, PATIENT_TIMEOUT)
    }

    fn start_with(lan: &Lan, address: &str, every: Duration, patience: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (stop.clone(), address.to_owned());
        let thread = spawn_in(&lan.client(), move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut attempts = tokio::task::JoinSet::new();
                let mut ticks = tokio::time::interval(every);
                while !stopped.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let address = address.clone();
                    attempts.spawn(async move {
                        let at = Instant::now();
                        let result = timeout(patience, ask(&address))
                            .await
                            .unwrap_or_else(|_| Err("timed out".into()));
                        Attempt { at, took: at.elapsed(), result }
                    });
                }
                let mut all = attempts.join_all().await;
                all.sort_by_key(|attempt| attempt.at);
                all
            })
        });
        Self { stop, thread }
    }

    pub fn finish(self) -> Vec<Attempt> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client ended well")
    }
}

async fn ask(address: &str) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((address, HTTP)).await.map_err(text)?;
    exchange(&mut stream, "connection: close\r\n").await.map(|answer| answer.body).map_err(text)
}

struct Answer {
    body: String,
    /// The server says that it closes the connection.
    closes: bool,
}

async fn exchange(stream: &mut TcpStream, more: &str) -> std::io::Result<Answer> {
    let malformed = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\n{more}\r\n").as_bytes()).await?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend(&buffer[..n]);
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
            .ok_or_else(malformed)?;
        if body.len() >= length {
            let closes = head.to_ascii_lowercase().contains("connection: close");
            return Ok(Answer { body: body[..length].to_owned(), closes });
        }
    }
}

/// From the first failed attempt to the first good one after the last: what a client sees.
pub fn outage(attempts: &[Attempt]) -> Duration {
    let failed = |attempt: &&Attempt| attempt.result.is_err();
    let (Some(first), Some(last)) = (attempts.iter().find(failed), attempts.iter().rfind(failed)) else {
        return Duration::ZERO;
    };
    let after = attempts.iter().find(|attempt| attempt.at > last.at);
    after.map_or(Duration::MAX, |after| after.at - first.at)
}

pub fn failures(attempts: &[Attempt]) -> usize {
    attempts.iter().filter(|attempt| attempt.result.is_err()).count()
}

/// A connection that is kept while requests are made on it, one after another: how many were
/// answered, and what ended it before its time. That the server said it would close is an end in
/// order; then a new one is kept.
pub fn keep_connection(
    lan: &Lan,
    address: &str,
    stop: Arc<AtomicBool>,
) -> JoinHandle<(usize, Option<String>)> {
    let address = address.to_owned();
    spawn_in(&lan.client(), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut answered = 0;
            let mut pace = interval(Duration::from_millis(1));
            loop {
                let mut stream = match TcpStream::connect((address.as_str(), HTTP)).await {
                    Ok(stream) => stream,
                    Err(error) => return (answered, Some(format!("connect: {error}"))),
                };
                loop {
                    pace.tick().await;
                    match timeout(TIMEOUT, exchange(&mut stream, "")).await {
                        Ok(Ok(answer)) => {
                            answered += 1;
                            if answer.closes {
                                break;
                            }
                        }
                        Ok(Err(error)) => return (answered, Some(error.to_string())),
                        Err(_) => return (answered, Some("timed out".into())),
                    }
                    if stop.load(Ordering::Relaxed) {
                        return (answered, None);
                    }
                }
            }
        })
    })
}

/// A connection of the client's from a port of its choice, which it may have had before.
pub fn connect_from(lan: &Lan, port: u16, address: &str) -> std::io::Result<std::net::TcpStream> {
    let to = SocketAddr::new(address.parse().expect("an address"), HTTP);
    within(&lan.client(), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?;
            let stream = timeout(TIMEOUT, socket.connect(to)).await??.into_std()?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENT_TIMEOUT))?;
            Ok(stream)
        })
    })
}
