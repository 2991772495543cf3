//! Which resource is asked, and what becomes of the document. Pure.

use http::Method;
use serde_json::json;

use super::answer::{Answer, MORE};
use super::asked::{Asked, Done};
use super::entities::Document;
use super::{apis, consumers, passwords, plugins};

/// What versions behind 0.4 have.
const LATER: [&str; 8] =
    ["services", "routes", "upstreams", "targets", "certificates", "snis", "acls", "jwt-secrets"];

/// Answers, and changes the document where that is asked for.
pub fn answer(asked: &Asked, document: &mut Document) -> Result<Done, Answer> {
    let segments: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["apis"] => apis::all(asked, document),
        ["apis", api] => apis::one(asked, document, api),
        ["apis", api, "plugins"] => apis::plugins(asked, document, api),
        ["apis", api, "plugins", plugin] => apis::plugin(asked, document, api, plugin),
        ["plugins_configurations"] => apis::every_plugin(asked, document),
        ["plugins"] if asked.method == Method::GET => {
            Done::read(Answer::ok(json!({ "enabled_plugins": plugins::names() })))
        }
        ["plugins"] => Err(Answer::message(400, format!("a plugin is added to an API: {MORE}"))),
        ["consumers"] => consumers::all(asked, document),
        ["consumers", consumer] => consumers::one(asked, document, consumer),
        ["consumers", consumer, "keyauth" | "key-auth"] => consumers::keys(asked, document, consumer),
        ["consumers", consumer, "keyauth" | "key-auth", id] => consumers::key(asked, document, consumer, id),
        ["consumers", consumer, "basicauth" | "basic-auth"] => passwords::all(asked, document, consumer),
        ["consumers", consumer, "basicauth" | "basic-auth", id] => {
            passwords::one(asked, document, consumer, id)
        }
        ["consumers", _, credentials, ..] => Err(match plugins::name(credentials) {
            Err(answer) if plugins::is_auth(credentials) => answer,
            _ => Answer::not_found(),
        }),
        [first, ..] if LATER.contains(first) => Err(Answer::message(400, MORE)),
        _ => Err(Answer::not_found()),
    }
}
