//! One request over HTTP/2: forwarded in HTTP/1.1's form, answered in frames.

mod own;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{FlowControl, Reason, RecvStream, SendStream};
use http::{Request as HttpRequest, Response};

use super::head::{self, read_trailers, write_trailers};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::request::{Local, Prepared, Taking, log, prepare};
use super::tunnel::Tunnel;
use crate::core::account::{Charge, Use};
use crate::core::trail::Trail;
use crate::core::worker::{ANSWER_PIECE_BYTES_MIN, Worker};
use crate::forward::ahead::read_ahead;
use crate::forward::compressed;
use crate::forward::downstream::{Done, Downstream, Fault, Gone, Request};
use crate::forward::exchange::forward;
use crate::forward::problem::Problem;
use crate::forward::retry::may_keep;
use crate::forward::waiting::Pace;
use crate::gateway::Gateway;
use crate::listen::client::ClientInfo;
use crate::listen::leave::Leave;
use crate::wire::request_head::{BodyLength, Method};
use crate::wire::response_head::ResponseHead;

/// A body is charged to the account in steps of this.
const BODY_STEP_BYTES: usize = 4 * 1024;
/// Most that a client sends in a frame, and that is read of a body at once.
const FRAME_BYTES: usize = 16 * 1024;
/// A first piece of an answer up to this size goes out with its head, whatever the window.
const FIRST_PIECE_BYTES_MAX: usize = ANSWER_PIECE_BYTES_MIN;

/// What a stream belongs to.
pub type Of = (Rc<Worker>, Rc<Gateway>, Rc<ClientInfo>, (Rc<Inbox>, Rc<Outbox>));

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Served,
    /// Its client reset it.
    TakenBack,
    /// Neither: not answered in full.
    Broken,
}

/// Answers a request.
pub async fn serve(of: Of, request: HttpRequest<RecvStream>, mut respond: SendResponse<Bytes>) -> End {
    let (worker, gateway, client, (inbox, outbox)) = of;
    let mut trail = Trail::new(Instant::now());
    let prepared = prepare(&worker, &gateway, &client, &request, &mut trail, &mut respond).await;
    let Some(prepared) = prepared else {
        let (method, path) = (request.method().as_str().as_bytes(), request.uri().path().as_bytes());
        log(&worker, &client, method, path, &[], &trail, Some("cut"));
        return End::TakenBack;
    };
    let (method, path) = (request.method().clone(), request.uri().clone());
    let mut recv = request.into_body();
    let unread = (!recv.is_end_stream()).then(|| inbox.follow(recv.flow_control()));
    let mut stream = Stream {
        worker: worker.clone(),
        recv,
        unread,
        inbox,
        chunked: false,
        complete: true,
        input: Vec::new(),
        input_used: 0,
        charge: Charge::none(&worker.purse),
        seen: 0,
        taking: Taking::default(),
        respond,
        outbox,
        waits_for_turn: false,
        taken_back: false,
        head: None,
        send: None,
        held: None,
    };
    match prepared {
        Ok(prepared) => return run(&worker, &gateway, &client, prepared, stream, &mut trail).await,
        Err(Local::Answer(answer, id)) => {
            (trail.status, trail.via) = (answer.status, answer.via.clone());
            let error = answer.error;
            stream.answer(*answer, method == http::Method::HEAD).await;
            let (method, path) = (method.as_str().as_bytes(), path.path().as_bytes());
            log(&worker, &client, method, path, &id, &trail, error);
        }
        Err(Local::Problem(problem)) => {
            worker.stats.refused.add(1);
            trail.status = problem.status();
            stream.tell(problem, &trail, method == http::Method::HEAD);
            let (method, path) = (method.as_str().as_bytes(), path.path().as_bytes());
            log(&worker, &client, method, path, &[], &trail, Some(problem.kind()));
        }
    }
    End::Served
}

async fn run(
    worker: &Rc<Worker>,
    gateway: &Gateway,
    client: &ClientInfo,
    prepared: Prepared,
    mut stream: Stream,
    trail: &mut Trail,
) -> End {
    let timer = worker.timers.timer();
    stream.chunked = prepared.length == BodyLength::Chunked;
    stream.taking = prepared.taking;
    stream.complete = matches!(prepared.length, BodyLength::None | BodyLength::Length(0));
    let mut pace = Pace::begin(&worker.settings(), trail.started);
    let mut ahead = Ok(());
    if !prepared.expects_continue {
        let (plan, length) = (&prepared.plan, prepared.length);
        ahead = read_ahead(&timer, plan, &mut pace, length, &mut stream, trail).await;
    }
    let outcome = match ahead {
        Ok(()) => {
            trail.bytes_in = stream.body().len() as u64;
            let request = Request {
                head: &prepared.head,
                method: prepared.method,
                upgrade: if prepared.websocket { head::WEBSOCKET.as_bytes() } else { b"" },
                must_change: prepared.websocket,
                client: client.counted(),
                expects: prepared.expects_continue,
                keep: may_keep(prepared.length),
                pace,
                plan: &prepared.plan,
            };
            match prepared.plan.is_plain() {
                true => forward(&timer, request, &mut stream, trail).await,
                false => Box::pin(compressed::forward(&timer, request, &mut stream, trail)).await,
            }
        }
        Err(fault) => Err(fault),
    };
    if outcome.is_err() {
        // What failed may be that it was taken back.
        let _ = poll_fn(|cx| Poll::Ready(stream.poll_cancelled(cx))).await;
    }
    let end = match &outcome {
        _ if stream.taken_back => End::TakenBack,
        Ok(Done::Complete) => End::Served,
        _ => End::Broken,
    };
    let error = match outcome {
        Ok(Done::Upgraded(upstream)) if prepared.websocket => {
            if let Some(mut tunnel) = stream.into_tunnel() {
                let (backend, via) = (upstream.backend.serial, trail.via.as_ref());
                tunnel.run(Leave::new(&timer, gateway, backend, via), *upstream).await;
                (trail.bytes_in, trail.bytes_out) = (tunnel.bytes_in, tunnel.bytes_out);
            }
            None
        }
        Ok(_) => None,
        Err(Fault::Problem(problem)) => {
            trail.status = problem.status();
            stream.tell(problem, trail, prepared.method == Method::Head);
            Some(problem.kind())
        }
        Err(Fault::Cut) => {
            stream.reset();
            Some("cut")
        }
    };
    log(worker, client, prepared.method_name(), prepared.target(), prepared.id(), trail, error);
    end
}

/// The client's side of the exchange.
struct Stream {
    worker: Rc<Worker>,
    recv: RecvStream,
    /// Counted in `inbox` for as long as the stream is there.
    unread: Option<Rc<FlowControl>>,
    inbox: Rc<Inbox>,
    chunked: bool,
    complete: bool,
    /// The body as the backend gets it.
    input: Vec<u8>,
    input_used: usize,
    /// For what `input` holds.
    charge: Charge,
    seen: u64,
    taking: Taking,
    respond: SendResponse<Bytes>,
    outbox: Rc<Outbox>,
    /// Others of its connection send before it.
    waits_for_turn: bool,
    /// The client has reset it.
    taken_back: bool,
    /// The answer's head: it goes out with what follows, so that an answer is few frames.
    head: Option<Response<()>>,
    send: Option<SendStream<Bytes>>,
    /// The newest piece of the answer, which may be its last.
    held: Option<Bytes>,
}

impl Stream {
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match ready!(self.recv.poll_data(cx)) {
            Some(Ok(data)) => {
                self.seen += data.len() as u64;
                self.inbox.seen(self.seen);
                if self.seen > self.taking.bytes_max {
                    return Poll::Ready(Err(Gone::Problem(Problem::BodyTooLarge)));
                }
                // It is asked for no more before this is passed on, so the client may send as much.
                if self.recv.flow_control().release_capacity(data.len()).is_err() {
                    return Poll::Ready(Err(Gone::Lost));
                }
                self.take(&data);
            }
            Some(Err(error)) => {
                self.taken_back |= error.is_reset() && error.is_remote();
                return Poll::Ready(Err(Gone::Lost));
            }
            None => {
                let trailers = match ready!(self.recv.poll_trailers(cx)) {
                    Ok(trailers) => trailers.unwrap_or_default(),
                    Err(error) => {
                        self.taken_back |= error.is_reset() && error.is_remote();
                        return Poll::Ready(Err(Gone::Lost));
                    }
                };
                // All or nothing of them; those of a body with a length are not passed on.
                let mut written = Vec::new();
                write_trailers(&trailers, self.taking.trailers, &mut written).map_err(Gone::Problem)?;
                if self.chunked {
                    self.input.extend_from_slice(b"0\r\n");
                    self.input.extend_from_slice(&written);
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

    fn tell(&mut self, problem: Problem, trail: &Trail, is_head: bool) {
        self.head = Some(head::problem(problem, trail.readers(), self.worker.clock.date()));
        self.held = (!is_head).then(|| Bytes::from(problem.body()));
        // Who is not told is gone.
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
            outbox: self.outbox,
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

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Gone>> {
        if self.input.len() >= FRAME_BYTES {
            self.input.reserve_exact(FRAME_BYTES);
        }
        ready!(self.poll_more(cx))?;
        let covered = self.charge.cover(self.input.len().next_multiple_of(BODY_STEP_BYTES), Use::Body);
        // What is whole is on its way to a backend.
        Poll::Ready(if self.complete || covered {
            Ok(true)
        } else if self.charge.bytes() == 0 {
            Err(Gone::Problem(Problem::OutOfMemory))
        } else {
            Ok(false)
        })
    }

    fn is_held_up(&self) -> bool {
        self.unread.is_some() && self.inbox.is_blocked()
    }

    fn body(&self) -> &[u8] {
        &self.input[self.input_used..]
    }

    fn consume_body(&mut self, n: usize) {
        self.input_used += n;
        if self.input_used == self.input.len() {
            self.input.clear();
            self.input_used = 0;
            if self.input.capacity() > 2 * FRAME_BYTES {
                self.input = Vec::new();
            }
            self.charge.clear();
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
            self.outbox.given(piece.len());
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
        let given = self.outbox.poll_give(cx, send.capacity().min(piece.len()));
        self.waits_for_turn = given.is_pending();
        let n = ready!(given);
        self.held = Some(Bytes::copy_from_slice(&piece[..n]));
        Poll::Ready(Ok(n))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        // An error shows again, and is seen, where something is sent.
        if self.send_held(false).is_err() {
            return Poll::Ready(0);
        }
        let outbox = self.outbox.poll_room(cx);
        self.waits_for_turn = outbox.is_pending();
        let most = ready!(outbox);
        let Some(send) = &mut self.send else { return Poll::Ready(0) };
        send.reserve_capacity(most);
        let room = send.capacity().min(most);
        if room > 0 {
            // What it does not use yet is for other streams.
            send.reserve_capacity(0);
            return Poll::Ready(room);
        }
        send.reserve_capacity(ANSWER_PIECE_BYTES_MIN);
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                _ => return Poll::Ready(0),
            }
        }
        Poll::Ready(send.capacity().min(most))
    }

    fn turn(&self) -> Option<u64> {
        self.waits_for_turn.then(|| self.outbox.moved())
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
        let reset = ready!(match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        self.taken_back |= reset.is_ok();
        Poll::Ready(())
    }
}
