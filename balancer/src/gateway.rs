//! One verdict a request: whether it is answered here, or where it goes and how.
//!
//! Both protocols ask [`Gateway::judge`] as soon as a head is read, and before it is written for a
//! backend. What is decided of a request is decided here; nothing behind it sees a path. `builtin` is what is known
//! with no configuration, `routed` what the routes in force say.

mod asking;
mod builtin;
mod cached;
mod chosen;
mod compressing;
mod hops;
mod limited;
mod ready;
mod routed;
mod unseen;

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use skep_console::ProblemKind;
use skep_console::problem::{self, PROBLEM_JSON};
use skep_gateway::auth::jwt::Verified;
use skep_gateway::figures::REASONS;
use skep_gateway::policy::Client;

use crate::core::account::Charge;
pub(crate) use crate::core::date::unix_s;
use crate::core::routes::Via;
use crate::core::worker::Worker;
use crate::forward::dispatch::Dispatch;
use crate::forward::dispatches::Dispatches;
use crate::forward::plan::Plan;
use crate::wire::request_head::RequestHead;
use crate::wire::write::{self, Framing, Taken, write_added, write_bytes};

use self::builtin::Known;
pub use self::unseen::{Resumed, Wait};

/// How long a node may let a claim, or a reader of one task, wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A request, as far as it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub head: &'a RequestHead,
    /// What the head was read from.
    pub buf: &'a [u8],
    pub client: Client,
    /// How it came, as services are told of it, and its id; None where none is asked.
    pub came: Option<(write::Client<'a>, &'a [u8])>,
    /// Where it has waited for something.
    pub resumed: Option<&'a Resumed>,
}

impl Asked<'_> {
    /// The value of its first end-to-end field of that name, which is in lower case.
    fn field(&self, name: &str) -> Option<&[u8]> {
        let named = |name_of: &[u8]| name_of.eq_ignore_ascii_case(name.as_bytes());
        self.head.fields.iter().find(|it| named(it.name.of(self.buf))).map(|it| it.value.of(self.buf))
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    Forward {
        plan: Plan,
        /// The path and query that are sent, where these are not as they came.
        target: Option<Vec<u8>>,
        /// The path and query as the log shows them, where those that came have a key in them.
        shown: Option<Vec<u8>>,
    },
    Answer(Answer),
}

impl Verdict {
    /// Whether fields may come behind its body.
    pub fn takes_trailers(&self) -> bool {
        match self {
            Self::Forward { plan, .. } => plan.takes_trailers,
            Self::Answer(_) => true,
        }
    }

    /// Largest body that is taken, in bytes, where the process takes so many.
    pub fn body_bytes_max(&self, most: u64) -> u64 {
        match self {
            Self::Forward { plan, .. } => plan.body_bytes_max.map_or(most, |own| own.min(most)),
            Self::Answer(_) => most,
        }
    }

    /// The path and query as the log shows them, where those that came have a key in them.
    pub fn shown(&self) -> Option<&[u8]> {
        match self {
            Self::Forward { shown, .. } | Self::Answer(Answer { shown, .. }) => shown.as_deref(),
        }
    }

    /// The route that the request has.
    pub fn via(&self) -> Option<&Via> {
        match self {
            Self::Forward { plan, .. } => plan.via.as_ref(),
            Self::Answer(answer) => answer.via.as_ref(),
        }
    }

    /// The same, where it is by a way that pages of other origins may read: so that they read why they are refused, too.
    /// What a page may do is said to it beforehand by another answer.
    fn readable(mut self) -> Self {
        if let Self::Answer(Answer { status: 300.., via: Some(via), more, .. }) = &mut self {
            more.extend_from_slice(via.readers());
        }
        self
    }

    fn showing(mut self, target: Option<Vec<u8>>) -> Self {
        match &mut self {
            Self::Forward { shown, .. } | Self::Answer(Answer { shown, .. }) => *shown = target,
        }
        self
    }
}

/// An answer of the balancer's own, never stored.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub reason: &'static str,
    /// Fields' names, in lower case, and their values.
    field: Option<(&'static str, Cow<'static, str>)>,
    more: Vec<(&'static str, String)>,
    /// What a service says that was asked.
    passed: Vec<Taken>,
    /// For what its body takes, where that may be long.
    _held: Option<Rc<Charge>>,
    pub body: Cow<'static, [u8]>,
    /// Why it is not what was asked for, in a word.
    pub error: Option<&'static str>,
    /// The route that the request has.
    pub via: Option<Via>,
    /// The path and query as the log shows them, where those that came have a key in them.
    shown: Option<Vec<u8>>,
}

impl Answer {
    /// A line of text.
    const fn text(status: u16, reason: &'static str, text: &'static str) -> Self {
        Self {
            status,
            reason,
            field: Some(("content-type", Cow::Borrowed("text/plain"))),
            more: Vec::new(),
            passed: Vec::new(),
            _held: None,
            body: Cow::Borrowed(text.as_bytes()),
            error: None,
            via: None,
            shown: None,
        }
    }

    /// A problem, as all programs write them.
    fn problem(kind: ProblemKind, reason: &'static str, detail: &str, via: Option<Via>) -> Self {
        let status = kind.status().as_u16();
        Self {
            status,
            reason,
            field: Some(("content-type", PROBLEM_JSON.into())),
            more: Vec::new(),
            passed: Vec::new(),
            _held: None,
            body: problem::document(kind, status, detail).into(),
            error: Some(kind.name()),
            via,
            shown: None,
        }
    }

    /// What the request has may yet be a route, which leads nowhere.
    fn no_route(via: Option<Via>) -> Self {
        Self::problem(ProblemKind::NotFound, "Not Found", "no route has this request", via)
    }

    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let more = self.more.iter().map(|(name, value)| (*name, value.as_str()));
        self.field.iter().map(|(name, value)| (*name, &**value)).chain(more)
    }

    /// Beside these, what a service says that was asked.
    pub fn passed(&self) -> &[Taken] {
        &self.passed
    }

    /// The whole of it for an HTTP/1.x client.
    pub fn write(&self, framing: Framing, out: &mut Vec<u8>) {
        let Self { status, reason, body, .. } = self;
        out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
        self.fields().for_each(|(name, value)| write_added(name, value, out));
        self.passed.iter().for_each(|(name, value)| write_bytes(name, value, out));
        write_added("cache-control", "no-store", out);
        write_added("content-length", &body.len().to_string(), out);
        framing.write_connection(None, false, out);
        framing.write_date(out);
        out.extend_from_slice(b"\r\n");
        if !framing.is_head {
            out.extend_from_slice(body);
        }
    }
}

/// Judges the requests of one core.
#[derive(Debug)]
pub struct Gateway {
    worker: Rc<Worker>,
    dispatches: Rc<Dispatches>,
    /// Tokens that this core has seen to hold.
    verified: RefCell<Verified>,
}

impl Gateway {
    pub fn new(worker: Rc<Worker>, dispatches: Rc<Dispatches>) -> Self {
        Self { worker, dispatches, verified: RefCell::new(Verified::new(RandomState::new())) }
    }

    /// A request whose password nobody has looked at yet waits for that, and one of a route that asks a service first for
    /// its answer; it is judged anew then. For a password it waits once at most.
    pub fn judge(&self, asked: Asked<'_>) -> Result<Verdict, Wait> {
        let target = asked.head.target(asked.buf).whole();
        let known = builtin::known(asked.head.method, &target);
        let own = self.answer(&asked, known);
        let routed = self.dispatches.routed();
        let shown = routed.as_ref().and_then(|routed| match &*routed.held.0 {
            // Which parameters have keys is not known yet.
            routes if routes.closed => target.iter().position(|b| *b == b'?').map(|at| target[..at].to_vec()),
            routes => routes.table.without_keys(&target),
        });
        let verdict = match (own, &routed) {
            (Some(answer), _) => Some(Verdict::Answer(answer)),
            (None, Some(routed)) => match self.by_route(routed, &asked, &target) {
                Ok(verdict) => verdict.map(Verdict::readable),
                Err(wait) => return Err(wait.showing(shown)),
            },
            (None, None) => None,
        };
        // No route, or none that has it: as if there were no gateway.
        let verdict = verdict.unwrap_or_else(|| {
            let plan = self.plan(&asked, self.dispatches.skep(), known);
            Verdict::Forward { plan, target: None, shown: None }
        });
        if let Verdict::Answer(Answer { error: Some(error), via, .. }) = &verdict {
            self.count_refusal(error, via.as_ref());
        }
        Ok(verdict.showing(shown))
    }

    fn count_refusal(&self, error: &str, via: Option<&Via>) {
        let Some(reason) = REASONS.iter().position(|it| *it == error) else { return };
        self.worker.shared.refused[reason].fetch_add(1, Relaxed);
        if let Some(via) = via {
            via.refuse(reason);
        }
    }

    /// Whether who has a way by a route that wanted to know who asks could still prove it.
    pub fn still_may(&self, via: &Via) -> bool {
        // Without any routes, there is nobody to prove anything.
        self.dispatches.routed().is_some_and(|routed| via.is_still_proved(&routed.held.0.consumers, unix_s()))
    }

    /// The answer that is the balancer's own, whatever is configured; None where the request asks for another.
    pub fn own(&self, asked: Asked<'_>) -> Option<Answer> {
        self.answer(&asked, builtin::known(asked.head.method, &asked.head.target(asked.buf).whole()))
    }

    fn answer(&self, asked: &Asked<'_>, known: Known) -> Option<Answer> {
        if asked.head.max_forwards == Some(0) {
            return Some(hops::answer(asked));
        }
        match known {
            Known::Ready => Some(ready::answer(&self.worker, asked)),
            Known::Private => Some(Answer::no_route(None)),
            _ => None,
        }
    }

    /// For a request to that pool, of which this is known. What the nodes' API promises is theirs alone.
    fn plan(&self, asked: &Asked<'_>, pool: &Rc<Dispatch>, known: Known) -> Plan {
        let (head, settings, are_nodes) = (asked.head, self.worker.settings(), pool.pool.are_nodes);
        let mut plan = Plan {
            pool: pool.clone(),
            repeatable: head.method.is_idempotent() || (are_nodes && head.has_idempotency_key),
            key: None,
            answer_within: settings.request_timeout,
            waits: false,
            via: None,
            body_bytes_max: None,
            takes_trailers: true,
            cache: None,
            trial: None,
            mirror: None,
            compress: None,
        };
        match known {
            Known::NamedByContent | Known::Repeatable => plan.repeatable |= are_nodes,
            Known::Digest(key) => plan.key = Some(key).filter(|_| are_nodes && settings.by_digest),
            Known::Waits if are_nodes => {
                plan.repeatable = true;
                plan.waits = true;
                plan.answer_within += WAIT_MAX;
            }
            Known::Waits | Known::Ready | Known::Private | Known::Nothing => {}
        }
        plan
    }
}

#[cfg(test)]
mod tests;
