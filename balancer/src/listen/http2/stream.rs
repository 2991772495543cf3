//! One request over HTTP/2: forwarded in HTTP/1.1's form, answered in frames.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request as HttpRequest, Response};

use super::head::{self, read_trailers, write_trailers};
use super::request::{Local, Prepared, prepare};
use super::tunnel::Tunnel;
use crate::core::access_log::Line;
use crate::core::trail::Trail;
use crate::core::worker::Worker;
use crate::forward::downstream::{Done, Downstream, Fault, Gone, Request};
use crate::forward::exchange::forward;
use crate::forward::problem::Problem;
use crate::forward::retry::KEPT_BYTES_MAX;
use crate::gateway::{Answer, Gateway};
use crate::listen::client::ClientInfo;
use crate::wire::request_head::{BodyLength, Method};
use crate::wire::response_head::ResponseHead;

/// A body up to this size is waited for before a backend is taken up by it.
const SMALL_BODY_BYTES: u64 = 16 * 1024;
/// A first piece of an answer up to this size goes out with its head, whatever the window.
const FIRST_PIECE_BYTES_MAX: usize = 16 * 1024;

/// Answers a request.
pub async fn serve(
    worker: Rc<Worker>,
    gateway: Rc<Gateway>,
    client: Rc<ClientInfo>,
    request: HttpRequest<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let mut trail = Trail::new(Instant::now());
    let prepared = prepare(&worker, &gateway, &client, &request);
    let (method, path) = (request.method().clone(), request.uri().clone());
    let mut stream = Stream {
        worker: worker.clone(),
        recv: request.into_body(),
        chunked: false,
        complete: true,
        input: Vec::new(),
        input_used: 0,
        seen: 0,
        seen_max: worker.settings().body_bytes_max,
        respond,
        head: None,
        send: None,
        held: None,
    };
    match prepared {
        Ok(prepared) => run(&worker, &client, prepared, stream, &mut trail).await,
        Err(Local::Answer(answer, id)) => {
            trail.status = answer.status;
            stream.answer(answer, method == http::Method::HEAD);
            let (method, path) = (method.as_str().as_bytes(), path.path().as_bytes());
            log(&worker, &client, method, path, &id, &trail, None);
        }
        Err(Local::Problem(problem)) => {
            worker.stats.refused.add(1);
            trail.status = problem.status();
            stream.tell(problem, method == http::Method::HEAD);
            let (method, path) = (method.as_str().as_bytes(), path.path().as_bytes());
            log(&worker, &client, method, path, &[], &trail, Some(problem.kind()));
        }
    }
}

async fn run(
    worker: &Rc<Worker>,
    client: &ClientInfo,
    prepared: Prepared,
    mut stream: Stream,
    trail: &mut Trail,
) {
    let settings = worker.settings();
    let timer = worker.timers.timer();
    stream.chunked = prepared.length == BodyLength::Chunked;
    stream.complete = matches!(prepared.length, BodyLength::None | BodyLength::Length(0));
    let small = matches!(prepared.length, BodyLength::Length(bytes) if bytes <= SMALL_BODY_BYTES);
    let mut outcome = Ok(Done::Complete);
    if small && !stream.complete && !prepared.expects_continue {
        timer.arm(settings.body_timeout);
        outcome = match timer.limit(poll_fn(|cx| stream.poll_whole(cx))).await {
            Ok(Ok(())) => {
                trail.started = Instant::now();
                Ok(Done::Complete)
            }
            Ok(Err(Gone::Lost)) => Err(Fault::Cut),
            Ok(Err(Gone::Problem(problem))) => Err(Fault::Problem(problem)),
            Err(_) => Err(Fault::Problem(Problem::RequestTimeout)),
        };
    }
    if outcome.is_ok() {
        trail.bytes_in = stream.body().len() as u64;
        let keep = match prepared.length {
            BodyLength::Length(bytes) => bytes <= KEPT_BYTES_MAX as u64,
            BodyLength::None | BodyLength::Chunked => true,
        };
        let upgrade: &[u8] = if prepared.websocket { head::WEBSOCKET.as_bytes() } else { b"" };
        let (head, method, plan) = (&prepared.head, prepared.method, &prepared.plan);
        let request = Request { head, method, upgrade, must_change: prepared.websocket, keep, plan };
        outcome = forward(&timer, request, &mut stream, trail).await;
    }
    let error = match outcome {
        Ok(Done::Upgraded(upstream)) if prepared.websocket => {
            if let Some(mut tunnel) = stream.into_tunnel() {
                tunnel.run(&timer, *upstream).await;
                (trail.bytes_in, trail.bytes_out) = (tunnel.bytes_in, tunnel.bytes_out);
            }
            None
        }
        Ok(_) => None,
        Err(Fault::Problem(problem)) => {
            trail.status = problem.status();
            stream.tell(problem, prepared.method == Method::Head);
            Some(problem.kind())
        }
        Err(Fault::Cut) => {
            stream.reset();
            Some("cut")
        }
    };
    log(worker, client, prepared.method_name(), prepared.target(), prepared.id(), trail, error);
}

fn log(
    worker: &Worker,
    client: &ClientInfo,
    method: &[u8],
    target: &[u8],
    request_id: &[u8],
    trail: &Trail,
    error: Option<&'static str>,
) {
    let whole = trail.started.elapsed();
    worker.finish(&Line {
        client: &client.address,
        proto: client.proto,
        version: "2",
        method,
        target,
        request_id,
        trail,
        whole,
        error,
    });
}

/// The client's side of the exchange.
struct Stream {
    worker: Rc<Worker>,
    recv: RecvStream,
    chunked: bool,
    complete: bool,
    /// The body as the backend gets it.
    input: Vec<u8>,
    input_used: usize,
    seen: u64,
    seen_max: u64,
    respond: SendResponse<Bytes>,
    /// The answer's head: it goes out with what follows, so that an answer is few frames.
    head: Option<Response<()>>,
    send: Option<SendStream<Bytes>>,
    /// The newest piece of the answer, which may be its last.
    held: Option<Bytes>,
}

impl Stream {
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.complete {
            ready!(self.poll_more(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match ready!(self.recv.poll_data(cx)) {
            Some(Ok(data)) => {
                self.seen += data.len() as u64;
                if self.seen > self.seen_max {
                    return Poll::Ready(Err(Gone::Problem(Problem::BodyTooLarge)));
                }
                // It is asked for no more before this is passed on, so the client may send as much.
                if self.recv.flow_control().release_capacity(data.len()).is_err() {
                    return Poll::Ready(Err(Gone::Lost));
                }
                self.take(&data);
            }
            Some(Err(_)) => return Poll::Ready(Err(Gone::Lost)),
            None => {
                let trailers = match ready!(self.recv.poll_trailers(cx)) {
                    Ok(trailers) => trailers.unwrap_or_default(),
                    Err(_) => return Poll::Ready(Err(Gone::Lost)),
                };
                if self.chunked {
                    self.input.extend_from_slice(b"0\r\n");
                    write_trailers(&trailers, &mut self.input).map_err(Gone::Problem)?;
                    self.input.extend_from_slice(b"\r\n");
                }
                self.complete = true;
            }
        }
        if !self.chunked && self.recv.is_end_stream() {
            self.complete = true;
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.chunked {
            self.input.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        self.input.extend_from_slice(data);
        if self.chunked {
            self.input.extend_from_slice(b"\r\n");
        }
    }

    /// Sends the head, and the piece that is held; `end`: they are all.
    fn send_held(&mut self, end: bool) -> Result<(), h2::Error> {
        let only_head = end && self.held.is_none();
        if let Some(head) = self.head.take() {
            self.send = Some(self.respond.send_response(head, only_head)?);
            if only_head {
                return Ok(());
            }
        }
        match (&mut self.send, self.held.take()) {
            (Some(send), Some(held)) => send.send_data(held, end),
            (Some(send), None) if end => send.send_data(Bytes::new(), true),
            _ => Ok(()),
        }
    }

    fn tell(&mut self, problem: Problem, is_head: bool) {
        self.head = Some(head::problem(problem, self.worker.clock.date()));
        self.held = (!is_head).then(|| Bytes::from(problem.body()));
        // Who is not told is gone.
        let _ = self.send_held(true);
    }

    fn answer(&mut self, answer: Answer, is_head: bool) {
        self.head = Some(head::own(&answer, self.worker.clock.date()));
        self.held = (!is_head && !answer.body.is_empty()).then(|| Bytes::from(answer.body.into_owned()));
        let _ = self.send_held(true);
    }

    fn reset(&mut self) {
        match &mut self.send {
            Some(send) => send.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    fn into_tunnel(self) -> Option<Tunnel> {
        let (recv, send) = (self.recv, self.send?);
        Some(Tunnel {
            recv,
            send,
            rest: Bytes::new(),
            recv_ended: false,
            send_ended: false,
            bytes_in: 0,
            bytes_out: 0,
        })
    }
}

impl Downstream for Stream {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.complete || self.input_used < self.input.len() {
            return Poll::Ready(Ok(()));
        }
        self.poll_more(cx)
    }

    fn body(&self) -> &[u8] {
        &self.input[self.input_used..]
    }

    fn consume_body(&mut self, n: usize) {
        self.input_used += n;
        if self.input_used == self.input.len() {
            self.input.clear();
            self.input_used = 0;
        }
    }

    fn body_complete(&self) -> bool {
        self.complete
    }

    fn takes_chunks(&self) -> bool {
        false
    }

    fn interim(&mut self, head: &ResponseHead, buf: &[u8]) -> bool {
        // One that is not sent is one that the client did not need.
        self.respond.send_informational(head::answer(head, buf, self.worker.clock.date())).is_ok()
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], _whole: bool) {
        self.head = Some(head::answer(head, buf, self.worker.clock.date()));
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        if piece.is_empty() {
            return Poll::Ready(self.send_held(false).map(|()| 0).map_err(io::Error::other));
        }
        if self.head.is_some() && self.held.is_none() && piece.len() <= FIRST_PIECE_BYTES_MAX {
            self.held = Some(Bytes::copy_from_slice(piece));
            return Poll::Ready(Ok(piece.len()));
        }
        self.send_held(false).map_err(io::Error::other)?;
        let Some(send) = &mut self.send else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        send.reserve_capacity(piece.len());
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(capacity) => capacity.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let n = send.capacity().min(piece.len());
        self.held = Some(Bytes::copy_from_slice(&piece[..n]));
        Poll::Ready(Ok(n))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        if trailers.is_empty() {
            return Poll::Ready(self.send_held(true).map_err(io::Error::other));
        }
        self.send_held(false).map_err(io::Error::other)?;
        let Some(send) = &mut self.send else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        Poll::Ready(send.send_trailers(read_trailers(trailers)).map_err(io::Error::other))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx).map(drop),
            None => self.respond.poll_reset(cx).map(drop),
        }
    }
}
