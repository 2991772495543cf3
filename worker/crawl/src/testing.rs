//! Servers on loopback, for the tests here: sites, and a name server.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What a site answers to a path.
type Answers = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// A server that remembers what it was asked.
pub struct Site {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// Heads, and when each came.
    heads: Mutex<Vec<(String, Instant)>>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    pub async fn start(answers: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None, answers).await
    }

    pub async fn at(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        answers: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (answers, known): (Answers, _) = (Arc::new(answers), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                known.connections.fetch_add(1, SeqCst);
                let (known, answers, tls) = (known.clone(), answers.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, &known, &answers).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, &known, &answers).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    /// The paths that were asked for.
    pub fn paths(&self) -> Vec<String> {
        let path = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heads().iter().map(path).collect()
    }

    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    pub fn times(&self) -> Vec<Instant> {
        self.seen.heads.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen, answers: &Answers) {
    let mut read = Vec::new();
    loop {
        while let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            read.drain(..end + 4);
            let answer = answers(head.split(' ').nth(1).unwrap_or_default());
            seen.heads.lock().unwrap().push((head, Instant::now()));
            // Nothing is a server that hangs up.
            if answer.is_empty() || stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read.extend_from_slice(&chunk[..count]),
        }
    }
}

/// An answer with its fields and its body.
pub fn answer(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        out += &format!("{name}: {value}\r\n");
    }
    [out.as_bytes(), b"\r\n", body].concat()
}

pub fn html(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer(200, &[("Content-Type", "text/html")], body)
}

pub fn redirect(to: &str) -> Vec<u8> {
    answer(302, &[("Location", to)], "")
}

pub fn not_found() -> Vec<u8> {
    answer(404, &[], "")
}

/// A name server that answers each question for IPv4 with the next of these lists, the last one again and
/// again, and knows no IPv6.
pub struct NameServer {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    pub async fn start(answers: Vec<Vec<Ipv4Addr>>) -> Self {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut answers = VecDeque::from(answers);
        let task = tokio::spawn(async move {
            let mut bytes = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                // Behind the header, the name's labels, their end, type and class.
                let mut end = 12;
                while bytes[end] != 0 {
                    end += 1 + usize::from(bytes[end]);
                }
                let is_v4 = bytes[end + 2] == 1;
                let question = bytes[12..(end + 5).min(length)].to_vec();
                let addresses = match is_v4 {
                    true if answers.len() > 1 => answers.pop_front().unwrap_or_default(),
                    true => answers.front().cloned().unwrap_or_default(),
                    false => Vec::new(),
                };
                let mut out = bytes[..2].to_vec();
                out.extend([0x81, 0x80, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
                out.extend(question);
                for address in addresses {
                    out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    out.extend(address.octets());
                }
                let _ = socket.send_to(&out, from).await;
            }
        });
        Self { address, task }
    }
}
