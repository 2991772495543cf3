//! The access log: a JSON line for each request, written in batches by a thread of its own.
//!
//! A core formats into its buffer and hands that over when it is large or a tick has passed. The
//! way to the writer is bounded: where the log's reader is too slow, lines are dropped and counted,
//! and traffic goes on.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;

use crate::core::trail::Trail;
use crate::wire::write::write_number;

/// A buffer this large is handed over before the next tick.
const BATCH_BYTES: usize = 32 * 1024;
/// Most batches on their way to the writer.
const BATCHES_MAX: usize = 256;
/// Longest wait for the writer at the end.
const FINISH_MAX: Duration = Duration::from_secs(1);
const FINISH_LOOK: Duration = Duration::from_millis(5);
/// Longest target that a line shows, in bytes.
const TARGET_BYTES_MAX: usize = 512;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Off,
    Stdout,
    File(std::path::PathBuf),
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    sender: SyncSender<Vec<u8>>,
    reopen: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Starts the writer; `None` where there is no log.
pub fn start(destination: &Destination) -> std::io::Result<Option<Writer>> {
    if *destination == Destination::Off {
        return Ok(None);
    }
    let mut out = open(destination)?;
    let (sender, receiver): (_, Receiver<Vec<u8>>) = sync_channel(BATCHES_MAX);
    let reopen = Arc::new(AtomicBool::new(false));
    let (wanted, destination) = (reopen.clone(), destination.clone());
    let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || {
        while let Ok(batch) = receiver.recv() {
            if wanted.swap(false, Relaxed) {
                match open(&destination) {
                    Ok(file) => out = file,
                    Err(error) => tracing::error!(%error, "the access log is left as it was"),
                }
            }
            // A closed pipe must not end the balancer; there is nobody to tell either.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
        }
    })?;
    Ok(Some(Writer { sender, reopen, thread }))
}

fn open(destination: &Destination) -> std::io::Result<Box<dyn Write + Send>> {
    Ok(match destination {
        Destination::Off => Box::new(std::io::sink()),
        Destination::Stdout => Box::new(std::io::stdout()),
        Destination::File(path) => {
            Box::new(std::fs::OpenOptions::new().create(true).append(true).open(path)?)
        }
    })
}

impl Writer {
    pub fn sender(&self) -> SyncSender<Vec<u8>> {
        self.sender.clone()
    }

    /// Its file is opened by its name again: it was moved away, to begin a new one.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // Wakes it; where it is behind, it is awake.
        let _ = self.sender.try_send(Vec::new());
    }

    /// Waits until all is written, once nobody else has a sender; not for long where nobody reads it.
    pub fn finish(self) {
        drop(self.sender);
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < FINISH_MAX {
            std::thread::park_timeout(FINISH_LOOK);
        }
    }
}

/// One request, as the log shows it.
#[derive(Debug)]
pub struct Line<'a> {
    pub client: &'a str,
    pub proto: &'static str,
    pub version: &'static str,
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub request_id: &'a [u8],
    pub trail: &'a Trail,
    pub whole: Duration,
    /// How it ended where it did not end well.
    pub error: Option<&'static str>,
}

/// One core's side of the log.
#[derive(Debug)]
pub struct AccessLog {
    writer: Option<SyncSender<Vec<u8>>>,
    batch: RefCell<Vec<u8>>,
    /// The second that `stamp` shows.
    second: Cell<u64>,
    stamp: RefCell<String>,
}

impl AccessLog {
    pub fn new(writer: Option<SyncSender<Vec<u8>>>) -> Self {
        Self { writer, batch: RefCell::default(), second: Cell::new(0), stamp: RefCell::default() }
    }

    /// Adds a line. Says how many lines were lost with a full batch.
    pub fn add(&self, line: &Line<'_>) -> u64 {
        if self.writer.is_none() {
            return 0;
        }
        let mut batch = self.batch.borrow_mut();
        self.format(line, &mut batch);
        let full = batch.len() >= BATCH_BYTES;
        drop(batch);
        if full { self.flush() } else { 0 }
    }

    /// Hands over what there is. Says how many lines were lost.
    pub fn flush(&self) -> u64 {
        let Some(writer) = &self.writer else { return 0 };
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            return 0;
        }
        // Of the size that it had, so that it does not grow by and by again.
        let next = Vec::with_capacity(batch.len());
        let batch = std::mem::replace(&mut *batch, next);
        match writer.try_send(batch) {
            Ok(()) => 0,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                batch.iter().filter(|b| **b == b'\n').count() as u64
            }
        }
    }

    fn format(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        let trail = line.trail;
        out.extend_from_slice(b"{\"time\":\"");
        self.write_time(out);
        out.extend_from_slice(b"\",\"client\":\"");
        out.extend_from_slice(line.client.as_bytes());
        out.extend_from_slice(b"\",\"proto\":\"");
        out.extend_from_slice(line.proto.as_bytes());
        out.extend_from_slice(b"\",\"version\":\"");
        out.extend_from_slice(line.version.as_bytes());
        out.extend_from_slice(b"\",\"method\":\"");
        write_escaped(line.method, out);
        out.extend_from_slice(b"\",\"target\":\"");
        write_escaped(&line.target[..line.target.len().min(TARGET_BYTES_MAX)], out);
        out.extend_from_slice(b"\",\"status\":");
        write_number(trail.status.into(), out);
        out.extend_from_slice(b",\"backend\":");
        match &trail.backend {
            Some(backend) => {
                out.push(b'"');
                out.extend_from_slice(backend.name.as_bytes());
                out.push(b'"');
            }
            None => out.extend_from_slice(b"null"),
        }
        if let Some(via) = &trail.via {
            // Names of objects need no escape.
            for (name, value) in
                [(&b",\"route\":"[..], Some(via.name())), (b",\"service\":", via.service_name())]
            {
                out.extend_from_slice(name);
                match value {
                    Some(value) => {
                        out.push(b'"');
                        out.extend_from_slice(value.as_bytes());
                        out.push(b'"');
                    }
                    None => out.extend_from_slice(b"null"),
                }
            }
            if let Some(consumer) = via.consumer() {
                out.extend_from_slice(b",\"consumer\":\"");
                out.extend_from_slice(consumer.name.as_bytes());
                out.push(b'"');
            }
        }
        if !trail.waited.is_zero() {
            out.extend_from_slice(b",\"wait_us\":");
            write_number(trail.waited.as_micros() as u64, out);
        }
        for (name, value) in [
            (&b",\"attempts\":"[..], u64::from(trail.attempts)),
            (b",\"queue_us\":", trail.queued.as_micros() as u64),
            (b",\"connect_us\":", trail.connecting.as_micros() as u64),
            (b",\"first_byte_us\":", trail.first_byte.unwrap_or_default().as_micros() as u64),
            (b",\"whole_us\":", line.whole.as_micros() as u64),
            (b",\"bytes_in\":", trail.bytes_in),
            (b",\"bytes_out\":", trail.bytes_out),
        ] {
            out.extend_from_slice(name);
            write_number(value, out);
        }
        if let Some(error) = line.error {
            out.extend_from_slice(b",\"error\":\"");
            out.extend_from_slice(error.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"request_id\":\"");
        write_escaped(line.request_id, out);
        out.extend_from_slice(b"\"}\n");
    }

    fn write_time(&self, out: &mut Vec<u8>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second.replace(now.as_secs()) != now.as_secs() || self.stamp.borrow().is_empty() {
            let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].");
            let time = OffsetDateTime::from_unix_timestamp(now.as_secs() as i64);
            *self.stamp.borrow_mut() =
                time.ok().and_then(|time| time.format(format).ok()).unwrap_or_default();
        }
        out.extend_from_slice(self.stamp.borrow().as_bytes());
        let ms = now.subsec_millis();
        out.extend([b'0' + (ms / 100) as u8, b'0' + (ms / 10 % 10) as u8, b'0' + (ms % 10) as u8, b'Z']);
    }
}

/// What stands in a JSON string. Bytes beyond ASCII cannot be in a target that was accepted.
fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    for &b in text {
        match b {
            b'"' | b'\\' => out.extend([b'\\', b]),
            b' '..=b'~' => out.push(b),
            _ => out.push(b'?'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_the_target() {
        let (sender, receiver) = sync_channel(1);
        let log = AccessLog::new(Some(sender));
        let trail = Trail::new(std::time::Instant::now());
        let line = Line {
            client: "::1",
            proto: "http",
            version: "1.1",
            method: b"GET",
            target: b"/\"\\\x01\xff",
            request_id: b"id",
            trail: &trail,
            whole: Duration::from_micros(7),
            error: Some("no-backend"),
        };
        assert_eq!(log.add(&line) + log.add(&line) + log.flush(), 0);
        let text = String::from_utf8(receiver.try_recv().unwrap()).unwrap();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["target"], "/\"\\??");
            assert_eq!(line["whole_us"], 7);
            assert_eq!(line["backend"], serde_json::Value::Null);
            let time = line["time"].as_str().unwrap();
            let rfc3339 = time::format_description::well_known::Rfc3339;
            assert!(OffsetDateTime::parse(time, &rfc3339).is_ok(), "{time}");
        }
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn where_the_writer_is_too_slow_lines_are_dropped_and_counted() {
        let (sender, _receiver) = sync_channel(1);
        let log = AccessLog::new(Some(sender));
        log.batch.borrow_mut().extend_from_slice(b"1\n2\n");
        assert_eq!(log.flush(), 0);
        log.batch.borrow_mut().extend_from_slice(b"3\n4\n");
        assert_eq!(log.flush(), 2);
    }
}
