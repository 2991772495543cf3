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
    /// How often it may be asked for there; nothing is counted by this.
    pub limits: Vec<String>,
    /// What of its answers is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Where each of the route's policies is stated, as `auth: services/orders`.
    pub policies: Vec<String>,
    /// The services that may get it, or the answer that the balancer gives.
    pub outcome: String,
    /// What a service would be asked for; none where none is.
    pub sent: Option<String>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [("route", &self.route), ("auth", &self.auth), ("consumer", &self.consumer)] {
            if let Some(value) = value {
                writeln!(f, "{name}: {value}")?;
            }
        }
        for limit in &self.limits {
            writeln!(f, "limit: {limit}")?;
        }
        if let Some(cache) = &self.cache {
            writeln!(f, "cache: {cache}")?;
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
        let without = |outcome: String| Explained {
            route: None,
            auth: None,
            consumer: None,
            limits: Vec::new(),
            cache: None,
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
        let limits = entry.route.policies.limits.iter().map(ToString::to_string).collect();
        let cache = entry.route.policies.cache.map(|it| it.to_string());
        let policies = entry.route.from.iter().map(|it| stated(&entry.name, it)).collect();
        Explained { route: Some(entry.name.clone()), auth, consumer, limits, cache, policies, outcome, sent }
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
mod tests {
    use aws_lc_rs::hmac;

    use super::*;
    use crate::Document;
    use crate::auth::jwt::encode;

    const LIMITED: &str = "5 per minute, 1 at once, by address";

    #[test]
    fn a_request_is_explained_as_it_would_be_judged() {
        let document = r#"
            unmatched = "not-found"
            services.app.urls = ["http://a:1"]
            services.next.urls = ["http://b:1"]
            [routes.app]
            match = {hosts = ["*.test"], path = "/app"}
            services = {app = 9, next = 1}
            strip_prefix = true
            [routes.canary]
            match = {hosts = ["*.test"], path = "/app", headers = {x-canary = "1"}}
            service = "next"
            https_only = true
            [routes.inner]
            match.path = "/inner"
            service = "app"
            addresses.allow = ["10.0.0.0/8"]
            limits = [{rate = 5, per = "minute", by = "address"}]
        "#;
        let table = Table::compile(Document::read(document).unwrap()).unwrap();
        for (url, headers, route, outcome, sent) in [
            ("http://A.test:80/app/x?y", vec![], Some("app"), "app (9), next (1)", Some("/x?y")),
            ("http://a.test/app", vec!["X-Canary: 1"], Some("canary"), "308: https://a.test/app", None),
            ("https://a.test/app", vec!["X-Canary: 1"], Some("canary"), "next", Some("/app")),
            ("http://a.test/inner", vec![], Some("inner"), "403: not for 192.0.2.1", None),
            ("a.test", vec![], None, "404: no route has it", None),
        ] {
            let headers = headers.into_iter().map(str::to_owned).collect();
            let question =
                Question { url: url.into(), method: "GET".into(), headers, from: [192, 0, 2, 1].into() };
            let (route, sent) = (route.map(str::to_owned), sent.map(str::to_owned));
            let limits = if route.as_deref() == Some("inner") { vec![LIMITED.to_owned()] } else { vec![] };
            let policies = match route.as_deref() {
                Some("inner") => {
                    ["addresses: routes/inner", "limits: routes/inner"].map(str::to_owned).into()
                }
                Some("canary") => vec!["https_only: routes/canary".to_owned()],
                _ => vec![],
            };
            let outcome = outcome.into();
            let expected =
                Explained { route, auth: None, consumer: None, limits, cache: None, policies, outcome, sent };
            assert_eq!(question.explain(&table, 0), expected, "{url}");
        }
    }

    #[test]
    fn what_a_route_asks_of_who_asks_is_explained_with_who_that_is() {
        let document = r#"
            services.app.urls = ["http://a:1"]
            consumers.alice = {keys = ["0123456789abcdef"], groups = ["staff"]}
            consumers.bob = {keys = ["fedcba9876543210"]}
            [routes.app]
            service = "app"
            auth = {keys = {query = "apikey"}, groups = ["staff"]}
            limits = [{rate = 5, per = "minute", by = "consumer", burst = 3}, {rate = 9, per = "second", by = "route"}]
            [routes.moved]
            match.path = "/moved"
            redirect.host = "b.test"
            auth.keys.query = "apikey"
        "#;
        let table = Table::compile(Document::read(document).unwrap()).unwrap();
        let explain = |url: &str, headers: &[&str]| {
            let headers = headers.iter().map(|it| (*it).to_owned()).collect();
            let from = loopback();
            Question { url: url.into(), method: get(), headers, from }.explain(&table, 0)
        };
        let answer = explain("http://a.test/moved?a=1&apikey=0123456789abcdef", &[]);
        assert_eq!(answer.outcome, "302: http://b.test/moved?a=1");
        let answer = explain("http://a.test/x?a=1&apikey=0123456789abcdef", &[]);
        let shown = "route: app\nauth: a key in x-api-key, or Authorization: Bearer, or ?apikey; of a consumer in staff\n\
                     consumer: alice\nlimit: 5 per minute, 3 at once, by consumer\n\
                     limit: 9 per second, 9 at once, by route\npolicy: limits: routes/app\npolicy: auth: routes/app\n\
                     outcome: app\nsent: /x?a=1";
        assert_eq!(answer.to_string(), shown);
        for (headers, consumer, outcome) in [
            (&[][..], None, "401: no key"),
            (&["x-api-key: 0123456789abcdeF"], None, "401: a key that nobody has"),
            (&["authorization: Bearer fedcba9876543210"], Some("bob"), "403: in none of the groups"),
            (
                &["x-api-key: 0123456789abcdef", "x-api-key: fedcba9876543210"],
                None,
                "401: several keys that differ",
            ),
        ] {
            let answer = explain("http://a.test/x", headers);
            assert_eq!((answer.consumer.as_deref(), &*answer.outcome), (consumer, outcome), "{headers:?}");
            assert_eq!(answer.sent, None);
        }
    }

    #[test]
    fn what_of_a_routes_answers_is_stored_is_explained() {
        let document = |cache: &str| format!("[routes.app]\nservice = \"skep\"\ncache = {cache}\n");
        let explained = |cache| {
            let table = Table::compile(Document::read(&document(cache)).unwrap()).unwrap();
            let (url, headers) = ("http://a.test/x".to_owned(), vec![]);
            Question { url, method: get(), headers, from: loopback() }.explain(&table, 0).to_string()
        };
        let some = "cache: answers of at most 1024 bytes are stored, and used for 5 s beyond their time\n";
        assert!(explained("{max_entry = \"1KiB\", grace = \"5s\"}").contains(some));
        assert!(explained("true").contains("cache: answers of at most 4194304 bytes are stored\n"));
        assert!(!explained("false").contains("cache: answers"));
        for bad in ["{max_entry = \"5MiB\"}", "{grace = \"8d\"}", "{ttl = 5}", "1"] {
            assert!(Document::read(&document(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_each_policy_it_is_explained_who_states_it() {
        let document = r#"
            [defaults]
            https_only = true
            maintenance = true
            limits = [{rate = 5, per = "minute", by = "address"}]
            [services.app]
            urls = ["http://a:1"]
            auth.keys = true
            [routes.app]
            service = "app"
            maintenance = false
        "#;
        let table = Table::compile(Document::read(document).unwrap()).unwrap();
        let question =
            Question { url: "http://a.test/x".into(), method: get(), headers: vec![], from: loopback() };
        let answer = question.explain(&table, 0);
        assert_eq!(
            answer.policies,
            [
                "maintenance: routes/app, none",
                "https_only: defaults",
                "limits: defaults",
                "auth: services/app"
            ]
        );
        assert_eq!(answer.limits, [format!("{LIMITED}, for all routes that take it together")]);
        assert_eq!(answer.outcome, "308: https://a.test/x");
    }

    #[test]
    fn a_token_is_explained_by_its_issuer_and_told_to_nobody() {
        let document = r#"
            [issuers.corp]
            iss = "https://corp.test/"
            aud = "any"
            groups = "roles"
            keys = [{secret = "a hidden secret of thirty-two bytes"}]
            [routes.app]
            service = "skep"
            auth = {jwt = ["corp"], groups = ["staff"]}
        "#;
        let table = Table::compile(Document::read(document).unwrap()).unwrap();
        let token = |sub: &str, roles: &str| {
            let claims =
                format!(r#"{{"iss":"https://corp.test/","sub":"{sub}","exp":1000,"roles":"{roles}"}}"#);
            let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"a hidden secret of thirty-two bytes");
            format!("authorization: Bearer {signed}.{}", encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
        };
        for (headers, now_s, consumer, outcome) in [
            (vec![], 7, None, "401: no token"),
            (vec![token("a", "staff")], 7, Some("corp/a"), "skep"),
            (vec![token("b", "other")], 7, Some("corp/b"), "403: in none of the groups"),
            (vec![token("a", "staff")], 1030, None, "401: a token: its time is over"),
            (vec![token("a", "staff"), token("b", "staff")], 7, None, "401: several tokens that differ"),
        ] {
            let question =
                Question { url: "http://a.test/x".into(), method: get(), headers, from: loopback() };
            let answer = question.explain(&table, now_s);
            assert_eq!((answer.consumer.as_deref(), &*answer.outcome), (consumer, outcome));
            let auth = "a token of corp in Authorization: Bearer; of a consumer in staff";
            assert_eq!(answer.auth.as_deref(), Some(auth));
            assert!(!answer.to_string().contains("eyJ"), "{answer}");
        }
        let published = document.replace(
            "keys = [{secret = \"a hidden secret of thirty-two bytes\"}]",
            "jwks = \"https://corp.test/keys\"",
        );
        let table = Table::compile(Document::read(&published).unwrap()).unwrap();
        let (url, headers) = ("http://a.test/x".to_owned(), vec![token("a", "staff")]);
        let answer = Question { url, method: get(), headers, from: loopback() }.explain(&table, 7);
        assert_eq!(
            answer.outcome,
            "a token of an issuer whose keys balancers fetch: it is not looked at here"
        );
    }
}
