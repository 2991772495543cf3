//! HTTP/1.x clients: one connection, its requests in order.
//!
//! A connection is one task. Between requests it holds no buffer. Anything that leaves doubt where
//! the next request begins ends it.

mod tunnel;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::access_log::Line;
use crate::forward::body::Body;
use crate::forward::buffer::Buffer;
use crate::forward::exchange::{Done, Downstream, Fault, Gone, Request, Trail, forward};
use crate::forward::headers::{self, Client};
use crate::forward::problem::Problem;
use crate::forward::request_head::{BodyLength, Method, RequestHead};
use crate::forward::response_head::{AnswerLength, Framing, ResponseHead, write_response};
use crate::forward::retry::KEPT_BYTES_MAX;
use crate::forward::timer::{Fired, Timer};
use crate::worker::Worker;

/// How long a closed connection is read on, so that the client gets the answer before the reset
/// that unread bytes cause (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are read on for that.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// As the log shows it.
    pub address: String,
    /// As `Forwarded` shows it.
    pub node: String,
    pub proto: &'static str,
    pub trusted: bool,
}

impl ClientInfo {
    pub fn new(address: SocketAddr, proto: &'static str, trusted: bool) -> Self {
        let ip = address.ip().to_canonical();
        let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
        Self { address: ip.to_string(), node, proto, trusted }
    }

    pub fn as_client(&self) -> Client<'_> {
        Client { address: &self.address, node: &self.node, proto: self.proto, trusted: self.trusted }
    }
}

/// Whether sending it twice is the same as sending it once: by method, because a message's id is
/// its content, or because the client says so.
pub fn is_repeatable(method: Method, target: &[u8], has_idempotency_key: bool) -> bool {
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    method.is_idempotent() || has_idempotency_key || (method == Method::Post && path == b"/messages")
}

/// The path that the balancer answers by itself.
pub const READY_PATH: &[u8] = b"/-/ready";

/// Serves a connection until it ends. `first` holds what was read of it already.
pub async fn serve<S>(worker: Rc<Worker>, stream: S, client: ClientInfo, first: Buffer)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        worker: worker.clone(),
        stream,
        input: first,
        queued: Vec::new(),
        queued_sent: 0,
        body: Body::Done,
        body_ready: 0,
        body_seen: 0,
        body_max: 0,
        request: Incoming::default(),
        close: false,
    };
    let timer = worker.timers.timer();
    let end = connection.run(&worker, &timer, &client).await;
    if let End::Linger = end {
        timer.disarm();
        timer.arm(LINGER);
        let _ = timer.limit(connection.linger()).await;
    }
}

/// How a connection ends.
enum End {
    /// At once.
    Close,
    /// After what is queued, with the client's unread bytes discarded.
    Linger,
}

/// The request that is being served.
#[derive(Debug, Default)]
struct Incoming {
    /// As the backend gets it.
    head: Vec<u8>,
    id: Vec<u8>,
    method: Method,
    method_len: usize,
    target_len: usize,
    old: bool,
    keep_alive: bool,
    expects_continue: bool,
    repeatable: bool,
    is_ready_path: bool,
    length: BodyLength,
}

impl Incoming {
    fn method_name(&self) -> &[u8] {
        self.head.get(..self.method_len).unwrap_or_default()
    }

    fn target(&self) -> &[u8] {
        self.head.get(self.method_len + 1..).and_then(|rest| rest.get(..self.target_len)).unwrap_or_default()
    }

    fn read(&mut self, worker: &Worker, head: &RequestHead, buf: &[u8], client: &ClientInfo) {
        self.head.clear();
        self.id.clear();
        match head.request_id {
            Some(id) => self.id.extend_from_slice(id.of(buf)),
            None => worker.request_id(&mut self.id),
        }
        headers::write_request(head, buf, client.as_client(), &self.id, &mut self.head);
        let target = head.target.of(buf);
        self.method = head.method;
        self.method_len = head.method_span.of(buf).len();
        self.target_len = target.len();
        (self.old, self.keep_alive) = (head.old, head.keep_alive);
        self.expects_continue = head.expects_continue;
        self.repeatable = is_repeatable(head.method, target, head.has_idempotency_key);
        self.is_ready_path = target == READY_PATH && head.method.is_safe();
        self.length = head.body;
    }
}

struct Connection<S> {
    worker: Rc<Worker>,
    stream: S,
    input: Buffer,
    /// Heads that wait to be written.
    queued: Vec<u8>,
    queued_sent: usize,
    body: Body,
    /// Bytes at the front of `input` that belong to the body.
    body_ready: usize,
    body_seen: u64,
    body_max: u64,
    request: Incoming,
    close: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self, worker: &Rc<Worker>, timer: &Timer, client: &ClientInfo) -> End {
        let mut first = true;
        loop {
            let settings = worker.settings();
            match self.read_head(worker, timer, client, first).await {
                Ok(true) => {}
                Ok(false) => return End::Close,
                Err(problem) => {
                    worker.stats.refused.add(1);
                    let trail = Trail { status: problem.status(), ..Trail::new(Instant::now()) };
                    self.request = Incoming::default();
                    self.log(worker, client, &trail, Some(problem.kind()));
                    return self.answer_problem(timer, problem, settings.body_timeout).await;
                }
            }
            first = false;
            let mut trail = Trail::new(Instant::now());
            if self.request.is_ready_path {
                trail.status = self.answer_ready(worker);
                self.log(worker, client, &trail, None);
                timer.arm(settings.body_timeout);
                if !matches!(timer.limit(poll_fn(|cx| self.poll_send(cx, &[]))).await, Ok(Ok(_))) {
                    return End::Close;
                }
                if self.close {
                    return End::Linger;
                }
                continue;
            }
            let outcome = self.exchange(worker, timer, &mut trail).await;
            let error = match &outcome {
                Ok(Done::Upgraded(_)) => None,
                Ok(_) => None,
                Err(Fault::Problem(problem)) => {
                    trail.status = problem.status();
                    Some(problem.kind())
                }
                Err(Fault::Cut) => Some("cut"),
            };
            if let Ok(Done::Upgraded(upstream)) = outcome {
                (trail.bytes_in, trail.bytes_out) = self.tunnel(timer, *upstream).await;
                self.log(worker, client, &trail, None);
                return End::Close;
            }
            self.log(worker, client, &trail, error);
            self.consume_body(self.body_ready);
            match outcome {
                Ok(Done::Complete) if !self.close => {}
                Ok(_) => return End::Linger,
                Err(Fault::Problem(problem)) => {
                    let problem_close =
                        !self.body.is_done() || !self.request.keep_alive || worker.is_draining();
                    if problem_close || problem.status() < 500 {
                        return self.answer_problem(timer, problem, settings.body_timeout).await;
                    }
                    let is_head = self.request.method == Method::Head;
                    problem.write(false, is_head, &mut self.queued);
                    timer.arm(settings.body_timeout);
                    if !matches!(timer.limit(poll_fn(|cx| self.poll_send(cx, &[]))).await, Ok(Ok(_))) {
                        return End::Close;
                    }
                }
                Err(Fault::Cut) => return End::Close,
            }
        }
    }

    /// Reads the next head. `Ok(false)`: there is none, and nothing to say about it.
    async fn read_head(
        &mut self,
        worker: &Worker,
        timer: &Timer,
        client: &ClientInfo,
        first: bool,
    ) -> Result<bool, Problem> {
        let settings = worker.settings();
        let mut looked_at = 0;
        let idle = !first && self.input.is_empty();
        timer.disarm();
        timer.arm(if idle { settings.idle_timeout } else { settings.head_timeout });
        timer.set_idle(self.input.is_empty());
        loop {
            let unread = self.input.unread();
            // A head is complete only with a line's end; one that comes byte by byte is not read
            // anew for each.
            if unread[looked_at..].contains(&b'\n') || unread.len() == self.input.capacity() {
                let mut head = worker.request_head.borrow_mut();
                if head.parse(unread).map_err(Problem::Refused)? {
                    self.request.read(worker, &head, unread, client);
                    let len = head.len;
                    drop(head);
                    timer.set_idle(false);
                    self.begin_body(len, settings.body_bytes_max)?;
                    return Ok(true);
                }
            }
            looked_at = unread.len();
            let was_empty = unread.is_empty();
            let filled = timer.limit(poll_fn(|cx| self.input.poll_fill(&mut self.stream, cx))).await;
            match filled {
                Ok(Ok(n)) if n > 0 => {}
                Ok(_) => return Ok(false),
                Err(Fired::Deadline) if !self.input.is_empty() => return Err(Problem::RequestTimeout),
                Err(_) => return Ok(false),
            }
            if was_empty {
                timer.set_idle(false);
                if idle {
                    timer.arm(settings.head_timeout);
                }
            }
        }
    }

    fn begin_body(&mut self, head_len: usize, body_max: u64) -> Result<(), Problem> {
        self.input.consume(head_len);
        self.body = self.request.length.into();
        (self.body_ready, self.body_seen, self.body_max) = (0, 0, body_max);
        self.close = !self.request.keep_alive;
        if let BodyLength::Length(bytes) = self.request.length
            && bytes > body_max
        {
            return Err(Problem::BodyTooLarge);
        }
        // What is here already may be all.
        if !self.input.is_empty() {
            self.take_body().map_err(|gone| match gone {
                Gone::Problem(problem) => problem,
                Gone::Lost => Problem::BadBody("the body ended early"),
            })?;
        }
        Ok(())
    }

    async fn exchange(&mut self, worker: &Worker, timer: &Timer, trail: &mut Trail) -> Result<Done, Fault> {
        // A small body is waited for before a backend is taken up by it: slow clients then cost a
        // buffer, not a backend's place. Streams and expectations are passed on at once.
        if let BodyLength::Length(bytes) = self.request.length
            && bytes as usize <= self.input.capacity()
            && !self.request.expects_continue
            && !self.body.is_done()
        {
            timer.arm(worker.settings().body_timeout);
            match timer.limit(poll_fn(|cx| self.poll_whole_body(cx))).await {
                Ok(Ok(())) => trail.started = Instant::now(),
                Ok(Err(Gone::Lost)) => return Err(Fault::Cut),
                Ok(Err(Gone::Problem(problem))) => return Err(Fault::Problem(problem)),
                Err(_) => return Err(Fault::Problem(Problem::RequestTimeout)),
            }
        }
        trail.bytes_in = self.body_ready as u64;
        let head = std::mem::take(&mut self.request.head);
        let keep = match self.request.length {
            BodyLength::Length(bytes) => bytes <= KEPT_BYTES_MAX as u64,
            BodyLength::None | BodyLength::Chunked => true,
        };
        let request =
            Request { head: &head, method: self.request.method, repeatable: self.request.repeatable, keep };
        let outcome = forward(worker, timer, request, self, trail).await;
        self.request.head = head;
        outcome
    }

    fn poll_whole_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.body.is_done() {
            ready!(self.poll_more_body(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_more_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match ready!(self.input.poll_fill(&mut self.stream, cx)) {
            Ok(0) | Err(_) => Poll::Ready(Err(Gone::Lost)),
            Ok(_) => Poll::Ready(self.take_body()),
        }
    }

    /// Looks at what came behind the part of the body that is known.
    fn take_body(&mut self) -> Result<(), Gone> {
        let bad = |_| Gone::Problem(Problem::BadBody("a malformed chunked body"));
        let n = self.body.take(&self.input.unread()[self.body_ready..]).map_err(bad)?;
        self.body_ready += n;
        self.body_seen += n as u64;
        if self.body_seen > self.body_max {
            return Err(Gone::Problem(Problem::BodyTooLarge));
        }
        Ok(())
    }

    fn answer_ready(&mut self, worker: &Worker) -> u16 {
        let ready = worker.is_ready();
        let (status, body) =
            if ready { ("200 OK", "ready\n") } else { ("503 Service Unavailable", "not ready\n") };
        self.close |= worker.is_draining() || !self.body.is_done();
        let mut text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncache-control: no-store\r\ncontent-length: {}\r\n",
            body.len()
        );
        if self.close {
            text += "connection: close\r\n";
        } else if self.request.old {
            text += "connection: keep-alive\r\n";
        }
        text += "\r\n";
        self.queued.extend_from_slice(text.as_bytes());
        if self.request.method != Method::Head {
            self.queued.extend_from_slice(body.as_bytes());
        }
        self.consume_body(self.body_ready);
        if ready { 200 } else { 503 }
    }

    async fn answer_problem(&mut self, timer: &Timer, problem: Problem, limit: Duration) -> End {
        problem.write(true, self.request.method == Method::Head, &mut self.queued);
        timer.disarm();
        timer.arm(limit);
        match timer.limit(poll_fn(|cx| self.poll_send(cx, &[]))).await {
            Ok(Ok(_)) => End::Linger,
            _ => End::Close,
        }
    }

    fn log(&self, worker: &Worker, client: &ClientInfo, trail: &Trail, error: Option<&'static str>) {
        worker.finish(&Line {
            client: &client.address,
            proto: client.proto,
            version: if self.request.old { "1.0" } else { "1.1" },
            method: self.request.method_name(),
            target: self.request.target(),
            request_id: &self.request.id,
            trail,
            whole: trail.started.elapsed(),
            error,
        });
    }

    /// Says that no more comes, and reads until the client does.
    async fn linger(&mut self) {
        if poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await.is_err() {
            return;
        }
        let mut read = 0;
        while read < LINGER_BYTES_MAX {
            self.input.consume(self.input.len());
            match poll_fn(|cx| self.input.poll_fill(&mut self.stream, cx)).await {
                Ok(n) if n > 0 => read += n,
                _ => return,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Downstream for Connection<S> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.body_ready > 0 || self.body.is_done() {
            return Poll::Ready(Ok(()));
        }
        self.poll_more_body(cx)
    }

    fn body(&self) -> &[u8] {
        &self.input.unread()[..self.body_ready]
    }

    fn consume_body(&mut self, n: usize) {
        self.input.consume(n);
        self.body_ready -= n;
    }

    fn body_complete(&self) -> bool {
        self.body.is_done()
    }

    fn takes_chunks(&self) -> bool {
        !self.request.old
    }

    fn interim(&mut self, head: &ResponseHead, buf: &[u8]) {
        if !self.request.old {
            let framing = Framing { close: false, say_keep_alive: false, chunked: false, is_head: false };
            write_response(head, buf, framing, &mut self.queued);
        }
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], whole: bool) {
        let ends =
            head.body == AnswerLength::Close || (self.request.old && head.body == AnswerLength::Chunked);
        self.close |= ends || !whole || self.worker.is_draining();
        let framing = Framing {
            close: self.close,
            say_keep_alive: self.request.old,
            chunked: !self.request.old,
            is_head: self.request.method == Method::Head,
        };
        write_response(head, buf, framing, &mut self.queued);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let queued = &self.queued[self.queued_sent..];
            let stream = Pin::new(&mut self.stream);
            let n = match (queued.is_empty(), piece.is_empty()) {
                (true, true) => {
                    ready!(stream.poll_flush(cx))?;
                    return Poll::Ready(Ok(0));
                }
                (true, false) => return stream.poll_write(cx, piece),
                (false, true) => ready!(stream.poll_write(cx, queued))?,
                (false, false) => {
                    let slices = [IoSlice::new(queued), IoSlice::new(piece)];
                    ready!(stream.poll_write_vectored(cx, &slices))?
                }
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_queued = n.min(queued.len());
            self.queued_sent += of_queued;
            if self.queued_sent == self.queued.len() {
                self.queued.clear();
                self.queued_sent = 0;
            }
            if n > of_queued {
                return Poll::Ready(Ok(n - of_queued));
            }
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>, _trailers: &[u8]) -> Poll<io::Result<()>> {
        self.poll_send(cx, &[]).map_ok(drop)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What a client sends ahead is kept, as far as there is room.
        while self.body.is_done() && self.input.len() < self.input.capacity() {
            match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }
}
