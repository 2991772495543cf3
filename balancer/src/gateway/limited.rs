//! How often a route is asked: what its limits say of one request, and what its answer says of them.
//!
//! Limits by address are asked before it is known who asks, the others after. Who proves nothing has spent of the first;
//! else all let it in, or none counts it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use skep_console::ProblemKind;
use skep_gateway::limit::{By, Limit, Neighbours, Who, seconds};

use super::{Answer, Verdict};
use crate::core::rates::{Held, Rates};
use crate::core::routes::{Routes, Via};
use crate::wire::write::RateLimit;

/// What a request came to so far, of a route with limits.
#[derive(Debug)]
pub(super) struct Passing<'a> {
    rates: &'a Rates,
    routes: &'a Routes,
    route: usize,
    /// The request's own instant.
    now: u64,
    client: Neighbours,
    /// What it has passed already, before it waited.
    passed: Option<&'a Passed>,
    /// The value of `RateLimit`.
    said: String,
}

/// Limits by address that have let a request in which waits for something: they are not asked again, whatever becomes of
/// the document or of issuers' keys meanwhile.
#[derive(Debug)]
pub(super) struct Passed {
    /// What they are called over changes.
    limits: Vec<u64>,
    /// What its answer says of them.
    said: String,
}

/// When limits are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    After,
}

impl Stage {
    fn of(by: By) -> Self {
        match by {
            By::Address => Self::Before,
            By::Consumer | By::Route => Self::After,
        }
    }
}

/// A limit that a request was beyond.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over<'a> {
    held: &'a Held,
    /// Ticks until it would not be.
    wait: u64,
}

impl<'a> Passing<'a> {
    /// Of a route that has any.
    pub(super) fn begin(
        rates: &'a Rates,
        routes: &'a Routes,
        route: usize,
        client: IpAddr,
        passed: Option<&'a Passed>,
    ) -> Self {
        let client = Neighbours::of(client);
        let said = passed.map(|it| it.said.clone()).unwrap_or_default();
        Self { rates, routes, route, now: rates.now(), client, passed, said }
    }

    /// Before it is known who asks.
    pub(super) fn of_client(&mut self) -> Result<(), Over<'a>> {
        let client = self.client;
        self.take(Stage::Before, |_| Who::Client(client))
    }

    /// Once it is known: who is refused now has spent nothing of its address either. `consumer` is who that is, where the route wants to know.
    pub(super) fn of_consumer(&mut self, consumer: Option<u64>) -> Result<(), Over<'a>> {
        let who = move |by| match by {
            By::Consumer => Who::Consumer(consumer.unwrap_or_default()),
            By::Address | By::Route => Who::Anybody,
        };
        self.take(Stage::After, who).inspect_err(|_| {
            let all = self.routes.limits[self.route].held.iter();
            for held in all.filter(|it| Stage::of(it.limit.by) == Stage::Before) {
                self.rates.give_back(held, Who::Client(self.client));
            }
        })
    }

    fn take(&mut self, stage: Stage, who: impl Fn(By) -> Who) -> Result<(), Over<'a>> {
        let (rates, now, passed) = (self.rates, self.now, self.passed);
        let has_passed = |it: &Held| passed.is_some_and(|passed| passed.limits.contains(&it.id));
        let asked = || {
            let all = self.routes.limits[self.route].held.iter();
            all.filter(|it| Stage::of(it.limit.by) == stage)
        };
        let mut over: Option<Over<'a>> = None;
        let mut said = String::new();
        for (at, held) in asked().enumerate() {
            let wait = match over {
                None if has_passed(held) => continue,
                None => match rates.take(held, who(held.limit.by), now) {
                    Ok(taken) => {
                        say(&mut said, held, taken.left, taken.full_in);
                        continue;
                    }
                    Err(wait) => {
                        for before in asked().take(at) {
                            rates.give_back(before, who(before.limit.by));
                        }
                        wait
                    }
                },
                // Who comes again is to be let in then.
                Some(_) => rates.too_early(held, who(held.limit.by), now).unwrap_or_default(),
            };
            if over.is_none_or(|it| it.wait < wait) {
                over = Some(Over { held, wait });
            }
        }
        match over {
            None if self.said.is_empty() => {
                self.said = said;
                Ok(())
            }
            None => {
                join(&mut self.said, &said);
                Ok(())
            }
            Some(over) => {
                self.said.clear();
                say(&mut self.said, over.held, 0, over.wait);
                self.routes.counts[self.route].limited[over.held.limit.by as usize].fetch_add(1, Relaxed);
                Err(over)
            }
        }
    }

    /// For the same request, once it has waited, where none but limits by address were asked so far.
    pub(super) fn passed(&self) -> Passed {
        let all = self.routes.limits[self.route].held.iter();
        let of_client = all.filter(|it| Stage::of(it.limit.by) == Stage::Before);
        Passed { limits: of_client.map(|it| it.id).collect(), said: self.said.clone() }
    }

    /// What its answer says of its limits.
    pub(super) fn rate_limit(self) -> RateLimit {
        RateLimit { policy: self.policy().clone(), said: self.said }
    }

    fn policy(&self) -> &Arc<str> {
        &self.routes.limits[self.route].policy
    }

    /// The same of an answer of the balancer's own.
    fn fields(&self) -> [(&'static str, String); 2] {
        [(RateLimit::POLICY, self.policy().to_string()), (RateLimit::SAID, self.said.clone())]
    }

    /// The refusal of what is over.
    pub(super) fn refused(&self, over: Over<'_>, via: Via) -> Verdict {
        let Limit { rate, per, by, .. } = over.held.limit;
        let detail = format!("of one {} so many are let in: {rate} per {per}", by.word());
        let problem = Answer::problem(ProblemKind::RateLimited, "Too Many Requests", &detail, Some(via));
        let retry_after = ("retry-after", seconds(over.wait).max(1).to_string());
        let more = [retry_after].into_iter().chain(self.fields()).collect();
        Verdict::Answer(Answer { more, ..problem })
    }

    /// The same answer, with what is to be said of limits.
    pub(super) fn telling(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Answer(mut answer) => {
                answer.more.extend(self.fields());
                Verdict::Answer(answer)
            }
            forward => forward,
        }
    }
}

/// About so long is one.
const ITEM_BYTES: usize = 48;

/// An item of `RateLimit` (draft-ietf-httpapi-ratelimit-headers): what is left, and in how many seconds all is there
/// again; or, where nothing is, one.
fn say(out: &mut String, held: &Held, left: u32, ticks: u64) {
    out.reserve(ITEM_BYTES);
    join(out, "\"");
    out.push_str(&held.name);
    let mut digits = itoa::Buffer::new();
    out.push_str("\";r=");
    out.push_str(digits.format(left));
    out.push_str(";t=");
    out.push_str(digits.format(seconds(ticks)));
}

fn join(out: &mut String, item: &str) {
    if !out.is_empty() && !item.is_empty() {
        out.push_str(", ");
    }
    out.push_str(item);
}
