//! What a gateway's document comes to, said in this process: nobody is asked.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use skep_console::verbs::{VerbError, print};
use skep_gateway::document::{To, Unmatched};
use skep_gateway::policy::{Client, Redirect, Refusal};
use skep_gateway::table::{Asked, Entry};
use skep_gateway::{Fault, Table, host, path};

use crate::config::gateway::{self, Question};

/// Says what the document is, or all that is wrong with it; whether nothing is.
pub fn check(file: &Path, json: bool, out: &mut (dyn Write + Send)) -> Result<bool, VerbError> {
    let table = match gateway::read(file) {
        Ok(table) => table,
        Err(faults) => return refuse(&faults, json, out),
    };
    let (routes, services) = (table.routes.len(), table.services.len() - 1);
    let answer = json!({ "routes": routes, "services": services, "faults": [] });
    print(out, json, &answer, &format!("{routes} routes and {services} services: nothing is wrong"))?;
    Ok(true)
}

fn refuse(faults: &[Fault], json: bool, out: &mut (dyn Write + Send)) -> Result<bool, VerbError> {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    print(out, json, &json!({ "faults": faults }), &lines.join("\n"))?;
    Ok(false)
}

/// Says which route would have a request, and what would become of it there; whether it would go anywhere.
pub fn explain(
    file: &Path,
    question: &Question,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<bool, VerbError> {
    let table = match gateway::read(file) {
        Ok(table) => table,
        Err(faults) => return refuse(&faults, json, out),
    };
    let answer = explained(&table, question);
    let text = ["route", "outcome", "sent"]
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", answer[*name].as_str()?)))
        .collect::<Vec<_>>()
        .join("\n");
    print(out, json, &answer, &text)?;
    Ok(answer["sent"].is_string())
}

fn explained(table: &Table, question: &Question) -> Value {
    let nowhere = |why: String| json!({ "route": null, "outcome": why, "sent": null });
    let (scheme, rest) = question.url.split_once("://").unwrap_or(("http", &question.url));
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let (asked, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let path = match path::canonical(asked.as_bytes()) {
        Ok(path) => path,
        Err(why) => return nowhere(format!("400: the path has more than one reading: {}", why.0)),
    };
    let host = host::canonical(authority.as_bytes());
    let has = |name: &str, value: &str| {
        let is_it = |(its, told): (&str, &str)| its.trim().eq_ignore_ascii_case(name) && told.trim() == value;
        question.headers.iter().filter_map(|it| it.split_once(':')).any(is_it)
    };
    let found = table.find(Asked { host: &host, path: &path, method: &question.method }, has);
    let Some(entry) = found.map(|at| &table.routes[at]) else {
        return match table.unmatched {
            Unmatched::Skep => json!({ "route": null, "outcome": "skep", "sent": target }),
            Unmatched::NotFound => nowhere("404: no route has it".into()),
        };
    };
    let client = Client { ip: question.from, secure: scheme == "https" };
    let (outcome, goes) = outcome(entry, client, &host, &format!("{path}{query}"));
    let sent = goes.then(|| format!("{}{query}", entry.path_sent(&path)));
    json!({ "route": entry.name, "outcome": outcome, "sent": sent })
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
    use skep_gateway::Document;

    use super::*;

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
            let expected = json!({ "route": route, "outcome": outcome, "sent": sent });
            assert_eq!(explained(&table, &question), expected, "{url}");
        }
    }
}
