//! What the routes in force say of a request: an answer of the balancer's own, or a plan by way of a route.

use std::borrow::Cow;
use std::rc::Rc;

use skep_console::ProblemKind;
use skep_console::problem::RETRY_AFTER_S;
use skep_gateway::auth::jwt::Refused;
use skep_gateway::auth::password::{Login, PasswordHash};
use skep_gateway::auth::{Auth, Consumers, Denied, Proof};
use skep_gateway::document::{To, Unmatched};
use skep_gateway::host;
use skep_gateway::policy::{Redirect, Refusal};
use skep_gateway::table::{Asked as Matched, Entry, Has};
use skep_vrrp::track;

use super::asking::Asks;
use super::builtin::{self, Known};
use super::chosen::Chosen;
use super::limited::Passing;
use super::unseen::full;
use super::{Answer, Asked, Gateway, Verdict, Wait, unix_s};
use super::{cached, compressing};
use crate::core::routes::Via;
use crate::forward::dispatches::Routed;
use crate::forward::plan::Mirror;
use crate::forward::trial::Trial;
use crate::wire::fields::Field;
use crate::wire::request_head::Method;

impl Gateway {
    /// None where it goes to the nodes as if there were no gateway.
    pub(super) fn by_route(
        &self,
        routed: &Routed,
        asked: &Asked<'_>,
        target: &[u8],
    ) -> Result<Option<Verdict>, Wait> {
        if routed.held.0.closed {
            return Ok(Some(unknown()));
        }
        let (head, buf) = (asked.head, asked.buf);
        let (path, query) = target.split_at(target.iter().position(|b| *b == b'?').unwrap_or(target.len()));
        if path == b"*" {
            // About the server as a whole (RFC 9110, 9.3.7).
            return match routed.held.0.table.unmatched {
                Unmatched::Skep => Ok(None),
                Unmatched::NotFound => Ok(Some(no_route(None))),
            };
        }
        let (table, came) = (&routed.held.0.table, path.len());
        let path = match table.read(path) {
            Ok(path) => path,
            Err(why) => return Ok(Some(ambiguous(why.0, None))),
        };
        let host = host::canonical(head.host.map(|it| it.of(buf)).unwrap_or_default());
        let method = head.method.name();
        let method = method.or(std::str::from_utf8(head.method_span.of(buf)).ok()).unwrap_or_default();
        let has = |name: &str, value: &str| {
            let is_it = |it: &&Field| it.name.of(buf).eq_ignore_ascii_case(name.as_bytes());
            head.fields.iter().filter(is_it).any(|it| it.value.of(buf) == value.as_bytes())
        };
        let find = |method| table.find(Matched { host: &host, path: path.matched(), method }, has);
        let origin = asked.field("origin");
        // A page asks beforehand, by another method than it will send: the route is that of what it will send.
        let asks_for =
            asked.field("access-control-request-method").filter(|_| head.method == Method::Options);
        let asks_for = asks_for.zip(origin).and_then(|(method, _)| std::str::from_utf8(method).ok());
        let has_cors = |at: &usize| table.brief(*at).has(Has::Cors);
        let preflight = asks_for.and_then(find).filter(has_cors);
        let Some(at) = preflight.or_else(|| find(method)) else {
            return match (path.form(), table.unmatched) {
                (Err(why), _) => Ok(Some(ambiguous(why.0, None))),
                (Ok(_), Unmatched::Skep) => Ok(None),
                (Ok(_), Unmatched::NotFound) => Ok(Some(no_route(None))),
            };
        };
        // Most routes have little of all that one may have: what they have not is not looked for in them.
        let (entry, brief) = (&table.routes[at], table.brief(at));
        let via = |service| Via::new(routed.held.clone(), at, service, origin);
        let path = if brief.has(Has::RawPaths) { entry.path(&path) } else { path.form() };
        let path = match path {
            Ok(path) => path,
            Err(why) => return Ok(Some(ambiguous(why.0, Some(via(None))))),
        };
        let query = std::str::from_utf8(query).unwrap_or_default();
        let redirected = |redirect: &Redirect, query: &str| {
            let location = redirect.location(asked.client, &host, &format!("{path}{query}"));
            redirected(redirect.status, location, via(None))
        };
        if brief.has(Has::Refusals)
            && let Some(refusal) = entry.route.policies.refusal(asked.client)
        {
            return match refusal {
                Refusal::Insecure => Ok(Some(redirected(&Redirect::to_https(), query))),
                refusal => Ok(Some(refused(refusal, via(None)))),
            };
        }
        if let (Some(_), Some(cors)) = (preflight, &entry.route.cors) {
            let origin = origin.and_then(|it| std::str::from_utf8(it).ok()).unwrap_or_default();
            let more = cors.preflight(origin);
            let answer = Answer { more, via: Some(via(None)), ..Answer::text(200, "OK", "") };
            return Ok(Some(Verdict::Answer(answer)));
        }
        let (rates, passed) = (&self.worker.shared.rates, asked.resumed.and_then(|it| it.passed.as_ref()));
        let begin = || Passing::begin(rates, &routed.held.0, at, asked.client.ip, passed);
        let mut passing = brief.has(Has::Limits).then(begin);
        if let Some(it) = &mut passing
            && let Err(over) = it.of_client()
        {
            return Ok(Some(it.refused(over, via(None))));
        }
        let telling = |passing: &Option<Passing<'_>>, verdict: Verdict| match passing {
            Some(it) => it.telling(verdict),
            None => verdict,
        };
        let consumers = &routed.held.0.consumers;
        let seen = || asked.resumed.map(|it| it.known.clone()).unwrap_or_default();
        let mut proof = None;
        if brief.has(Has::Auth)
            && let Some(auth) = &entry.route.policies.auth
        {
            let fields = head.fields.iter().map(|it| (it.name.of(buf), it.value.of(buf)));
            match self.who(consumers, auth, asked, fields, query.as_bytes()) {
                Ok(proved) => proof = Some(proved),
                // The document may have changed while it waited, or nobody came to look.
                Err(Denied::Unchecked(_)) if asked.resumed.is_some_and(|it| it.known.outcome.is_some()) => {
                    return Ok(Some(telling(&passing, Verdict::Answer(full(via(None))))));
                }
                Err(Denied::Unchecked(check)) => {
                    let passed = passing.as_ref().map(Passing::passed);
                    let looked = self.look(consumers, *check, asked.client.ip, (seen(), passed), via(None));
                    return match looked {
                        Ok(wait) => Err(wait),
                        Err(refused) => Ok(Some(telling(&passing, Verdict::Answer(*refused)))),
                    };
                }
                Err(denied) => return Ok(Some(telling(&passing, self.denied(auth, denied, via(None))))),
            }
        }
        // A key goes no further: not to a service, nor to where the client is sent.
        let left = if brief.has(Has::Auth) { entry.query_sent(query.as_bytes()) } else { None };
        let query = left.as_deref().map_or(query, |it| std::str::from_utf8(it).unwrap_or_default());
        let mut taken = None;
        if brief.has(Has::Ask) {
            let via = via(None).proved(proof.clone());
            match self.ask(routed, asked, via, [path, query].concat()) {
                Asks::GoesOn(it) => taken = Some(it),
                Asks::Ends(answer) => return Ok(Some(telling(&passing, Verdict::Answer(*answer)))),
                Asks::Waits(asking) => {
                    let passed = passing.as_ref().map(Passing::passed);
                    return Err(Wait::for_answer(*asking, seen(), passed));
                }
            }
        }
        if let Some(it) = &mut passing {
            let consumer = proof.as_ref().and_then(|it| consumers.known(it));
            if let Err(over) = it.of_consumer(consumer.map(|it| it.id)) {
                return Ok(Some(it.refused(over, via(None).proved(proof))));
            }
        }
        if brief.has(Has::Redirect)
            && let To::Redirect(redirect) = &entry.route.to
        {
            return Ok(Some(telling(&passing, redirected(redirect, query))));
        }
        let chosen = match brief.service() {
            Some(service) => Some(Chosen { service, turn: None, cookie: None }),
            None => self.choose(table, entry, asked, proof.as_ref().and_then(|it| consumers.known(it))),
        };
        let Some(Chosen { service, turn, cookie }) = chosen else {
            return Ok(Some(telling(&passing, no_route(Some(via(None).proved(proof))))));
        };
        let path_sent = if brief.has(Has::StripPrefix) { entry.path_sent(path) } else { path };
        let (came, came_query) = target.split_at(came);
        let sent: Cow<'_, [u8]> = match (path_sent.as_bytes(), query.as_bytes()) {
            same if same == (came, came_query) => target.into(),
            (path, query) => [path, query].concat().into(),
        };
        let known = builtin::known(head.method, &sent);
        if known == Known::Private {
            return Ok(Some(telling(&passing, no_route(Some(via(None).proved(proof))))));
        }
        let mut plan = self.plan(asked, &routed.pools[service], known);
        if brief.has(Has::Size) {
            plan.body_bytes_max = entry.route.policies.body_bytes_max;
        }
        if brief.has(Has::Ask)
            && let Some(ask) = &entry.route.policies.ask
        {
            plan.takes_trailers = ask.take.is_empty();
        }
        if let Some(timeout) = table.services[service].1.timeout {
            plan.answer_within = timeout;
        }
        let is_known = proof.is_some() || taken.is_some();
        let via = via(Some(service)).proved(proof).with(taken).setting(cookie.clone());
        if brief.has(Has::Compress) {
            plan.compress = compressing::want(asked, is_known);
        }
        if routed.held.0.has_cache {
            let url = [host.as_bytes(), path.as_bytes(), query.as_bytes()];
            plan.cache = cached::want(&routed.held.0, (at, service), asked, url, is_known);
            // An answer that says who its client is from now on is stored for nobody.
            if cookie.is_some() && plan.cache.as_ref().is_some_and(|it| it.keeps.is_some()) {
                plan.cache = None;
            }
        }
        if let Some(turn) = turn.filter(|it| table.services[service].0 == it.to) {
            // What is stored is of the service that it was asked of.
            let keeps = plan.cache.as_ref().is_some_and(|it| it.keeps.is_some());
            let from = if keeps { None } else { table.service_of(entry, &turn.from) };
            let from = from.filter(|from| routed.held.0.are_asked_alike(*from, service));
            plan.trial = Some(Trial::new(turn, from.map(|from| routed.pools[from].clone())));
        }
        if brief.has(Has::Mirror) {
            plan.mirror = self.mirror(routed, entry, asked);
        }
        plan.via = Some(match passing {
            Some(it) => via.saying(it.rate_limit()),
            None => via,
        });
        let target = match sent {
            Cow::Borrowed(_) => None,
            Cow::Owned(it) => Some(it),
        };
        Ok(Some(Verdict::Forward { plan, target, shown: None }))
    }

    /// Who gets a copy of a request, where that one does.
    fn mirror(&self, routed: &Routed, entry: &Entry, asked: &Asked<'_>) -> Option<Rc<Mirror>> {
        let (said, at) = (entry.route.mirror.as_ref()?, entry.mirror?);
        let head = asked.head;
        let may =
            (head.method.is_safe() || said.takes_unsafe) && head.upgrade.is_none() && !head.expects_continue;
        let is_drawn = || self.worker.random.borrow_mut().below(100) < said.percent as usize;
        if !may || said.percent < 100 && !is_drawn() {
            return None;
        }
        let own = || head.host.map(|it| it.of(asked.buf).to_vec()).unwrap_or_default();
        let host = routed.held.0.host_of(at).map_or_else(own, |it| it.as_bytes().to_vec());
        Some(Rc::new(Mirror { pool: routed.pools[at].clone(), host }))
    }

    /// Who sent that, where the route is for it.
    fn who<'a>(
        &self,
        consumers: &Consumers,
        auth: &Auth,
        asked: &Asked<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        query: &'a [u8],
    ) -> Result<Proof, Denied> {
        let outcome = asked.resumed.and_then(|it| it.known.outcome.as_ref());
        let passwords = &self.worker.shared.passwords;
        let client = asked.client.ip;
        let checked =
            |login: &Login, known: Option<&PasswordHash>| passwords.checked(login, known, outcome, client);
        if auth.tokens.is_none() {
            return consumers.authenticate(auth, None, 0, checked, fields, query);
        }
        let (mut verified, stats) = (self.verified.borrow_mut(), &self.worker.stats);
        let proof = consumers.authenticate(auth, Some(&mut verified), unix_s(), checked, fields, query);
        let (count, bytes) = verified.fill();
        stats.tokens_kept.set(count as u64);
        stats.tokens_kept_bytes.set(bytes as u64);
        proof
    }

    /// What is said to who does not prove what the route asks for. Nothing of the key or the password is.
    fn denied(&self, auth: &Auth, denied: Denied, via: Via) -> Verdict {
        let stats = &self.worker.stats;
        if let Denied::Token(Refused::NoKeys(at) | Refused::Unpublished(at) | Refused::Unfit(at)) = denied
            && let Some(published) = auth.tokens.as_ref().and_then(|it| via.published(it.issuers.get(at)?))
        {
            published.want();
        }
        let words = || auth.words().join(" or a ");
        let (count, detail): (_, Cow<'_, str>) = match &denied {
            Denied::Missing => {
                (&stats.auth_missing, format!("this is for who proves by a {} who it is", words()).into())
            }
            Denied::Several => {
                let several = auth.words().join("s or ");
                let detail = format!("there are several {several}s, which differ: send one");
                (&stats.auth_several, detail.into())
            }
            Denied::Unknown => (&stats.auth_unknown, "nobody has this key".into()),
            Denied::Token(Refused::NoKeys(_)) => {
                stats.auth_no_keys.add(1);
                return no_keys(via);
            }
            Denied::Token(refused) => (&stats.auth_token, refused.why().into()),
            Denied::Password | Denied::Unchecked(_) => {
                (&stats.auth_password, "no user has this password".into())
            }
            Denied::Group(asker) => {
                stats.auth_group.add(1);
                let (kind, detail) = (ProblemKind::GroupRefused, "this is not for who asks");
                let via = via.of_other(asker.clone());
                let problem = Answer::problem(kind, "Forbidden", detail, Some(via));
                let more = Auth::scope_challenge(asker).map(|it| ("www-authenticate", it));
                return Verdict::Answer(Answer { more: more.into_iter().collect(), ..problem });
            }
        };
        count.add(1);
        let problem = Answer::problem(ProblemKind::Unauthenticated, "Unauthorized", &detail, Some(via));
        let more = auth.challenges(&denied).into_iter().map(|it| ("www-authenticate", it)).collect();
        Verdict::Answer(Answer { more, ..problem })
    }
}

fn ambiguous(why: &str, via: Option<Via>) -> Verdict {
    let detail = format!("the path has more than one reading: {why}");
    Verdict::Answer(Answer::problem(ProblemKind::AmbiguousPath, "Bad Request", &detail, via))
}

/// To serve as if there were no routes would open what they close.
fn unknown() -> Verdict {
    let kind = ProblemKind::NotReady;
    let problem = Answer::problem(kind, "Service Unavailable", track::NOT_TOLD, None);
    // Nothing was done of it: who asked may ask another balancer, whatever the method.
    let more = vec![("retry-after", RETRY_AFTER_S.to_string()), ("skep-unprocessed", "1".to_owned())];
    Verdict::Answer(Answer { more, ..problem })
}

/// Nobody knows yet whether it is good: another balancer may.
fn no_keys(via: Via) -> Verdict {
    let problem =
        Answer::problem(ProblemKind::Unavailable, "Service Unavailable", Refused::NoKeys(0).why(), Some(via));
    let more = vec![("retry-after", RETRY_AFTER_S.to_string()), ("skep-unprocessed", "1".to_owned())];
    Verdict::Answer(Answer { more, ..problem })
}

fn no_route(via: Option<Via>) -> Verdict {
    Verdict::Answer(Answer::no_route(via))
}

fn refused(refusal: Refusal, via: Via) -> Verdict {
    let Refusal::Maintenance { retry_after_s } = refusal else {
        let detail = "this is not for who asks from there";
        let problem = Answer::problem(ProblemKind::AddressRefused, "Forbidden", detail, Some(via));
        return Verdict::Answer(problem);
    };
    let detail = "this is closed for maintenance";
    let problem = Answer::problem(ProblemKind::Maintenance, "Service Unavailable", detail, Some(via));
    let retry_after = retry_after_s.unwrap_or(RETRY_AFTER_S).to_string();
    Verdict::Answer(Answer { more: vec![("retry-after", retry_after)], ..problem })
}

fn redirected(status: u16, location: String, via: Via) -> Verdict {
    let reason = match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        _ => "Permanent Redirect",
    };
    let answer = Answer::text(status, reason, "");
    Verdict::Answer(Answer { more: vec![("location", location)], via: Some(via), ..answer })
}
