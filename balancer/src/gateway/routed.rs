//! What the routes in force say of a request: an answer of the balancer's own, or a plan by way of a route.

use skep_console::ProblemKind;
use skep_console::problem::RETRY_AFTER_S;
use skep_gateway::auth::{Auth, Consumers, Denied, Proof};
use skep_gateway::document::{To, Unmatched};
use skep_gateway::policy::{Redirect, Refusal};
use skep_gateway::table::Asked as Matched;
use skep_gateway::{host, path};
use skep_vrrp::track;

use super::builtin::{self, Known};
use super::limited::Passing;
use super::{Answer, Asked, Gateway, Verdict, unix_s};
use crate::core::routes::Via;
use crate::forward::dispatches::Routed;
use crate::wire::fields::Field;
use crate::wire::request_head::Method;

impl Gateway {
    /// None where it goes to the nodes as if there were no gateway.
    pub(super) fn by_route(&self, routed: &Routed, asked: &Asked<'_>, target: &[u8]) -> Option<Verdict> {
        if routed.held.0.closed {
            return Some(unknown());
        }
        let (head, buf) = (asked.head, asked.buf);
        let (path, query) = target.split_at(target.iter().position(|b| *b == b'?').unwrap_or(target.len()));
        if path == b"*" {
            // About the server as a whole (RFC 9110, 9.3.7).
            return match routed.held.0.table.unmatched {
                Unmatched::Skep => None,
                Unmatched::NotFound => Some(no_route()),
            };
        }
        let path = match path::canonical(path) {
            Ok(path) => path,
            Err(why) => return Some(ambiguous(why.0)),
        };
        let host = host::canonical(head.host.map(|it| it.of(buf)).unwrap_or_default());
        let method = std::str::from_utf8(head.method_span.of(buf)).unwrap_or_default();
        let has = |name: &str, value: &str| {
            let is_it = |it: &&Field| it.name.of(buf).eq_ignore_ascii_case(name.as_bytes());
            head.fields.iter().filter(is_it).any(|it| it.value.of(buf) == value.as_bytes())
        };
        let table = &routed.held.0.table;
        let find = |method| table.find(Matched { host: &host, path: &path, method }, has);
        let origin = asked.field("origin");
        // A page asks beforehand, by another method than it will send: the route is that of what it will send.
        let asks_for =
            asked.field("access-control-request-method").filter(|_| head.method == Method::Options);
        let asks_for = asks_for.zip(origin).and_then(|(method, _)| std::str::from_utf8(method).ok());
        let has_cors = |at: &usize| table.routes[*at].route.cors.is_some();
        let preflight = asks_for.and_then(find).filter(has_cors);
        let Some(at) = preflight.or_else(|| find(method)) else {
            return match table.unmatched {
                Unmatched::Skep => None,
                Unmatched::NotFound => Some(no_route()),
            };
        };
        let entry = &table.routes[at];
        let via = |service| Via::new(routed.held.clone(), at, service, origin);
        let query = std::str::from_utf8(query).unwrap_or_default();
        let redirected = |redirect: &Redirect, query: &str| {
            let location = redirect.location(asked.client, &host, &format!("{path}{query}"));
            Some(redirected(redirect.status, location, via(None)))
        };
        if let Some(refusal) = entry.route.policies.refusal(asked.client) {
            return match refusal {
                Refusal::Insecure => redirected(&Redirect::to_https(), query),
                refusal => Some(refused(refusal, via(None))),
            };
        }
        if let (Some(_), Some(cors)) = (preflight, &entry.route.cors) {
            let origin = origin.and_then(|it| std::str::from_utf8(it).ok()).unwrap_or_default();
            let more = cors.preflight(origin);
            return Some(Verdict::Answer(Answer {
                more,
                via: Some(via(None)),
                ..Answer::text(200, "OK", "")
            }));
        }
        // What a route does not ask costs it one branch each.
        let mut passing = Passing::begin(&self.worker.shared.rates, &routed.held.0, at, asked.client.ip);
        if let Some(it) = &mut passing
            && let Err(over) = it.of_client()
        {
            return Some(it.refused(over, via(None)));
        }
        let telling = |passing: &Option<Passing<'_>>, verdict: Verdict| match passing {
            Some(it) => it.telling(verdict),
            None => verdict,
        };
        let mut proof = None;
        if let Some(auth) = &entry.route.policies.auth {
            let fields = head.fields.iter().map(|it| (it.name.of(buf), it.value.of(buf)));
            match self.who(&table.consumers, auth, fields, query.as_bytes()) {
                Ok(proved) => proof = Some(proved),
                Err(denied) => return Some(telling(&passing, self.denied(auth, denied, via(None)))),
            }
        }
        if let Some(it) = &mut passing {
            let consumer = proof.as_ref().and_then(|it| table.consumers.known(it));
            if let Err(over) = it.of_consumer(consumer.map(|it| it.id)) {
                return Some(it.refused(over, via(None).proved(proof)));
            }
        }
        // A key goes no further: not to the service, nor to where the client is sent.
        let left = entry.query_sent(query.as_bytes());
        let query = left.as_deref().map_or(query, |it| std::str::from_utf8(it).unwrap_or_default());
        if let To::Redirect(redirect) = &entry.route.to {
            return redirected(redirect, query).map(|it| telling(&passing, it));
        }
        let service = entry.service(self.worker.random.borrow_mut().next_u64())?;
        let mut sent = entry.path_sent(&path).as_bytes().to_vec();
        sent.extend_from_slice(query.as_bytes());
        let known = builtin::known(head.method, &sent);
        if known == Known::Private {
            return Some(telling(&passing, no_route()));
        }
        let mut plan = self.plan(asked, &routed.pools[service], known);
        plan.body_bytes_max = entry.route.policies.body_bytes_max;
        if let Some(timeout) = table.services[service].1.timeout {
            plan.answer_within = timeout;
        }
        let via = via(Some(service)).proved(proof);
        plan.via = Some(match &passing {
            Some(it) => via.saying(it.fields()),
            None => via,
        });
        Some(Verdict::Forward { plan, target: Some(sent), shown: None })
    }

    /// Who sent that, where the route is for it.
    fn who<'a>(
        &self,
        consumers: &Consumers,
        auth: &Auth,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        query: &'a [u8],
    ) -> Result<Proof, Denied> {
        if auth.tokens.is_none() {
            return consumers.authenticate(auth, None, 0, fields, query);
        }
        let (mut verified, stats) = (self.verified.borrow_mut(), &self.worker.stats);
        let proof = consumers.authenticate(auth, Some(&mut verified), unix_s(), fields, query);
        let (count, bytes) = verified.fill();
        stats.tokens_kept.set(count as u64);
        stats.tokens_kept_bytes.set(bytes as u64);
        proof
    }

    /// What is said to who does not prove what the route asks for. Nothing of the key is.
    fn denied(&self, auth: &Auth, denied: Denied, via: Via) -> Verdict {
        let stats = &self.worker.stats;
        let (count, detail) = match &denied {
            Denied::Missing if auth.keys.is_none() => {
                (&stats.auth_missing, "this is for who proves by a token who it is")
            }
            Denied::Missing => (&stats.auth_missing, "this is for who proves by a key who it is"),
            Denied::Several => (&stats.auth_several, "there are several keys, which differ: send one"),
            Denied::Unknown => (&stats.auth_unknown, "nobody has this key"),
            Denied::Token(refused) => (&stats.auth_token, refused.why()),
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
        let problem = Answer::problem(ProblemKind::Unauthenticated, "Unauthorized", detail, Some(via));
        let more = vec![("www-authenticate", auth.challenge(&denied))];
        Verdict::Answer(Answer { more, ..problem })
    }
}

fn ambiguous(why: &str) -> Verdict {
    let detail = format!("the path has more than one reading: {why}");
    Verdict::Answer(Answer::problem(ProblemKind::AmbiguousPath, "Bad Request", &detail, None))
}

/// To serve as if there were no routes would open what they close.
fn unknown() -> Verdict {
    let kind = ProblemKind::NotReady;
    let problem = Answer::problem(kind, "Service Unavailable", track::NOT_TOLD, None);
    // Nothing was done of it: who asked may ask another balancer, whatever the method.
    let more = vec![("retry-after", RETRY_AFTER_S.to_string()), ("skep-unprocessed", "1".to_owned())];
    Verdict::Answer(Answer { more, ..problem })
}

fn no_route() -> Verdict {
    Verdict::Answer(Answer::no_route())
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
