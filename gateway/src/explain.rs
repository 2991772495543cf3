//! Which route would have a request, and what would become of it there.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::auth::password::{Checked, Login, PasswordHash};
use crate::auth::{Denied, Proof, jwt};
use crate::document::{Origin, StatedAt, To, Unmatched};
use crate::host;
use crate::path::Ambiguous;
use crate::policy::{Client, Redirect, Refusal};
use crate::table::{Asked, Entry, Table};

/// A request that is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `http://HOST/PATH`, or https.
    pub url: String,
    #[serde(default = "get")]
    pub method: String,
    /// `NAME: VALUE` each.
    #[serde(default)]
    pub headers: Vec<String>,
    #[serde(default = "loopback")]
    pub from: IpAddr,
}

fn get() -> String {
    "GET".into()
}

fn loopback() -> IpAddr {
    [127, 0, 0, 1].into()
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    pub route: Option<String>,
    /// What the route asks of who asks.
    pub auth: Option<String>,
    /// Who that is.
    pub consumer: Option<String>,
    /// What service is asked whether it may go on; it is not asked by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// How often it may be asked for there; nothing is counted by this.
    pub limits: Vec<String>,
    /// The document's certificate that a client is shown who asks for that host; none where it is the balancer's own, or
    /// the request comes by plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// What of its answers is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Which of its answers are compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<String>,
    /// Where each of the route's policies is stated, as `auth: services/orders`.
    pub policies: Vec<String>,
    /// The services that may get it, or the answer that the balancer gives.
    pub outcome: String,
    /// What a service would be asked for; none where none is.
    pub sent: Option<String>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [
            ("certificate", &self.certificate),
            ("route", &self.route),
            ("auth", &self.auth),
            ("consumer", &self.consumer),
        ] {
            if let Some(value) = value {
                writeln!(f, "{name}: {value}")?;
            }
        }
        if let Some(ask) = &self.ask {
            writeln!(f, "ask: {ask}")?;
        }
        for limit in &self.limits {
            writeln!(f, "limit: {limit}")?;
        }
        if let Some(cache) = &self.cache {
            writeln!(f, "cache: {cache}")?;
        }
        if let Some(compress) = &self.compress {
            writeln!(f, "compress: {compress}")?;
        }
        for policy in &self.policies {
            writeln!(f, "policy: {policy}")?;
        }
        write!(f, "outcome: {}", self.outcome)?;
        match &self.sent {
            Some(sent) => write!(f, "\nsent: {sent}"),
            None => Ok(()),
        }
    }
}

impl Question {
    /// As it would be judged by this table, in this second of Unix time.
    pub fn explain(&self, table: &Table, now_s: u64) -> Explained {
        let certificate = self.certificate(table);
        let without = |outcome: String| Explained {
            certificate: certificate.clone(),
            route: None,
            auth: None,
            consumer: None,
            ask: None,
            limits: Vec::new(),
            cache: None,
            compress: None,
            policies: Vec::new(),
            outcome,
            sent: None,
        };
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (asked, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let unclear = |why: Ambiguous| without(format!("400: the path has more than one reading: {}", why.0));
        let path = match table.read(asked.as_bytes()) {
            Ok(path) => path,
            Err(why) => return unclear(why),
        };
        let host = host::canonical(authority.as_bytes());
        let has = |name: &str, value: &str| {
            let is_it =
                |(its, told): (&str, &str)| its.trim().eq_ignore_ascii_case(name) && told.trim() == value;
            self.headers.iter().filter_map(|it| it.split_once(':')).any(is_it)
        };
        let found = table.find(Asked { host: &host, path: path.matched(), method: &self.method }, has);
        let Some(entry) = found.map(|at| &table.routes[at]) else {
            return match (path.form(), table.unmatched) {
                (Err(why), _) => unclear(why),
                (Ok(_), Unmatched::Skep) => Explained { sent: Some(target), ..without("skep".into()) },
                (Ok(_), Unmatched::NotFound) => without("404: no route has it".into()),
            };
        };
        let path = match entry.path(&path) {
            Ok(path) => path,
            Err(why) => return unclear(why),
        };
        let client = Client { ip: self.from, secure: scheme == "https" };
        let (who, denied) = match self.who(table, entry, query, now_s) {
            Ok(who) => (who, None),
            Err(Denied::Group(proof)) => (Some(proof.clone()), Some(Denied::Group(proof))),
            Err(denied) => (None, Some(denied)),
        };
        // Not even where a balancer would send it back to who came by plain HTTP: this is shown to people.
        let left = entry.query_sent(query.as_bytes());
        let query = left.as_deref().map_or(query.into(), String::from_utf8_lossy);
        let (outcome, goes) = outcome(entry, client, denied, &host, &format!("{path}{query}"));
        let sent = goes.then(|| format!("{}{query}", entry.path_sent(path)));
        let consumer = who.as_ref().and_then(|it| table.consumers.known(it)).map(|it| it.name.clone());
        let auth = entry.route.policies.auth.as_ref().map(ToString::to_string);
        let ask = entry.route.policies.ask.as_ref().map(ToString::to_string);
        let limits = entry.route.policies.limits.iter().map(ToString::to_string).collect();
        let cache = entry.route.policies.cache.map(|it| it.to_string());
        let compress = entry.route.policies.compress.as_ref().map(ToString::to_string);
        let policies = entry.route.from.iter().map(|it| stated(&entry.name, it)).collect();
        let route = Some(entry.name.clone());
        Explained {
            certificate,
            route,
            auth,
            consumer,
            ask,
            limits,
            cache,
            compress,
            policies,
            outcome,
            sent,
        }
    }

    /// The one that is shown to who connects for that; an address is no name that one can ask for.
    fn certificate(&self, table: &Table) -> Option<String> {
        let authority = self.url.strip_prefix("https://")?.split(['/', '?']).next()?;
        table.certificates.name_for(&host::canonical(authority.as_bytes())).map(str::to_owned)
    }

    /// Who asks, where the route wants to know.
    fn who(&self, table: &Table, entry: &Entry, query: &str, now_s: u64) -> Result<Option<Proof>, Denied> {
        let Some(auth) = &entry.route.policies.auth else { return Ok(None) };
        let fields = self.headers.iter().filter_map(|it| it.split_once(':'));
        let fields = fields.map(|(name, value)| (name.trim().as_bytes(), value.trim().as_bytes()));
        // Who asks this is nobody who guesses, and waits.
        let checked = |login: &Login, known: Option<&PasswordHash>| match known {
            Some(hash) if hash.is_of(&login.password) == Some(true) => Checked::Right,
            _ => Checked::Wrong,
        };
        table.consumers.authenticate(auth, None, now_s, checked, fields, query.as_bytes()).map(Some)
    }
}

/// Where a policy of this route is stated.
fn stated(route: &str, Origin { policy, at, is_off }: &Origin) -> String {
    let place = match at {
        StatedAt::Route => format!("routes/{route}"),
        StatedAt::Service(names) => format!("services/{names}"),
        StatedAt::Defaults => "defaults".to_owned(),
    };
    format!("{policy}: {place}{}", if *is_off { ", none" } else { "" })
}

/// What becomes of it, and whether it goes to a service.
fn outcome(
    entry: &Entry,
    client: Client,
    denied: Option<Denied>,
    host: &str,
    target: &str,
) -> (String, bool) {
    let redirected = |it: &Redirect| (format!("{}: {}", it.status, it.location(client, host, target)), false);
    let refusal = entry.route.policies.refusal(client);
    if let (None, Some(denied)) = (&refusal, denied) {
        return (denied_in_words(entry, &denied), false);
    }
    match (refusal, &entry.route.to) {
        (Some(Refusal::Maintenance { .. }), _) => ("503: closed for maintenance".into(), false),
        (Some(Refusal::Address), _) => (format!("403: not for {}", client.ip), false),
        (Some(Refusal::Insecure), _) => redirected(&Redirect::to_https()),
        (None, To::Redirect(redirect)) => redirected(redirect),
        (None, To::Services(to)) => {
            let weighted = |(name, weight): &(String, u32)| format!("{name} ({weight})");
            let names: Vec<String> = match to.as_slice() {
                [(only, _)] => vec![only.clone()],
                several => several.iter().map(weighted).collect(),
            };
            (names.join(", "), true)
        }
    }
}

fn denied_in_words(entry: &Entry, denied: &Denied) -> String {
    let words = entry.route.policies.auth.as_ref().map(|it| it.words()).unwrap_or_default();
    match denied {
        Denied::Missing => format!("401: no {}", words.join(" or ")),
        Denied::Several => format!("401: several {}s that differ", words.join("s or ")),
        Denied::Unknown => "401: a key that nobody has".to_owned(),
        Denied::Token(jwt::Refused::NoKeys(_)) => {
            "a token of an issuer whose keys balancers fetch: it is not looked at here".to_owned()
        }
        Denied::Token(refused) => format!("401: a token: {}", refused.why()),
        Denied::Password | Denied::Unchecked(_) => "401: no user's password".to_owned(),
        Denied::Group(_) => "403: in none of the groups".to_owned(),
    }
}

#[cfg(test)]
mod tests;
