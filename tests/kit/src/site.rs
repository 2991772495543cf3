//! A web site of a test's own, which counts how often each of its pages is asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest head that is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a path answers.
#[derive(Debug, Clone)]
pub struct Page {
    pub status: u16,
    /// With their line ends.
    pub fields: String,
    pub body: String,
}

impl Page {
    pub fn html(body: impl Into<String>) -> Self {
        Self { status: 200, fields: "Content-Type: text/html; charset=utf-8\r\n".into(), body: body.into() }
    }

    pub fn redirect(to: &str) -> Self {
        Self { status: 302, fields: format!("Location: {to}\r\n"), body: String::new() }
    }
}

type Pages = BTreeMap<String, Page>;
type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

/// It ends when it is dropped.
pub struct Site {
    pub address: SocketAddr,
    counts: Counts,
    task: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    /// At a free port; what has no page is 404.
    pub async fn start(host: IpAddr, pages: Pages) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("a loopback address can be bound");
        let address = listener.local_addr().expect("it is bound");
        let (counts, pages) = (Counts::default(), Arc::new(pages));
        let counted = counts.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pages, counted) = (pages.clone(), counted.clone());
                tokio::spawn(async move { serve(stream, &pages, &counted).await });
            }
        });
        Self { address, counts, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often each path was asked for.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, pages: &Pages, counts: &Counts) {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    while read.len() < HEAD_BYTES_MAX {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read.extend_from_slice(&chunk[..count]),
        }
        while let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            read.drain(..end + 4);
            let path = head.split(' ').nth(1).unwrap_or_default();
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(path.to_owned()).or_default() += 1;
            let missing = Page { status: 404, fields: String::new(), body: String::new() };
            let Page { status, fields, body } = pages.get(path).unwrap_or(&missing);
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
