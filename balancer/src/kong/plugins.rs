//! Kong's plugins as policies of a route: what they may say, and what a route says then. Pure.

use serde_json::{Map, Value, json};
use skep_gateway::limit::{Per, RATE_MAX};

use super::answer::{Answer, MORE};
use super::entities::Plugin;
use super::fields::Fields;

/// Those of Kong 0.4 that there are here, by their name and as 0.5 called them.
const NAMES: [(&str, &str); 6] = [
    ("keyauth", "key-auth"),
    ("basicauth", "basic-auth"),
    ("ratelimiting", "rate-limiting"),
    ("cors", "cors"),
    ("ip_restriction", "ip-restriction"),
    ("requestsizelimiting", "request-size-limiting"),
];
/// Those by which who asks is known.
const AUTHS: [&str; 2] = ["keyauth", "basicauth"];

/// What pages of other origins may do where Kong is told nothing.
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"];
/// Largest body where Kong is told nothing, in megabytes.
const PAYLOAD_MB: f64 = 128.0;
/// Periods of limits, in Kong's order.
const PERIODS: [&str; 6] = ["second", "minute", "hour", "day", "month", "year"];

/// Those that there are.
pub fn names() -> [&'static str; 6] {
    NAMES.map(|(name, _)| name)
}

/// Whether it has credentials that are none here.
pub fn is_auth(given: &str) -> bool {
    ["oauth2", "jwt", "hmac-auth", "acls"].contains(&given)
}

/// The name of 0.4 for what is called so.
pub fn name(given: &str) -> Result<&'static str, Answer> {
    let found = NAMES.iter().find(|(name, later)| given == *name || given == *later);
    if let Some((name, _)) = found {
        return Ok(name);
    }
    let all = names().join(", ");
    Err(Answer::field(400, "value", format!("Plugin \"{given}\" not found; there are {all}. {MORE}")))
}

/// What a plugin is told, as it is shown: with its defaults, or what is wrong with it.
pub fn value(plugin: &str, given: Map<String, Value>) -> Result<Map<String, Value>, Answer> {
    let mut fields = Fields::of("value.", given);
    let value = match plugin {
        "keyauth" => keyauth(&mut fields),
        "basicauth" => basicauth(&mut fields),
        "ratelimiting" => return rate_limiting(fields),
        "cors" => cors(&mut fields),
        "ip_restriction" => ip_restriction(&mut fields),
        _ => request_size(&mut fields),
    };
    fields.end().none_or(400, value)
}

fn keyauth(fields: &mut Fields) -> Map<String, Value> {
    let names = fields.list("key_names").unwrap_or_else(|| vec!["apikey".to_owned()]);
    if names.len() != 1 {
        fields.add("key_names", "a route takes keys under one name");
    }
    if fields.switch("hide_credentials") == Some(false) {
        fields.add("hide_credentials", "keys are for the gateway alone: no service is sent one");
    }
    Map::from_iter([("key_names".to_owned(), names.into()), ("hide_credentials".to_owned(), true.into())])
}

fn basicauth(fields: &mut Fields) -> Map<String, Value> {
    if fields.switch("hide_credentials") == Some(false) {
        fields.add("hide_credentials", "passwords are for the gateway alone: no service is sent one");
    }
    Map::from_iter([("hide_credentials".to_owned(), true.into())])
}

/// What cannot be together: Kong asks for both of two, and a route here takes the one or the other.
pub fn check_together(plugins: &[Plugin]) -> Result<(), Answer> {
    let auths = plugins.iter().filter(|it| it.enabled && AUTHS.contains(&it.name.as_str()));
    match auths.count() {
        0 | 1 => Ok(()),
        _ => Err(Answer::message(400, format!("An API has keyauth or basicauth, not both. {MORE}"))),
    }
}

fn rate_limiting(mut fields: Fields) -> Result<Map<String, Value>, Answer> {
    let given = PERIODS.map(|period| (period, fields.number(period)));
    for (period, _) in given.iter().filter(|(_, it)| it.is_some()) {
        if !Per::WORDS.iter().any(|(word, _)| word == period) {
            fields.add(period, format!("limits are per second, minute or hour: none per {period}"));
        }
    }
    let set: Vec<(&str, f64)> = given.iter().filter_map(|(name, it)| it.map(|it| (*name, it))).collect();
    let wrong = |text: String| Answer::message(400, text);
    fields.end().none_or(400, ())?;
    if set.is_empty() {
        return Err(wrong(format!("You need to set at least one limit: {}", PERIODS.join(", "))));
    }
    if let Some((period, _)) = set.iter().find(|(_, it)| *it <= 0.0) {
        return Err(wrong(format!("Value for {period} must be greater than zero")));
    }
    if let Some(two) = set.windows(2).find(|two| two[1].1 < two[0].1) {
        return Err(wrong(format!(
            "The value for {} cannot be lower than the value for {}",
            two[1].0, two[0].0
        )));
    }
    let is_rate = |it: f64| it.fract() == 0.0 && it <= f64::from(RATE_MAX);
    if let Some((period, _)) = set.iter().find(|(_, it)| !is_rate(*it)) {
        let why = format!("expected is a whole number from 1 to {RATE_MAX}");
        return Err(Answer::field(400, &format!("value.{period}"), why));
    }
    Ok(set.into_iter().map(|(name, it)| (name.to_owned(), (it as u64).into())).collect())
}

fn cors(fields: &mut Fields) -> Map<String, Value> {
    let mut value = Map::new();
    if let Some(origin) = fields.text("origin") {
        value.insert("origin".to_owned(), origin.into());
    }
    match fields.list("headers") {
        Some(headers) => drop(value.insert("headers".to_owned(), headers.into())),
        None => fields.add("headers", "name the headers that pages may send: none lets all be sent"),
    }
    for name in ["exposed_headers", "methods"] {
        if let Some(list) = fields.list(name) {
            value.insert(name.to_owned(), list.into());
        }
    }
    if let Some(max_age) = fields.number("max_age") {
        match max_age.fract() == 0.0 && max_age >= 0.0 {
            true => drop(value.insert("max_age".to_owned(), (max_age as u64).into())),
            false => fields.add("max_age", "expected is a whole number of seconds"),
        }
    }
    let credentials = fields.switch("credentials").unwrap_or_default();
    value.insert("credentials".to_owned(), credentials.into());
    if fields.switch("preflight_continue") == Some(true) {
        fields.add("preflight_continue", "preflights are answered by the gateway");
    }
    value.insert("preflight_continue".to_owned(), false.into());
    value
}

fn ip_restriction(fields: &mut Fields) -> Map<String, Value> {
    let lists = ["whitelist", "blacklist"].map(|name| (name, fields.list(name)));
    let value: Map<String, Value> =
        lists.into_iter().filter_map(|(name, list)| Some((name.to_owned(), list?.into()))).collect();
    if value.len() != 1 {
        fields.add("whitelist", "give a whitelist or a blacklist, one of the two");
    }
    value
}

fn request_size(fields: &mut Fields) -> Map<String, Value> {
    let size = fields.number("allowed_payload_size").unwrap_or(PAYLOAD_MB);
    if size.fract() != 0.0 || !(1.0..=1_000_000.0).contains(&size) {
        fields.add("allowed_payload_size", "expected is a whole number of megabytes, at least 1");
    }
    Map::from_iter([("allowed_payload_size".to_owned(), (size as u64).into())])
}

/// What a route says for its plugins, beside where it leads.
pub fn policies(plugins: &[Plugin]) -> Map<String, Value> {
    let mut policies = Map::new();
    let on = || plugins.iter().filter(|it| it.enabled);
    let has_auth = on().any(|it| AUTHS.contains(&it.name.as_str()));
    for Plugin { name, value, .. } in on() {
        let (policy, said) = match name.as_str() {
            "keyauth" => {
                let name = value.get("key_names").and_then(|it| it.get(0)).cloned().unwrap_or_default();
                ("auth", json!({"keys": {"header": name, "authorization": false, "query": name}}))
            }
            "basicauth" => ("auth", json!({"basic": true})),
            "ratelimiting" => {
                let by = if has_auth { "consumer" } else { "address" };
                // Kong counts by the clock: all of a period's may come at once.
                let limit = |(per, rate): (&String, &Value)| json!({"rate": rate, "per": per, "by": by, "burst": rate});
                ("limits", value.iter().map(limit).collect())
            }
            "cors" => ("cors", pages(value)),
            "ip_restriction" => {
                let list = |of: &str, to: &str| Some((to.to_owned(), value.get(of)?.clone()));
                let lists = [list("whitelist", "allow"), list("blacklist", "deny")];
                ("addresses", lists.into_iter().flatten().collect::<Map<_, _>>().into())
            }
            "requestsizelimiting" => {
                let size = value.get("allowed_payload_size").and_then(Value::as_u64).unwrap_or_default();
                ("max_body", format!("{size}MiB").into())
            }
            _ => continue,
        };
        policies.insert(policy.to_owned(), said);
    }
    policies
}

fn pages(value: &Map<String, Value>) -> Value {
    let origin = value.get("origin").and_then(Value::as_str).unwrap_or("*");
    let methods = value.get("methods").cloned().unwrap_or_else(|| json!(METHODS));
    let mut cors = json!({"origins": [origin], "methods": methods});
    let more = [
        ("headers", "headers"),
        ("exposed_headers", "expose"),
        ("max_age", "max_age_s"),
        ("credentials", "credentials"),
    ];
    for (of, to) in more {
        if let Some(it) = value.get(of) {
            cors[to] = it.clone();
        }
    }
    cors
}
