//! A request whose route asks a service first: what that is asked, and what becomes of the request by what it says.
//!
//! Nothing but its word lets a request go on: where it is away, late, or says what is not understood, the request ends.

use std::rc::Rc;

use skep_console::ProblemKind;
use skep_console::problem::RETRY_AFTER_S;
use skep_gateway::ask::{Ask, IS_QUESTION};
use skep_gateway::cors;

use super::{Answer, Asked, Gateway};
use crate::core::routes::Via;
use crate::forward::ask::{Refused, Word, ask};
use crate::forward::dispatches::Routed;
use crate::forward::plan::Plan;
use crate::wire::write::{self, Question, RateLimit, Taken};

/// How often a request asks: again where the document has changed meanwhile, of which its question came.
const ASKS_MAX: u32 = 3;

/// What becomes of a request of a route that asks.
#[derive(Debug)]
pub(super) enum Asks {
    /// With what the service said.
    GoesOn(Rc<[Taken]>),
    Ends(Box<Answer>),
    /// Until the service has said something.
    Waits(Box<Asking>),
}

/// Of what a service is asked: its word holds for this and nothing else.
#[derive(Debug, PartialEq, Eq)]
struct Of {
    route: String,
    ask: Ask,
    uri: String,
    /// Who asks, where that was proved, with the groups.
    consumer: Option<(String, String)>,
}

/// A question that is ready to be asked.
#[derive(Debug)]
pub(super) struct Asking {
    of: Of,
    asks: u32,
    plan: Plan,
    head: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Said {
    of: Of,
    asks: u32,
    word: Word,
}

impl Asking {
    /// To drop it is to take the question back.
    pub(super) async fn done(self) -> Said {
        let Self { of, asks, plan, head } = self;
        let word = ask(&plan, &head, &of.ask).await;
        let stats = &plan.pool.worker.stats;
        let count = match &word {
            Word::Yes(_) => &stats.asks_admitted,
            Word::No(_) => &stats.asks_refused,
            Word::None(_) => &stats.asks_failed,
        };
        count.add(1);
        Said { of, asks, word }
    }
}

impl Gateway {
    /// Of a route that asks; `via` says who the client proved to be, `uri` is its path and query without keys.
    pub(super) fn ask(&self, routed: &Routed, asked: &Asked<'_>, via: Via, uri: String) -> Asks {
        let entry = via.entry();
        let (Some(ask), Some(service)) = (&entry.route.policies.ask, entry.asks) else {
            return Asks::Ends(failed("the service that is asked is not there", via).into());
        };
        let consumer = via.consumer();
        let of = Of {
            route: entry.name.clone(),
            ask: ask.clone(),
            uri,
            consumer: consumer.map(|it| (it.name.clone(), it.groups_said.clone())),
        };
        let said = asked.resumed.and_then(|it| it.known.said.as_ref());
        if let Some(said) = said.filter(|it| it.of == of) {
            return match &said.word {
                Word::Yes(taken) => Asks::GoesOn(taken.clone()),
                Word::No(refused) => Asks::Ends(passed(refused, via).into()),
                Word::None(why) => Asks::Ends(failed(why, via).into()),
            };
        }
        let asks = said.map_or(0, |it| it.asks) + 1;
        if asks > ASKS_MAX {
            let why = "what the service is to be asked changes faster than it answers";
            return Asks::Ends(failed(why, via).into());
        }
        if asked.field(IS_QUESTION).is_some() {
            let why = "this is a gateway's question whether a request may go on: to ask anew would go round in circles";
            return Asks::Ends(failed(why, via).into());
        }
        let Some((client, id)) = asked.came else {
            return Asks::Ends(failed("the service cannot be asked here", via).into());
        };
        let question = Question {
            ask,
            host: routed.held.0.host_sent(service),
            uri: of.uri.as_bytes(),
            auth: entry.route.policies.auth.as_deref(),
            consumer,
        };
        // As policies see it: at a trusted proxy, by what that says.
        let proto = if asked.client.secure { "https" } else { "http" };
        let client = write::Client { proto, ..client };
        let mut head = Vec::with_capacity(512);
        question.write(asked.head, asked.buf, client, id, &mut head);
        let plan = Plan {
            pool: routed.pools[service].clone(),
            // It is safe by its method: where a connection that idled ends just then, it is asked once more.
            repeatable: true,
            key: None,
            answer_within: ask.timeout,
            waits: false,
            via: None,
            body_bytes_max: None,
            takes_trailers: true,
            cache: None,
            compress: None,
            trial: None,
            mirror: None,
        };
        Asks::Waits(Asking { of, asks, plan, head }.into())
    }
}

/// What the service says goes to the client as it is, but for what is said of caches.
fn passed(refused: &Refused, via: Via) -> Answer {
    let has_cors = via.entry().route.cors.is_some();
    let has_limits = !via.entry().route.policies.limits.is_empty();
    let is_of_limits = |name: &str| [RateLimit::POLICY, RateLimit::SAID].contains(&name);
    let stays = |(name, _): &&Taken| !(has_cors && cors::is_ours(name) || has_limits && is_of_limits(name));
    Answer {
        status: refused.status,
        reason: reason(refused.status),
        field: None,
        more: Vec::new(),
        passed: refused.fields.iter().filter(stays).cloned().collect(),
        body: refused.body.clone().into(),
        _held: refused.held.clone(),
        error: Some("ask-refused"),
        via: Some(via),
        shown: None,
    }
}

/// Nothing was done of the request: its client may come again.
fn failed(why: &str, via: Via) -> Answer {
    tracing::debug!(route = via.entry().name, why, "a request does not go on");
    let problem = Answer::problem(ProblemKind::AskFailed, "Service Unavailable", why, Some(via));
    let more = vec![("retry-after", RETRY_AFTER_S.to_string()), ("skep-unprocessed", "1".to_owned())];
    Answer { more, ..problem }
}

fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        401 => "Unauthorized",
        _ => "Forbidden",
    }
}
