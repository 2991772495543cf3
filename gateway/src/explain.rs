//! Which route would have a request, and what would become of it there.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::document::{To, Unmatched};
use crate::policy::{Client, Redirect, Refusal};
use crate::table::{Asked, Entry, Table};
use crate::{host, path};

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
    /// The services that may get it, or the answer that the balancer gives.
    pub outcome: String,
    /// What a service would be asked for; none where none is.
    pub sent: Option<String>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(route) = &self.route {
            writeln!(f, "route: {route}")?;
        }
        write!(f, "outcome: {}", self.outcome)?;
        match &self.sent {
            Some(sent) => write!(f, "\nsent: {sent}"),
            None => Ok(()),
        }
    }
}

impl Question {
    /// As it would be judged by this table.
    pub fn explain(&self, table: &Table) -> Explained {
        let without = |outcome: String| Explained { route: None, outcome, sent: None };
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (asked, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let path = match path::canonical(asked.as_bytes()) {
            Ok(path) => path,
            Err(why) => return without(format!("400: the path has more than one reading: {}", why.0)),
        };
        let host = host::canonical(authority.as_bytes());
        let has = |name: &str, value: &str| {
            let is_it =
                |(its, told): (&str, &str)| its.trim().eq_ignore_ascii_case(name) && told.trim() == value;
            self.headers.iter().filter_map(|it| it.split_once(':')).any(is_it)
        };
        let found = table.find(Asked { host: &host, path: &path, method: &self.method }, has);
        let Some(entry) = found.map(|at| &table.routes[at]) else {
            return match table.unmatched {
                Unmatched::Skep => Explained { sent: Some(target), ..without("skep".into()) },
                Unmatched::NotFound => without("404: no route has it".into()),
            };
        };
        let client = Client { ip: self.from, secure: scheme == "https" };
        let (outcome, goes) = outcome(entry, client, &host, &format!("{path}{query}"));
        let sent = goes.then(|| format!("{}{query}", entry.path_sent(&path)));
        Explained { route: Some(entry.name.clone()), outcome, sent }
    }
}

/// What becomes of it, and whether it goes to a service.
fn outcome(entry: &Entry, client: Client, host: &str, target: &str) -> (String, bool) {
    let redirected = |it: &Redirect| (format!("{}: {}", it.status, it.location(client, host, target)), false);
    match (entry.route.policies.refusal(client), &entry.route.to) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

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
            let expected = Explained { route, outcome: outcome.into(), sent };
            assert_eq!(question.explain(&table), expected, "{url}");
        }
    }
}
