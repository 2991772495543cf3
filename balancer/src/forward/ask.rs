//! A question to a service whether a request may go on (forward auth), by the way that requests have: its pool, its limits,
//! its ejections. What comes back is one word, and what belongs to it.
//!
//! No tasks; to drop it is to take the question back, with its connection where no answer was there.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Instant;

use skep_gateway::ask::{self, Ask};

use crate::core::account::{Charge, Use};
use crate::core::timer::TICK;
use crate::core::trail::Trail;
use crate::forward::downstream::{Downstream, Fault, Request};
use crate::forward::exchange::forward;
use crate::forward::plan::Plan;
use crate::forward::problem::Problem;
use crate::forward::retry::Failure;
use crate::forward::waiting::Pace;
use crate::wire::request_head::Method;
use crate::wire::response_head::ResponseHead;
use crate::wire::write::Taken;

/// Most of an answer's body that is read: what a client gets of a refusal.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most that a request takes over, in bytes of names and values.
const TAKEN_BYTES_MAX: usize = 8 * 1024;
/// What of a refusal is this answer's own, or the balancer's to say.
const OWN: [&str; 7] =
    ["age", "date", "expires", "pragma", "skep-unprocessed", "surrogate-control", "trailer"];

/// And what says what a body is.
const OF_BODY: [&str; 8] = [
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
];

/// What a service says.
#[derive(Debug)]
pub enum Word {
    /// With the fields that the request takes over.
    Yes(Rc<[Taken]>),
    No(Refused),
    /// Nothing that is understood; why.
    None(&'static str),
}

/// An answer that is the client's.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<Taken>,
    pub body: Vec<u8>,
    /// For the body, and a copy of it, as long as somebody has them.
    pub held: Option<Rc<Charge>>,
}

/// Asks. `head` is the question's, in HTTP/1.1 and without a body.
pub async fn ask(plan: &Plan, head: &[u8], of: &Ask) -> Word {
    let worker = &plan.pool.worker;
    let (timer, whole) = (worker.timers.timer(), worker.timers.timer());
    let mut trail = Trail::new(Instant::now());
    let request = Request {
        head,
        method: Method::Get,
        upgrade: b"",
        must_change: false,
        client: None,
        expects: false,
        keep: false,
        pace: Pace::begin(&worker.settings(), trail.started),
        plan,
    };
    let says_yes = Cell::new(false);
    let mut listener = Listener {
        of,
        says_yes: &says_yes,
        heard: None,
        body: Vec::new(),
        seen: 0,
        charge: Some(Charge::none(&worker.purse)),
        is_whole: false,
    };
    // Its own time comes first: who is late has failed.
    whole.arm(of.timeout + 2 * TICK);
    let outcome = {
        let mut asking = pin!(forward(&timer, request, &mut listener, &mut trail));
        let mut is_short = false;
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = asking.as_mut().poll(cx) {
                return Poll::Ready(Ok(outcome));
            }
            if says_yes.get() && !is_short {
                // Its body says nothing: it may come to its end yet, for the connection's sake.
                is_short = true;
                whole.arm(TICK);
            }
            whole.poll_fired(cx).map(Err)
        })
        .await
    };
    if let Some(backend) = &trail.backend {
        backend.stats.bytes_out.fetch_add(trail.bytes_out, Relaxed);
    }
    match (listener.heard.take(), outcome) {
        // Its first line says all; who does not come to an end is not waited for.
        (Some(Word::No(refused)), _) => Word::No(listener.with_body(refused)),
        (Some(word), _) => word,
        (None, Ok(Err(Fault::Problem(problem)))) => Word::None(why(problem)),
        (None, Ok(_)) => Word::None("the service that is asked whether this may be had gave no answer"),
        (None, Err(_)) => Word::None(LATE),
    }
}

const LATE: &str = "the service that is asked whether this may be had did not answer in time";

fn why(problem: Problem) -> &'static str {
    match problem {
        Problem::Failed(Failure::Deadline | Failure::Silent) => LATE,
        Problem::Overloaded => "the service that is asked whether this may be had is busy",
        Problem::NoBackend | Problem::Failed(Failure::Connect) => {
            "the service that is asked whether this may be had cannot be reached"
        }
        _ => "the service that is asked whether this may be had failed",
    }
}

/// Takes the answer in a client's place.
struct Listener<'a> {
    of: &'a Ask,
    says_yes: &'a Cell<bool>,
    heard: Option<Word>,
    body: Vec<u8>,
    seen: usize,
    /// For what `body` holds.
    charge: Option<Charge>,
    is_whole: bool,
}

impl Listener<'_> {
    /// A body that is not there as a whole is no body.
    fn with_body(&mut self, refused: Refused) -> Refused {
        let mut refused = refused;
        if self.is_whole && self.body.len() == self.seen {
            refused.body = std::mem::take(&mut self.body);
            refused.held = self.charge.take().map(Rc::new);
        }
        if refused.body.is_empty() {
            refused.fields.retain(|(name, _)| !OF_BODY.contains(&name.as_str()));
        }
        refused
    }
}

fn fields_of<'a>(head: &'a ResponseHead, buf: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    head.fields.iter().map(|it| (it.name.of(buf), it.value.of(buf)))
}

fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// What is heard in a head.
fn word(of: &Ask, head: &ResponseHead, buf: &[u8]) -> Word {
    match ask::Word::of(head.status) {
        ask::Word::Yes => {
            // In one spelling alone: another may be another's.
            let is_taken = |name: &[u8]| of.take.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()));
            let taken = fields_of(head, buf).filter(|(name, _)| is_taken(name));
            let taken: Rc<[Taken]> = taken.map(|(name, value)| (folded(name), value.to_vec())).collect();
            if taken.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > TAKEN_BYTES_MAX {
                return Word::None(
                    "the service that is asked whether this may be had says more than is taken over",
                );
            }
            Word::Yes(taken)
        }
        ask::Word::No => {
            // Whatever cache it is told to (RFC 9213).
            let is_own = |name: &str| OWN.contains(&name) || name.ends_with("cache-control");
            let fields = fields_of(head, buf).map(|(name, value)| (folded(name), value.to_vec()));
            let fields: Vec<Taken> = fields.filter(|(name, _)| !is_own(name)).collect();
            let leads = |(name, _): &Taken| name == "location";
            if head.status < 400 && !fields.iter().any(leads) {
                return Word::None(
                    "the service that is asked whether this may be had sends its client nowhere",
                );
            }
            Word::No(Refused { status: head.status, fields, body: Vec::new(), held: None })
        }
        ask::Word::None if head.status >= 500 => {
            Word::None("the service that is asked whether this may be had failed")
        }
        ask::Word::None => {
            Word::None("the service that is asked whether this may be had says neither yes nor no")
        }
    }
}

impl Downstream for Listener<'_> {
    fn takes_chunks(&self) -> bool {
        false
    }

    fn interim(&mut self, _head: &ResponseHead, _buf: &[u8]) -> bool {
        false
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], _whole: bool) {
        let heard = word(self.of, head, buf);
        self.says_yes.set(matches!(heard, Word::Yes(_)));
        self.heard = Some(heard);
    }

    fn poll_send(&mut self, _cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        self.seen += piece.len();
        if self.seen > BODY_BYTES_MAX {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let is_wanted = matches!(self.heard, Some(Word::No(_))) && self.body.len() + piece.len() == self.seen;
        if is_wanted && self.charge.as_mut().is_some_and(|it| it.cover(2 * self.seen, Use::Body)) {
            self.body.extend_from_slice(piece);
        }
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>, _trailers: &[u8]) -> Poll<io::Result<()>> {
        self.is_whole = true;
        Poll::Ready(Ok(()))
    }
}
