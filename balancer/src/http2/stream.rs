//! One request over HTTP/2: its head and body in HTTP/1.1's form, its answer in frames.
//!
//! The head is written as HTTP/1.1 and then read by the same strict reader as every other: one set
//! of rules, whatever a request came by.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, VIA};
use http::{Request as HttpRequest, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::access_log::Line;
use crate::forward::exchange::{Downstream, Fault, Gone, Request, Trail, forward};
use crate::forward::headers;
use crate::forward::problem::Problem;
use crate::forward::request_head::{BodyLength, HEAD_BYTES_MAX, Method, Refusal};
use crate::forward::response_head::{AnswerLength, ResponseHead};
use crate::forward::retry::KEPT_BYTES_MAX;
use crate::http1::{ClientInfo, READY_PATH, is_repeatable};
use crate::worker::Worker;

/// A body up to this size is waited for before a backend is taken up by it.
const SMALL_BODY_BYTES: u64 = 16 * 1024;

/// The answer ends in the middle; hyper resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("the exchange was cut off")]
pub struct Cut;

/// What the exchange has ready for hyper.
#[derive(Debug, Default)]
struct Ready {
    head: Option<Response<()>>,
    frame: Option<Bytes>,
    trailers: Option<HeaderMap>,
    cut: bool,
}

type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// The answer's body, which polls the exchange that it comes from.
pub struct AnswerBody {
    ready: Rc<RefCell<Ready>>,
    driver: Option<Driver>,
}

/// Answers a request.
pub async fn answer(
    worker: Rc<Worker>,
    client: Rc<ClientInfo>,
    request: HttpRequest<Incoming>,
) -> Result<Response<AnswerBody>, Cut> {
    worker.stats.http2_requests.add(1);
    let ready = Rc::new(RefCell::new(Ready::default()));
    let mut driver: Driver = Box::pin(exchange(worker, client, request, ready.clone()));
    let done = poll_fn(|cx| {
        let done = driver.as_mut().poll(cx).is_ready();
        if done || ready.borrow().head.is_some() { Poll::Ready(done) } else { Poll::Pending }
    })
    .await;
    let head = ready.borrow_mut().head.take().ok_or(Cut)?;
    let body = AnswerBody { ready, driver: (!done).then_some(driver) };
    Ok(head.map(|()| body))
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(bytes) = self.ready.borrow_mut().frame.take() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(driver) = &mut self.driver {
                let done = driver.as_mut().poll(cx).is_ready();
                if done {
                    self.driver = None;
                } else if self.ready.borrow().frame.is_none() {
                    return Poll::Pending;
                }
                continue;
            }
            let mut ready = self.ready.borrow_mut();
            if std::mem::take(&mut ready.cut) {
                return Poll::Ready(Some(Err(Cut)));
            }
            return Poll::Ready(ready.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
    }

    fn is_end_stream(&self) -> bool {
        let ready = self.ready.borrow();
        self.driver.is_none() && ready.frame.is_none() && ready.trailers.is_none() && !ready.cut
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.driver, &self.ready.borrow().frame) {
            (None, Some(frame)) => SizeHint::with_exact(frame.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

async fn exchange(
    worker: Rc<Worker>,
    client: Rc<ClientInfo>,
    request: HttpRequest<Incoming>,
    ready: Rc<RefCell<Ready>>,
) {
    let mut trail = Trail::new(Instant::now());
    let mut id = Vec::new();
    match prepare(&worker, &client, &request, &mut id) {
        Ok(prepared) => run(&worker, request, prepared, &mut trail, &id, &ready, &client).await,
        Err(Local::Ready) => local(&worker, &client, &request, &mut trail, &id, &ready),
        Err(Local::Problem(problem)) => {
            worker.stats.refused.add(1);
            let (method, target) = (request.method().as_str(), request.uri().path());
            trail.status = problem.status();
            tell(problem, &ready);
            log(&worker, &client, method.as_bytes(), target.as_bytes(), &id, &trail, Some(problem.kind()));
        }
    }
}

/// What is answered without a backend.
enum Local {
    Ready,
    Problem(Problem),
}

/// A request that can be forwarded.
struct Prepared {
    head: Vec<u8>,
    method: Method,
    method_len: usize,
    target_len: usize,
    repeatable: bool,
    length: BodyLength,
}

fn prepare(
    worker: &Worker,
    client: &ClientInfo,
    request: &HttpRequest<Incoming>,
    id: &mut Vec<u8>,
) -> Result<Prepared, Local> {
    let text = as_http1(request).map_err(Local::Problem)?;
    let mut head = worker.request_head.borrow_mut();
    match head.parse(&text) {
        Ok(true) => {}
        Ok(false) => return Err(Local::Problem(Problem::Refused(Refusal::BadRequest("a malformed head")))),
        Err(refusal) => return Err(Local::Problem(Problem::Refused(refusal))),
    }
    match head.request_id {
        Some(given) => id.extend_from_slice(given.of(&text)),
        None => worker.request_id(id),
    }
    let target = head.target.of(&text);
    if target == READY_PATH && head.method.is_safe() {
        return Err(Local::Ready);
    }
    if let BodyLength::Length(bytes) = head.body
        && bytes > worker.settings().body_bytes_max
    {
        return Err(Local::Problem(Problem::BodyTooLarge));
    }
    let mut out = Vec::with_capacity(text.len() + 256);
    headers::write_request(&head, &text, client.as_client(), id, &mut out);
    Ok(Prepared {
        method: head.method,
        method_len: head.method_span.of(&text).len(),
        target_len: target.len(),
        repeatable: is_repeatable(head.method, target, head.has_idempotency_key),
        length: head.body,
        head: out,
    })
}

/// The head as HTTP/1.1 would carry it.
fn as_http1(request: &HttpRequest<Incoming>) -> Result<Vec<u8>, Problem> {
    let bad = |text| Problem::Refused(Refusal::BadRequest(text));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let field = |name: &[u8], value: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    // `:authority` and Host must not differ (RFC 9113, 8.3.1).
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    match (authority, request.headers().get(HOST)) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host.as_bytes()) => {
            return Err(bad(":authority is not the Host"));
        }
        (Some(authority), _) => field(b"host", authority, &mut out),
        (None, Some(host)) => field(b"host", host.as_bytes(), &mut out),
        (None, None) => {}
    }
    if request.headers().get_all(HOST).iter().count() > 1 {
        return Err(bad("more than one Host"));
    }
    let mut cookies = Vec::new();
    for (name, value) in request.headers() {
        match *name {
            HOST | EXPECT => {}
            // They came apart for compression's sake (RFC 9113, 8.2.3).
            COOKIE => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            TE => field(b"connection", b"te", &mut out),
            _ => field(name.as_str().as_bytes(), value.as_bytes(), &mut out),
        }
        if out.len() + cookies.len() > HEAD_BYTES_MAX {
            return Err(Problem::Refused(Refusal::HeadTooLarge));
        }
    }
    if !cookies.is_empty() {
        field(b"cookie", &cookies, &mut out);
    }
    if !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH) {
        field(b"transfer-encoding", b"chunked", &mut out);
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

async fn run(
    worker: &Rc<Worker>,
    request: HttpRequest<Incoming>,
    prepared: Prepared,
    trail: &mut Trail,
    id: &[u8],
    ready: &Rc<RefCell<Ready>>,
    client: &ClientInfo,
) {
    let settings = worker.settings();
    let timer = worker.timers.timer();
    let mut stream = Stream {
        chunked: prepared.length == BodyLength::Chunked,
        complete: matches!(prepared.length, BodyLength::None | BodyLength::Length(0)),
        incoming: request.into_body(),
        input: Vec::new(),
        input_used: 0,
        seen: 0,
        seen_max: settings.body_bytes_max,
        ready: ready.clone(),
    };
    let small = matches!(prepared.length, BodyLength::Length(bytes) if bytes <= SMALL_BODY_BYTES);
    let mut outcome = Ok(());
    if small && !stream.complete {
        timer.arm(settings.body_timeout);
        outcome = match timer.limit(poll_fn(|cx| stream.poll_whole(cx))).await {
            Ok(Ok(())) => {
                trail.started = Instant::now();
                Ok(())
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
        let request =
            Request { head: &prepared.head, method: prepared.method, repeatable: prepared.repeatable, keep };
        outcome = forward(worker, &timer, request, &mut stream, trail).await.map(drop);
    }
    let error = match outcome {
        Ok(()) => None,
        Err(Fault::Problem(problem)) => {
            trail.status = problem.status();
            tell(problem, ready);
            Some(problem.kind())
        }
        Err(Fault::Cut) => {
            ready.borrow_mut().cut = true;
            Some("cut")
        }
    };
    let method = &prepared.head[..prepared.method_len];
    let target = &prepared.head[prepared.method_len + 1..][..prepared.target_len];
    log(worker, client, method, target, id, trail, error);
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

/// The balancer's own readiness.
fn local(
    worker: &Worker,
    client: &ClientInfo,
    request: &HttpRequest<Incoming>,
    trail: &mut Trail,
    id: &[u8],
    ready: &RefCell<Ready>,
) {
    let (status, text) = if worker.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut ready = ready.borrow_mut();
    ready.head = Some(response);
    ready.frame = (request.method() != http::Method::HEAD).then(|| Bytes::from_static(text.as_bytes()));
    drop(ready);
    trail.status = status.as_u16();
    log(worker, client, request.method().as_str().as_bytes(), READY_PATH, id, trail, None);
}

fn tell(problem: Problem, ready: &RefCell<Ready>) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after_s() {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        if problem.is_unprocessed() {
            headers.insert(HeaderName::from_static("skep-unprocessed"), HeaderValue::from_static("1"));
        }
    }
    let mut ready = ready.borrow_mut();
    ready.head = Some(response);
    ready.frame = Some(Bytes::from(problem.body()));
}

/// The client's side of the exchange.
struct Stream {
    incoming: Incoming,
    chunked: bool,
    complete: bool,
    /// The body as the backend gets it.
    input: Vec<u8>,
    input_used: usize,
    seen: u64,
    seen_max: u64,
    ready: Rc<RefCell<Ready>>,
}

impl Stream {
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.complete {
            ready!(self.poll_more(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Err(Gone::Lost)),
            None => {
                if self.chunked {
                    self.input.extend_from_slice(b"0\r\n\r\n");
                }
                self.complete = true;
                return Poll::Ready(Ok(()));
            }
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                self.seen += data.len() as u64;
                if self.seen > self.seen_max {
                    return Poll::Ready(Err(Gone::Problem(Problem::BodyTooLarge)));
                }
                if self.chunked {
                    self.input.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                }
                self.input.extend_from_slice(&data);
                if self.chunked {
                    self.input.extend_from_slice(b"\r\n");
                }
            }
            Err(frame) => {
                if let (Ok(trailers), true) = (frame.into_trailers(), self.chunked) {
                    self.input.extend_from_slice(b"0\r\n");
                    for (name, value) in &trailers {
                        self.input.extend_from_slice(name.as_str().as_bytes());
                        self.input.extend_from_slice(b": ");
                        self.input.extend_from_slice(value.as_bytes());
                        self.input.extend_from_slice(b"\r\n");
                    }
                    self.input.extend_from_slice(b"\r\n");
                    self.chunked = false;
                }
            }
        }
        if !self.chunked && self.incoming.is_end_stream() {
            self.complete = true;
        }
        Poll::Ready(Ok(()))
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

    fn interim(&mut self, _head: &ResponseHead, _buf: &[u8]) {
        // hyper's server has no way to send one.
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], _whole: bool) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        headers.reserve(head.fields.len() + 2);
        for field in &head.fields {
            let name = HeaderName::from_bytes(field.name.of(buf));
            let value = HeaderValue::from_bytes(field.value.of(buf));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let length = match head.body {
            AnswerLength::Length(bytes) => Some(bytes),
            AnswerLength::None => head.told_length.filter(|_| head.status != 204),
            _ => None,
        };
        if let Some(bytes) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        headers.append(VIA, HeaderValue::from_static("1.1 skep"));
        self.ready.borrow_mut().head = Some(response);
    }

    fn poll_send(&mut self, _cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut ready = self.ready.borrow_mut();
        if ready.frame.is_some() {
            // Whoever takes the frame polls this again.
            return Poll::Pending;
        }
        ready.frame = Some(Bytes::copy_from_slice(piece));
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        if !trailers.is_empty() {
            self.ready.borrow_mut().trailers = Some(read_trailers(trailers));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        // hyper drops the exchange with its stream.
        Poll::Pending
    }
}

/// Trailers in HTTP/1.1's form; the decoder has seen that they are fields.
fn read_trailers(text: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in text.split(|b| *b == b'\n') {
        let mut parts = line.splitn(2, |b| *b == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let value = HeaderValue::from_bytes(value.trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            trailers.append(name, value);
        }
    }
    trailers
}
