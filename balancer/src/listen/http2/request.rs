//! A request's head over HTTP/2, in the form that a backend gets.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request as HttpRequest;

use super::head::{is_websocket, write_as_http1};
use crate::core::access_log::Line;
use crate::core::trail::Trail;
use crate::core::worker::Worker;
use crate::forward::plan::Plan;
use crate::forward::problem::Problem;
use crate::gateway::{Answer, Asked, Gateway, Resumed, Verdict, Wait};
use crate::listen::client::ClientInfo;
use crate::wire::request_head::{BodyLength, Method, Refusal};
use crate::wire::write::write_request;

/// What is answered without a backend.
pub(super) enum Local {
    /// With the request's id.
    Answer(Box<Answer>, Vec<u8>),
    Problem(Problem),
}

/// What is taken of a request's body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taking {
    /// Most of it.
    pub(super) bytes_max: u64,
    /// Fields may come behind it.
    pub(super) trailers: bool,
}

/// Why a request cannot be forwarded as far as is known.
enum Not {
    Ever(Local),
    Yet(Box<Wait>),
}

impl From<Local> for Not {
    fn from(local: Local) -> Self {
        Self::Ever(local)
    }
}

/// A request that can be forwarded.
pub(super) struct Prepared {
    /// Ends with the request's id and the blank line.
    pub(super) head: Vec<u8>,
    id_len: usize,
    pub(super) method: Method,
    method_len: usize,
    target_len: usize,
    /// The target as it came, but for keys; where another is sent.
    asked: Vec<u8>,
    pub(super) plan: Plan,
    pub(super) expects_continue: bool,
    pub(super) websocket: bool,
    pub(super) length: BodyLength,
    pub(super) taking: Taking,
}

impl Prepared {
    pub(super) fn method_name(&self) -> &[u8] {
        &self.head[..self.method_len]
    }

    /// As it came, but for keys.
    pub(super) fn target(&self) -> &[u8] {
        if !self.asked.is_empty() {
            return &self.asked;
        }
        &self.head[self.method_len + 1..][..self.target_len]
    }

    pub(super) fn id(&self) -> &[u8] {
        let end = self.head.len() - b"\r\n\r\n".len();
        &self.head[end - self.id_len..end]
    }
}

/// Reads a request's head, and writes it as a backend is to get it, once all that it waits for is there: that its password
/// was looked at, that a service was asked. None where its client has taken it back meanwhile.
pub(super) async fn prepare(
    worker: &Rc<Worker>,
    gateway: &Gateway,
    client: &ClientInfo,
    request: &HttpRequest<RecvStream>,
    trail: &mut Trail,
    respond: &mut SendResponse<Bytes>,
) -> Option<Result<Prepared, Local>> {
    let (mut resumed, mut id) = (None, Vec::with_capacity(32));
    loop {
        let wait = match look(worker, gateway, client, request, trail, &mut id, resumed.as_ref()) {
            Ok(prepared) => return Some(Ok(prepared)),
            Err(Not::Ever(local)) => return Some(Err(local)),
            Err(Not::Yet(wait)) => wait,
        };
        let (timer, begun) = (worker.timers.timer(), Instant::now());
        let mut done = pin!(wait.done(&timer));
        resumed = poll_fn(|cx| match done.as_mut().poll(cx) {
            Poll::Ready(resumed) => Poll::Ready(Some(resumed)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await;
        trail.waited += begun.elapsed();
        resumed.as_ref()?;
        // What it waited for takes none of the time that its own service has.
        trail.started = Instant::now();
    }
}

fn look(
    worker: &Worker,
    gateway: &Gateway,
    client: &ClientInfo,
    request: &HttpRequest<RecvStream>,
    trail: &mut Trail,
    id: &mut Vec<u8>,
    resumed: Option<&Resumed>,
) -> Result<Prepared, Not> {
    let mut text = worker.text.borrow_mut();
    text.clear();
    write_as_http1(request, !request.body().is_end_stream(), &mut text).map_err(Local::Problem)?;
    let mut head = worker.request_head.borrow_mut();
    match head.parse(&text) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Local::Problem(Problem::Refused(Refusal::BadRequest("a malformed head"))).into());
        }
        Err(refusal) => return Err(Local::Problem(Problem::Refused(refusal)).into()),
    }
    if is_websocket(request) && request.headers().contains_key(http::header::CONTENT_LENGTH) {
        let detail = "an extended CONNECT with a content-length";
        return Err(Local::Problem(Problem::Refused(Refusal::BadRequest(detail))).into());
    }
    // One that has waited is called as it was: who was asked about it knows it by that.
    match head.request_id.filter(|_| client.trusted) {
        _ if !id.is_empty() => {}
        Some(given) => id.extend_from_slice(given.of(&text)),
        None => worker.request_id(id),
    }
    trail.origin = client.origin(&head, &text, &worker.settings());
    let judged = client.judged(trail.origin, &head, &text);
    let came = Some((client.as_client(true), id.as_slice()));
    let verdict = gateway.judge(Asked { head: &head, buf: &text, client: judged, came, resumed });
    let verdict = verdict.map_err(|wait| Not::Yet(wait.into()))?;
    let bytes_max = verdict.body_bytes_max(worker.settings().body_bytes_max);
    let taking = Taking { bytes_max, trailers: verdict.takes_trailers() };
    let (plan, target, shown) = match verdict {
        Verdict::Forward { plan, target, shown } => (plan, target, shown),
        Verdict::Answer(answer) => return Err(Local::Answer(answer.into(), std::mem::take(id)).into()),
    };
    trail.via = plan.via.clone();
    if let BodyLength::Length(bytes) = head.body
        && bytes > bytes_max
    {
        return Err(Local::Problem(Problem::BodyTooLarge).into());
    }
    let came = head.target(&text).whole();
    let is_rewritten = target.is_some();
    let target = target.as_deref().unwrap_or(&came);
    let rewrite = plan.via.as_ref().map(|via| via.rewrite(target));
    let asked = shown.unwrap_or_else(|| if is_rewritten { came.to_vec() } else { Vec::new() });
    let mut out = Vec::with_capacity(text.len() + 256);
    write_request(&head, &text, client.as_client(true), id, rewrite, &mut out);
    Ok(Prepared {
        id_len: id.len(),
        method: head.method,
        method_len: head.method_span.of(&text).len(),
        target_len: head.target(&text).len(),
        asked,
        taking,
        plan,
        expects_continue: head.expects_continue,
        websocket: is_websocket(request),
        length: head.body,
        head: out,
    })
}

/// Counts and logs a request that is over.
pub(super) fn log(
    worker: &Worker,
    client: &ClientInfo,
    method: &[u8],
    target: &[u8],
    request_id: &[u8],
    trail: &Trail,
    error: Option<&'static str>,
) {
    let whole = trail.started.elapsed();
    let origin = trail.origin.map(|ip| ip.to_string());
    worker.finish(&Line {
        client: origin.as_deref().unwrap_or(&client.address),
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
