//! Requests of routes that store answers: answered from what is stored, or by a fetch that is stored.
//!
//! `follow` reads what a fetch brings, `fetch` makes it, `filler` takes it; `serve` answers from what is stored,
//! `through` is for what goes past the cache, `written` writes heads. A fetch is a task of its own on the core of who
//! asked first, so that it goes on where that one leaves; everything else is cancel-safe, and holds no lock across an
//! await.

mod fetch;
mod filler;
mod follow;
mod serve;
mod through;
mod written;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use skep_cache::Field;
use skep_cache::asked::Asked;
use skep_cache::directives::Seconds;
use skep_cache::fields::lines;
use skep_cache::kept::Use;

use self::follow::Followed;
use self::serve::{Said, Serving};
use crate::core::cache::stored::Stored;
use crate::core::cache::{Cache, Entered, Found, Place};
use crate::core::timer::Timer;
use crate::core::trail::Trail;
use crate::core::worker::Worker;
use crate::forward::downstream::{Done, Downstream, Fault, Request};
use crate::forward::exchange;
use crate::forward::plan::{Keeps, Want};
use crate::wire::request_head::Method;

/// How often a request looks for an answer that others fetch, before it fetches one for itself.
const LOOKS_MAX: u32 = 3;

/// A request that may be answered from what is stored.
#[derive(Clone, Copy)]
struct Wanting<'a> {
    request: Request<'a>,
    worker: &'a Rc<Worker>,
    want: &'a Want,
    keeps: Keeps,
    asked: &'a Asked<'a>,
}

impl<'a> Wanting<'a> {
    fn cache(&self) -> &'a Arc<Cache> {
        &self.worker.shared.cache
    }

    /// Who asks has proved who it is, here or to the service.
    fn is_known(&self) -> bool {
        self.want.is_known || self.asked.has_authorization
    }

    fn place(&self) -> Place<'a> {
        Place { key: &self.want.key, realm: self.keeps.realm, for_all: self.is_known() }
    }

    /// It wants the body of all of it.
    fn is_plain(&self) -> bool {
        self.request.method == Method::Get && self.asked.range.is_none() && !self.asked.is_conditional()
    }

    /// It takes none that others are waiting for: it has asked for a newer one than is stored, or it is of one alone.
    fn is_alone(&self) -> bool {
        let said = &self.asked.directives;
        let asks_anew = said.no_cache || said.max_age != Seconds::Unsaid || said.min_fresh != Seconds::Unsaid;
        self.is_known() || asks_anew
    }

    /// What becomes of it where that is stored for it.
    fn judge(&self, stored: &Stored, now: Instant) -> Use {
        stored.head.kept.judge(self.asked, stored.head.resident_s(now), self.keeps.grace_s)
    }

    /// Whether the stored answer may be used where the service fails.
    fn serves_on_error(&self, stored: &Stored) -> bool {
        let head = &stored.head;
        // What was purged meanwhile is not brought back by an error.
        self.cache().is_good(self.place(), stored)
            && head.kept.serves_on_error(head.resident_s(Instant::now()), self.keeps.grace_s)
    }
}

/// As [`exchange::forward`], of a request with which the cache has something to do.
pub async fn forward<D: Downstream>(
    timer: &Timer,
    request: Request<'_>,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    let plan = request.plan;
    let Some(want) = &plan.cache else { return exchange::forward(timer, request, down, trail).await };
    let worker = &plan.pool.worker;
    let Some(keeps) = want.keeps else {
        return through::changing(timer, request, down, trail, &worker.shared.cache, want).await;
    };
    let asked = Asked::read(fields_of(request.head));
    let wanting = Wanting { request, worker, want, keeps, asked: &asked };
    let is_whole = down.body_complete() && down.body().is_empty();
    let is_for_origin = asked.is_for_origin || asked.is_ambiguous || asked.directives.no_store || plan.waits;
    if !is_whole || is_for_origin || request.expects || !request.upgrade.is_empty() {
        return pass(timer, &wanting, down, trail).await;
    }
    let hot = worker.hot.find(wanting.cache(), wanting.place(), fields_of(request.head));
    if let Some(stored) = hot.as_deref().map(|it| &it.stored)
        && wanting.judge(stored, Instant::now()) == Use::Fresh
    {
        worker.stats.cache_hits.add(1);
        return serve::serve(timer, &wanting, Serving { stored, said: Said::Hit }, down, trail).await;
    }
    let mut failures = 0;
    for _ in 0..LOOKS_MAX {
        let now = Instant::now();
        let found = wanting.cache().find(wanting.place(), fields_of(request.head), now);
        let seen = match &found {
            Found::Stored(stored) => match wanting.judge(stored, now) {
                Use::Fresh => {
                    worker.hot.put(wanting.place(), stored);
                    worker.stats.cache_hits.add(1);
                    let serving = Serving { stored, said: Said::Hit };
                    return serve::serve(timer, &wanting, serving, down, trail).await;
                }
                // Nobody is asked for who is known but by itself: it has the service's word for it.
                Use::WhileRevalidating if wanting.is_known() => Some(stored),
                Use::WhileRevalidating => {
                    worker.stats.cache_stale.add(1);
                    fetch::beside(&wanting, stored);
                    let serving = Serving { stored, said: Said::Stale };
                    return serve::serve(timer, &wanting, serving, down, trail).await;
                }
                Use::Validate => Some(stored),
            },
            Found::NotStored | Found::Nothing => None,
        };
        if asked.directives.only_if_cached {
            return serve::not_there(timer, &wanting, down, trail).await;
        }
        if matches!(found, Found::NotStored) {
            worker.stats.cache_passed.add(1);
            return through::watching(timer, request, down, trail, &wanting).await;
        }
        // What asks for a part, a head or an answer that differs goes to the service, where there is none to be
        // validated for it.
        let has_validators = |it: &&Arc<Stored>| {
            let own = it.head.validators();
            own.etag.or(own.last_modified).is_some()
        };
        if !wanting.is_plain() && seen.filter(has_validators).is_none() {
            break;
        }
        // What each has to have the service's word for is asked for by each.
        let is_for_several = seen.is_none_or(|it| it.head.kept.is_for_several(keeps.grace_s));
        let joins = is_for_several && !wanting.is_alone();
        let entered = wanting.cache().enter(wanting.place(), fields_of(request.head), seen, joins, false);
        let followed = match entered {
            // It is found there by the next look.
            Entered::Found(_) => continue,
            Entered::Fetched | Entered::Leads(None, _) => break,
            Entered::Waits(reader) => {
                worker.stats.cache_collapsed.add(1);
                follow::follow(timer, &wanting, &reader, None, down, trail).await
            }
            Entered::Leads(Some(reader), fetch) => {
                worker.stats.cache_misses.add(1);
                let told = fetch::begin(&wanting, fetch);
                follow::follow(timer, &wanting, &reader, Some(&told), down, trail).await
            }
        };
        match followed {
            Followed::Done(outcome) => return outcome,
            Followed::Again => {}
            Followed::Failed if failures == 0 => failures += 1,
            // It is not to be served by others' bad luck for ever.
            Followed::Failed | Followed::Freed => break,
        }
    }
    pass(timer, &wanting, down, trail).await
}

/// Past the cache.
async fn pass<D: Downstream>(
    timer: &Timer,
    wanting: &Wanting<'_>,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    wanting.worker.stats.cache_passed.add(1);
    exchange::forward(timer, wanting.request, down, trail).await
}

/// The fields of a request's head, as the backend gets it.
fn fields_of(head: &[u8]) -> impl Iterator<Item = Field<'_>> + Clone {
    let begin = head.iter().position(|b| *b == b'\n').map_or(head.len(), |at| at + 1);
    lines(&head[begin..])
}
