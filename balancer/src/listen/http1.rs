//! HTTP/1.x clients: one connection, its requests in order.
//!
//! A connection is one task. Between requests it holds no buffer. Anything that leaves doubt where
//! the next request begins ends it.

mod downstream;
mod incoming;
mod judged;
mod tunnel;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::incoming::Incoming;
use crate::core::access_log::Line;
use crate::core::buffer::Buffer;
use crate::core::timer::{Fired, Timer};
use crate::core::trail::Trail;
use crate::core::worker::Worker;
use crate::forward::ahead::read_ahead;
use crate::forward::compressed;
use crate::forward::downstream::{Done, Downstream as _, Fault, Gone, Request};
use crate::forward::exchange::forward;
use crate::forward::plan::Plan;
use crate::forward::problem::{MISPLACED_TRAILER, Problem};
use crate::forward::retry::may_keep;
use crate::forward::waiting::Pace;
use crate::gateway::{Answer, Gateway, Verdict};
use crate::listen::client::ClientInfo;
use crate::wire::body::Body;
use crate::wire::chunked::ChunkError;
use crate::wire::request_head::{BodyLength, Method};
use crate::wire::write::Framing;

/// How long a closed connection is read on, so that the client gets the answer before the reset
/// that unread bytes cause (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are read on for that.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// A client's connection.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// The socket, where what is written to it is what the client reads.
    fn socket(&self) -> Option<&TcpStream>;
    /// Its end will be a reset, whatever ends it, which nobody takes for the end of what was sent; or not any more.
    fn end_by_reset(&self, by_reset: bool);
}

impl ClientStream for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn end_by_reset(&self, by_reset: bool) {
        // One that is gone already cannot, and need not.
        let _ = SockRef::from(self).set_linger(by_reset.then_some(Duration::ZERO));
    }
}

impl<S: ClientStream> ClientStream for tokio_rustls::server::TlsStream<S> {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn end_by_reset(&self, by_reset: bool) {
        self.get_ref().0.end_by_reset(by_reset);
    }
}

/// Serves a connection until it ends. `first` holds what was read of it already.
pub async fn serve<S>(worker: Rc<Worker>, gateway: Rc<Gateway>, stream: S, client: ClientInfo, first: Buffer)
where
    S: ClientStream,
{
    let mut connection = Connection {
        worker: worker.clone(),
        gateway,
        stream,
        input: first,
        input_ended: false,
        queued: Vec::new(),
        queued_sent: 0,
        body: Body::Done,
        body_ready: 0,
        body_seen: 0,
        body_max: 0,
        request: Incoming::default(),
        close: false,
        coding: Coding::default(),
        generation: worker.timers.generation(),
    };
    let timer = worker.timers.timer();
    let end = connection.run(&worker, &timer, &client).await;
    timer.set_idle(false);
    timer.disarm();
    timer.arm(LINGER);
    match end {
        End::Linger => {
            let _ = timer.limit(connection.linger()).await;
        }
        // TLS says so before it closes (RFC 8446, 6.1): else the end could be anybody's.
        End::Quiet if connection.stream.socket().is_none() => {
            let goodbye = poll_fn(|cx| Pin::new(&mut connection.stream).poll_shutdown(cx));
            let _ = timer.limit(goodbye).await;
        }
        End::Quiet | End::Close => {}
    }
}

/// How a connection ends.
enum End {
    /// At once, in the middle of something.
    Close,
    /// At once, between two requests.
    Quiet,
    /// After what is queued, with the client's unread bytes discarded.
    Linger,
}

struct Connection<S> {
    worker: Rc<Worker>,
    gateway: Rc<Gateway>,
    stream: S,
    input: Buffer,
    /// The client says no more.
    input_ended: bool,
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
    coding: Coding,
    /// When it was begun; see [`skep_vrrp::let_go`].
    generation: u32,
}

/// How the body of an answer goes to the client, where not as the backend framed it.
#[derive(Debug, Default)]
struct Coding {
    /// In chunks of our own.
    chunks: bool,
    /// Bytes of the chunk that is begun.
    chunk_left: usize,
    /// Nothing but the connection's end says where it ends; until it is over, that would be a reset.
    ends_by_close: bool,
}

impl<S: ClientStream> Connection<S> {
    async fn run(&mut self, worker: &Rc<Worker>, timer: &Timer, client: &ClientInfo) -> End {
        let mut first = true;
        loop {
            let settings = worker.settings();
            let read = self.read_head(worker, timer, client, first).await;
            let mut trail = Trail::new(Instant::now());
            let begun = match read {
                Ok(None) => return End::Quiet,
                Ok(Some((len, verdict))) => {
                    (trail.via, trail.waited) = (verdict.via().cloned(), self.request.waited);
                    self.begin_body(len, &verdict, settings.body_bytes_max).map(|()| verdict)
                }
                Err(problem) => {
                    // What is known is of the one before.
                    self.request = Incoming::default();
                    Err(problem)
                }
            };
            let verdict = match begun {
                Ok(verdict) => verdict,
                Err(problem) => {
                    worker.stats.refused.add(1);
                    trail.status = problem.status();
                    self.log(worker, client, &trail, Some(problem.kind()));
                    return self.answer_problem(timer, problem, &trail, settings.body_timeout).await;
                }
            };
            first = false;
            let plan = match verdict {
                Verdict::Forward { plan, .. } => plan,
                Verdict::Answer(answer) => {
                    trail.status = answer.status;
                    self.answer(worker, &answer);
                    self.log(worker, client, &trail, answer.error);
                    timer.arm(settings.body_timeout);
                    if !matches!(timer.limit(poll_fn(|cx| self.poll_send(cx, &[]))).await, Ok(Ok(_))) {
                        return End::Close;
                    }
                    if self.close {
                        return End::Linger;
                    }
                    continue;
                }
            };
            let outcome = self.exchange(worker, timer, client, &plan, &mut trail).await;
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
                (trail.bytes_in, trail.bytes_out) = self.tunnel(timer, *upstream, plan.via.as_ref()).await;
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
                        !self.body.is_done() || !self.request.keep_alive || worker.is_ending(self.generation);
                    if problem_close || problem.status() < 500 {
                        return self.answer_problem(timer, problem, &trail, settings.body_timeout).await;
                    }
                    problem.write(self.framing(), trail.readers(), &mut self.queued);
                    timer.arm(settings.body_timeout);
                    if !matches!(timer.limit(poll_fn(|cx| self.poll_send(cx, &[]))).await, Ok(Ok(_))) {
                        return End::Close;
                    }
                }
                Err(Fault::Cut) => {
                    // What was taken of the answer still goes out, if it goes at once.
                    poll_fn(|cx| Poll::Ready(self.poll_send(cx, &[]).is_ready())).await;
                    return End::Close;
                }
            }
        }
    }

    /// Reads the next head: how long it is, and what becomes of its request. `Ok(None)`: there is none, and
    /// nothing to say about it.
    async fn read_head(
        &mut self,
        worker: &Worker,
        timer: &Timer,
        client: &ClientInfo,
        first: bool,
    ) -> Result<Option<(usize, Verdict)>, Problem> {
        let settings = worker.settings();
        let mut looked_at = 0;
        let mut resumed = None;
        let idle = !first && self.input.is_empty();
        timer.disarm();
        timer.arm(if idle { settings.idle_timeout } else { settings.head_timeout });
        timer.set_idle(self.input.is_empty());
        loop {
            let unread = self.input.unread();
            // A head is complete only with a line's end; one that comes byte by byte is not read
            // anew for each.
            if unread[looked_at..].contains(&b'\n') || unread.len() >= self.input.capacity() {
                match self.look(worker, client, resumed.as_ref())? {
                    None => {}
                    Some((len, Ok(verdict))) => {
                        timer.set_idle(false);
                        return Ok(Some((len, verdict)));
                    }
                    Some((_, Err(wait))) => {
                        timer.set_idle(false);
                        resumed = self.wait(timer, wait).await;
                        if resumed.is_none() {
                            self.log(worker, client, &Trail::new(Instant::now()), Some("cut"));
                            return Ok(None);
                        }
                        // It is all there still, and is judged anew.
                        continue;
                    }
                }
            }
            let unread = self.input.unread();
            looked_at = unread.len();
            let was_empty = unread.is_empty();
            if self.input_ended {
                return Ok(None);
            }
            let filled = timer.limit(poll_fn(|cx| self.input.poll_fill(&mut self.stream, cx))).await;
            match filled {
                Ok(Ok(n)) if n > 0 => {}
                Ok(_) => return Ok(None),
                Err(Fired::Deadline) if !self.input.is_empty() => return Err(Problem::RequestTimeout),
                Err(_) => return Ok(None),
            }
            if was_empty {
                timer.set_idle(false);
                if idle {
                    timer.arm(settings.head_timeout);
                }
            }
        }
    }

    fn begin_body(&mut self, head_len: usize, verdict: &Verdict, most: u64) -> Result<(), Problem> {
        self.input.consume(head_len);
        self.body = Body::of_request(self.request.length, verdict.takes_trailers());
        let body_max = verdict.body_bytes_max(most);
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

    async fn exchange(
        &mut self,
        worker: &Worker,
        timer: &Timer,
        client: &ClientInfo,
        plan: &Plan,
        trail: &mut Trail,
    ) -> Result<Done, Fault> {
        let mut pace = Pace::begin(&worker.settings(), trail.started);
        if !self.request.expects_continue {
            read_ahead(timer, plan, &mut pace, self.request.length, self, trail).await?;
        }
        trail.bytes_in = self.body_ready as u64;
        let head = std::mem::take(&mut self.request.head);
        let upgrade = std::mem::take(&mut self.request.upgrade);
        let request = Request {
            head: &head,
            method: self.request.method,
            upgrade: &upgrade,
            must_change: false,
            client: client.counted(),
            expects: self.request.expects_continue,
            keep: may_keep(self.request.length),
            pace,
            plan,
        };
        let outcome = match plan.is_plain() {
            true => forward(timer, request, self, trail).await,
            false => Box::pin(compressed::forward(timer, request, self, trail)).await,
        };
        (self.request.head, self.request.upgrade) = (head, upgrade);
        outcome
    }

    fn poll_more_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match ready!(self.input.poll_fill(&mut self.stream, cx)) {
            Ok(0) | Err(_) => Poll::Ready(Err(Gone::Lost)),
            Ok(_) => Poll::Ready(self.take_body()),
        }
    }

    /// Looks at what came behind the part of the body that is known.
    fn take_body(&mut self) -> Result<(), Gone> {
        let bad = |error| match error {
            ChunkError::Misplaced => Gone::Problem(MISPLACED_TRAILER),
            _ => Gone::Problem(Problem::BadBody("a malformed chunked body")),
        };
        let n = self.body.take(&self.input.unread()[self.body_ready..]).map_err(bad)?;
        self.body_ready += n;
        self.body_seen += n as u64;
        if self.body_seen > self.body_max {
            return Err(Gone::Problem(Problem::BodyTooLarge));
        }
        Ok(())
    }

    fn answer(&mut self, worker: &Worker, answer: &Answer) {
        self.close |= worker.is_ending(self.generation) || !self.body.is_done();
        answer.write(self.framing(), &mut self.queued);
        self.consume_body(self.body_ready);
    }

    /// How an answer to the request that is served now is framed.
    fn framing(&self) -> Framing {
        Framing {
            close: self.close,
            say_keep_alive: self.request.old,
            chunked: !self.request.old,
            is_head: self.request.method == Method::Head,
            date: self.worker.clock.date(),
        }
    }

    async fn answer_problem(
        &mut self,
        timer: &Timer,
        problem: Problem,
        trail: &Trail,
        limit: Duration,
    ) -> End {
        problem.write(Framing { close: true, ..self.framing() }, trail.readers(), &mut self.queued);
        timer.disarm();
        timer.arm(limit);
        match timer.limit(poll_fn(|cx| self.poll_send(cx, &[]))).await {
            Ok(Ok(_)) => End::Linger,
            _ => End::Close,
        }
    }

    fn log(&self, worker: &Worker, client: &ClientInfo, trail: &Trail, error: Option<&'static str>) {
        let origin = self.request.origin.map(|ip| ip.to_string());
        worker.finish(&Line {
            client: origin.as_deref().unwrap_or(&client.address),
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
