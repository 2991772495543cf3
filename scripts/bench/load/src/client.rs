//! One connection to either system, and the one request that a mode makes on it.

use std::net::SocketAddr;

use crate::args::{ContentType, Mode, Options};
use crate::etcd::Etcd;
use crate::failure::Failure;
use crate::http1::Http1;
use crate::payload::{DIGEST_DIGITS, KEY_BYTES, Payload, Stream, mix};

/// The text that `/read` finds.
const TEXT_CONTENT_TYPE: &[u8] = b"text/plain; charset=utf-8";

/// What a run asks for, known to all its connections.
#[derive(Debug)]
pub struct Workload {
    pub mode: Mode,
    content_type: ContentType,
    message_bytes: usize,
    payload: Payload,
    preloaded: u64,
    /// Of the preloaded messages, in their order; only for the mode that reads them.
    digests: Vec<[u8; DIGEST_DIGITS]>,
}

/// What to do, by number.
#[derive(Debug, Clone, Copy)]
pub enum Task {
    /// What the mode measures.
    Measured(u64),
    /// What must be there before.
    Preload(u64),
}

impl Workload {
    pub fn new(options: &Options, seed: u64) -> Self {
        let payload = Payload::new(seed);
        let mut digests = Vec::new();
        if options.mode == Mode::SkepGetPresent {
            digests.extend(
                (0..options.preload).map(|seq| payload.digest(Stream::Preloaded, seq, options.bytes)),
            );
        }
        Self {
            mode: options.mode,
            content_type: options.content_type,
            message_bytes: options.bytes,
            payload,
            preloaded: options.preload,
            digests,
        }
    }

    /// How many preload tasks go before the measurement.
    pub fn preload_tasks(&self) -> u64 {
        match self.mode {
            Mode::SkepPut | Mode::EtcdPut => 0,
            Mode::SkepRead => 1,
            // Absent digests are looked for in a store that holds as much as the others' do.
            Mode::SkepGetPresent | Mode::SkepGetAbsent | Mode::EtcdRange => self.preloaded,
        }
    }

    /// Which of the preloaded messages a reader picks.
    fn pick(&self, seq: u64) -> u64 {
        mix(seq) % self.preloaded
    }
}

/// A connection and the buffers for its requests.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    key: Vec<u8>,
    body: Vec<u8>,
    spent: bool,
}

#[derive(Debug)]
enum Wire {
    Http(Http1),
    Etcd(Box<Etcd>),
}

impl Client {
    pub async fn open(mode: Mode, address: SocketAddr) -> Result<Self, Failure> {
        let wire = if mode.is_etcd() {
            Wire::Etcd(Box::new(Etcd::open(address).await.map_err(Failure::Connect)?))
        } else {
            Wire::Http(Http1::open(address).await.map_err(Failure::Connect)?)
        };
        Ok(Self { wire, key: Vec::new(), body: Vec::new(), spent: false })
    }

    /// Whether the server said that it closes the connection.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// One request and its answer, checked.
    pub async fn call(&mut self, workload: &Workload, task: Task) -> Result<(), Failure> {
        match (&mut self.wire, workload.mode, task) {
            (Wire::Http(_), Mode::SkepRead, Task::Preload(seq)) => self.write_text(workload, seq).await,
            (Wire::Http(http), Mode::SkepRead, Task::Measured(_)) => {
                let answer = http.get(&[b"/read"]).await?;
                self.spent |= answer.last;
                expect_body(answer.status, answer.body_bytes, workload.message_bytes)
            }
            (Wire::Http(http), Mode::SkepGetPresent, Task::Measured(seq)) => {
                let digest = workload.digests.get(workload.pick(seq) as usize).ok_or(Failure::Wrong)?;
                let answer = http.get(&[b"/messages/", digest]).await?;
                self.spent |= answer.last;
                expect_body(answer.status, answer.body_bytes, workload.message_bytes)
            }
            (Wire::Http(http), Mode::SkepGetAbsent, Task::Measured(seq)) => {
                self.key.clear();
                workload.payload.fill(Stream::Absent, seq, DIGEST_DIGITS, &mut self.key);
                let answer = http.get(&[b"/messages/", &self.key]).await?;
                self.spent |= answer.last;
                match answer.status {
                    404 => Ok(()),
                    status => Err(Failure::Status(status)),
                }
            }
            (Wire::Http(_), _, Task::Measured(seq)) => self.post(workload, Stream::Measured, seq).await,
            (Wire::Http(_), _, Task::Preload(seq)) => self.post(workload, Stream::Preloaded, seq).await,
            (Wire::Etcd(etcd), Mode::EtcdRange, Task::Measured(seq)) => {
                self.key.clear();
                workload.payload.fill(Stream::Preloaded, workload.pick(seq), KEY_BYTES, &mut self.key);
                match etcd.range(&self.key).await? {
                    Some(bytes) if bytes == workload.message_bytes => Ok(()),
                    _ => Err(Failure::Wrong),
                }
            }
            (Wire::Etcd(etcd), _, task) => {
                let (stream, seq) = match task {
                    Task::Measured(seq) => (Stream::Measured, seq),
                    Task::Preload(seq) => (Stream::Preloaded, seq),
                };
                self.key.clear();
                workload.payload.fill(stream, seq, KEY_BYTES, &mut self.key);
                self.body.clear();
                workload.payload.fill(stream, seq, workload.message_bytes, &mut self.body);
                etcd.put(&self.key, &self.body).await
            }
        }
    }

    async fn post(&mut self, workload: &Workload, stream: Stream, seq: u64) -> Result<(), Failure> {
        let Wire::Http(http) = &mut self.wire else { return Err(Failure::Wrong) };
        self.body.clear();
        let content_type: &[u8] = match workload.content_type {
            ContentType::Raw => {
                workload.payload.fill(stream, seq, workload.message_bytes, &mut self.body);
                b"application/octet-stream"
            }
            ContentType::Json => {
                self.body.extend_from_slice(b"{\"message\":\"");
                workload.payload.fill(stream, seq, workload.message_bytes, &mut self.body);
                self.body.extend_from_slice(b"\"}");
                b"application/json"
            }
        };
        let answer = http.post(b"/messages", content_type, &self.body).await?;
        self.spent |= answer.last;
        match (answer.status, stream) {
            (201, _) | (200, Stream::Preloaded) => Ok(()),
            // A measured message is new: that it was there already is no write.
            (200, _) => Err(Failure::Wrong),
            (status, _) => Err(Failure::Status(status)),
        }
    }

    async fn write_text(&mut self, workload: &Workload, seq: u64) -> Result<(), Failure> {
        let Wire::Http(http) = &mut self.wire else { return Err(Failure::Wrong) };
        self.body.clear();
        workload.payload.fill(Stream::Preloaded, seq, workload.message_bytes, &mut self.body);
        let answer = http.post(b"/write", TEXT_CONTENT_TYPE, &self.body).await?;
        self.spent |= answer.last;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(Failure::Status(status)),
        }
    }
}

/// A 200 with a body that can hold the message.
fn expect_body(status: u16, body_bytes: usize, message_bytes: usize) -> Result<(), Failure> {
    match status {
        200 if body_bytes >= message_bytes => Ok(()),
        200 => Err(Failure::Wrong),
        status => Err(Failure::Status(status)),
    }
}
