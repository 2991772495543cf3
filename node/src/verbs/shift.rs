//! The verb `config shift`: shifts of routes, begun, shown, stopped and taken back.

use std::io::Write;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};
use skep_console::client::Client;
use skep_console::verbs::{VerbError, print, text};

use crate::config::ShiftVerb;

/// Carries one out.
pub(super) async fn run(
    client: Client,
    route: &str,
    verb: ShiftVerb,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    // A name has no character that a path could not have; what is none, the node refuses.
    let path = format!("/gateway/shifts/{}", escaped(route));
    let answer = match verb {
        ShiftVerb::Show => client.get(&path).await?,
        ShiftVerb::Stop => client.post(&format!("{path}/stop"), &json!({})).await?,
        ShiftVerb::Resume => client.post(&format!("{path}/resume"), &json!({})).await?,
        ShiftVerb::Back => {
            let answer = client.send(Method::DELETE, &path, None, Full::new(Bytes::new())).await?;
            client.json(answer).await?
        }
        ShiftVerb::Begin { from, to, over_s, abort } => {
            let asked = json!({ "from": from, "to": to, "over_s": over_s, "abort": abort });
            let body = Full::new(Bytes::from(asked.to_string()));
            let answer = client.send(Method::PUT, &path, Some("application/json"), body).await?;
            client.json(answer).await?
        }
    };
    print(out, json, &answer, &lines(&answer))
}

fn escaped(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

/// A shift in lines.
fn lines(shift: &Value) -> String {
    let said = |name: &str| Some(text(&shift[name])).filter(|it| !it.is_empty() && it != "-" && it != "null");
    let share = shift["share_percent"].as_f64().unwrap_or_default();
    let mut lines = vec![
        format!("route: {}", text(&shift["route"])),
        format!("shift: {} -> {} over {} s", text(&shift["from"]), text(&shift["to"]), shift["over_s"]),
        format!("state: {}, {share} % over", text(&shift["state"])),
    ];
    lines.extend(said("why").map(|why| format!("why: {why}")));
    lines.extend(said("abort").map(|rule| format!("goes back: {rule}")));
    if shift["seen"].is_object() {
        let number = |name: &str| shift["seen"][name].as_u64().unwrap_or_default();
        let (failed, requests, balancers) = (number("failed"), number("requests"), number("balancers"));
        lines.push(format!("seen: {failed} of {requests} requests failed of late, at {balancers} balancers"));
    }
    lines.push(format!("began: {}", text(&shift["began"])));
    lines.push(format!("changed: {}", text(&shift["changed"])));
    lines.join("\n")
}
