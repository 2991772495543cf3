//! As much of skep's HTTP API as the load generator asks for, on threads, with faults on demand.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::Digest as _;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// Every n-th request is answered with 503.
    Unavailable(u64),
    /// Every n-th request closes the connection unanswered.
    Hangup(u64),
    /// Every answer is the last on its connection, and says so.
    OneShot,
    /// Every request takes this long, one after another.
    Slow(Duration),
    /// No request is answered.
    Silent,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub requests: u64,
    pub bodies: Vec<Vec<u8>>,
    pub content_types: HashSet<String>,
    pub connections: u64,
    digests: HashSet<String>,
    text: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub struct FakeSkep {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
}

pub fn start(fault: Fault) -> FakeSkep {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let server = FakeSkep { address, seen: seen.clone() };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = seen.clone();
            seen.lock().unwrap().connections += 1;
            std::thread::spawn(move || {
                // A client that goes away ends its connection's thread.
                let _ = serve(stream.unwrap(), &seen, fault);
            });
        }
    });
    server
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, fault: Fault) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let (mut length, mut content_type, mut host) = (0, String::new(), false);
        loop {
            let mut header = String::new();
            input.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name {
                "content-length" => length = value.parse().unwrap(),
                "content-type" => content_type = value.to_owned(),
                "host" => host = true,
                _ => {}
            }
        }
        assert!(host, "HTTP/1.1 wants a Host");
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;

        let mut seen = seen.lock().unwrap();
        seen.requests += 1;
        let nth = |n: u64| seen.requests.is_multiple_of(n);
        let mut last = false;
        match fault {
            Fault::Unavailable(n) if nth(n) => {
                drop(seen);
                answer(&mut output, "503 Service Unavailable", b"{}", false)?;
                continue;
            }
            Fault::Hangup(n) if nth(n) => return Ok(()),
            Fault::OneShot => last = true,
            #[expect(clippy::disallowed_methods, reason = "a slow server is what is tested")]
            Fault::Slow(time) => std::thread::sleep(time),
            Fault::Silent => continue,
            _ => {}
        }
        let (status, reply) = seen.handle(&method, &path, &content_type, body);
        drop(seen);
        answer(&mut output, status, &reply, last)?;
        if last {
            return Ok(());
        }
    }
}

fn answer(output: &mut TcpStream, status: &str, body: &[u8], last: bool) -> std::io::Result<()> {
    let connection = if last { "Connection: close\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status}\r\n{connection}Content-Length: {}\r\n\r\n", body.len());
    output.write_all(&[head.as_bytes(), body].concat())
}

impl Seen {
    fn handle(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> (&'static str, Vec<u8>) {
        match (method, path.strip_prefix("/messages/")) {
            ("GET", Some(digest)) if self.digests.contains(digest) => ("200 OK", vec![b'x'; 100]),
            ("GET", Some(digest)) => {
                assert_eq!(digest.len(), 64);
                ("404 Not Found", b"{}".to_vec())
            }
            ("POST", None) if path == "/messages" => {
                self.content_types.insert(content_type.to_owned());
                let message = match content_type {
                    "application/json" => {
                        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
                        value["message"].as_str().unwrap().as_bytes().to_vec()
                    }
                    _ => body,
                };
                let digest = sha2::Sha256::digest(&message).iter().map(|b| format!("{b:02x}")).collect();
                self.bodies.push(message);
                let status = if self.digests.insert(digest) { "201 Created" } else { "200 OK" };
                (status, b"{\"digest\":\"\",\"seq\":1}".to_vec())
            }
            ("POST", None) if path == "/write" => {
                self.text = Some(body);
                ("200 OK", Vec::new())
            }
            ("GET", None) if path == "/read" => match &self.text {
                Some(text) => ("200 OK", text.clone()),
                None => ("404 Not Found", Vec::new()),
            },
            _ => panic!("{method} {path}"),
        }
    }
}
