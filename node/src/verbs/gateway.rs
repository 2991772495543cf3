//! The verbs `config`: the document that the cluster keeps for its balancers, shown, tried and changed.
//!
//! A document is looked at here before it is sent, by the same code: what is wrong with it is said without a node.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::Method;
use http::header::{HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http_body_util::Full;
use serde_json::{Value, json};
use skep_console::client::Client;
use skep_console::table;
use skep_console::verbs::{VerbError, print, print_json, rows, text};
use skep_gateway::auth;
use skep_gateway::document::DOCUMENT_BYTES_MAX;
use skep_gateway::{Fault, Kept};
use skep_state::gateway::SOURCE_BYTES_MAX;

use crate::config::ConfigVerb;

/// Carries one out.
pub(super) async fn run(
    client: Client,
    verb: ConfigVerb,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    match verb {
        ConfigVerb::Apply { file, is_only_tried, wait_s } => {
            let answer = apply(waiting(client, wait_s), &file, is_only_tried, json, out).await?;
            wait_s.map_or(Ok(()), |_| all_obey(&answer))
        }
        ConfigVerb::Export => print_json(out, &client.get("/gateway").await?),
        ConfigVerb::Explain { question } => {
            let question = json!({
                "url": question.url,
                "method": question.method,
                "headers": question.headers,
                "from": question.from,
            });
            let answer = client.post("/gateway/explain", &question).await?;
            let line = |name: &str| Some(format!("{name}: {}", answer[name].as_str()?));
            let lines: Vec<String> =
                ["route", "auth", "consumer", "outcome", "sent"].into_iter().filter_map(line).collect();
            print(out, json, &answer, &lines.join("\n"))?;
            match answer["sent"].is_string() {
                true => Ok(()),
                false => Err(VerbError::Refused("it goes to no service".into())),
            }
        }
        ConfigVerb::History => {
            let answer = client.get("/gateway/history").await?;
            if json {
                return print_json(out, &answer);
            }
            let columns = ["revision", "time", "bytes", "source"];
            table::write(out, &columns, &["revision", "bytes"], &rows(&answer, "revisions", &columns))?;
            Ok(())
        }
        ConfigVerb::Rollback { revision, wait_s } => {
            let client = only_if_newest(waiting(client, wait_s)).await?;
            let answer = client.post("/gateway/rollback", &json!({ "revision": revision })).await?;
            print(out, json, &answer, &changed(&answer, false))?;
            wait_s.map_or(Ok(()), |_| all_obey(&answer))
        }
    }
}

/// Says what is wrong with a document.
pub(super) fn check(file: &Path, json: bool, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    let (_, kept) = read(file, json, out)?;
    let objects = kept.since(&Kept::default()).added;
    let said = format!("{} objects: nothing is wrong", objects.len());
    print(out, json, &json!({ "objects": objects, "faults": [] }), &said)
}

/// A fresh key for a consumer, and what is kept of it: the consumer as it may be put at a node.
pub(super) fn make_key(consumer: &str, json: bool, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    let mut random = [0; 32];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    if got != Ok(random.len()) {
        return Err(VerbError::Refused("the system gives no random bytes".into()));
    }
    let key = auth::make_key(random);
    let document = json!({ "consumers": { consumer: { "keys": [&key] } } });
    let kept = Kept::read(&document.to_string()).map_err(|refused| {
        let faults: Vec<String> = refused.faults.iter().map(Fault::to_string).collect();
        VerbError::Refused(faults.join("; "))
    })?;
    let kept = kept.object("consumers", consumer).unwrap_or_default();
    let shown: Value = serde_json::from_str(&kept).unwrap_or_default();
    let answer = json!({ "key": key, "consumer": consumer, "kept": shown });
    print(out, json, &answer, &format!("{key}\n{kept}"))
}

async fn apply(
    client: Client,
    file: &Path,
    is_only_tried: bool,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<Value, VerbError> {
    let (source, kept) = read(file, json, out)?;
    let Some(document) = kept.json() else {
        return Err(VerbError::Refused(format!("as JSON it has more than {DOCUMENT_BYTES_MAX} bytes")));
    };
    let mut query = Serializer::new("/gateway?".to_owned());
    query.append_pair("source", &source);
    if is_only_tried {
        query.append_pair("dry-run", "");
    }
    let client = only_if_newest(client).await?;
    let body = Full::new(Bytes::from(document));
    let answer = client.send(Method::PUT, &query.finish(), Some("application/json"), body).await?;
    let answer = client.json(answer).await?;
    print(out, json, &answer, &changed(&answer, is_only_tried))?;
    Ok(answer)
}

/// Asks for answers that come once balancers obey what is changed, where that is to be waited for.
fn waiting(client: Client, wait_s: Option<u64>) -> Client {
    match wait_s {
        Some(seconds) => client.waiting(seconds),
        None => client,
    }
}

/// Whether all balancers that were waited for have it in force.
fn all_obey(answer: &Value) -> Result<(), VerbError> {
    if answer["of"].is_null() {
        let why = "it is kept, and this node does not say where it is in force: it is of the version before, or many wait";
        return Err(VerbError::Refused(why.into()));
    }
    let told = rows(answer, "behind", &["id", "http", "revision", "why"]);
    let behind: Vec<String> = told.iter().map(|it| it.join(" ")).collect();
    match behind.is_empty() {
        true => Ok(()),
        false => {
            let behind = behind.join("; ");
            Err(VerbError::Refused(format!(
                "it is kept, and not in force at each balancer (id, address, revision in force there, why): {behind}"
            )))
        }
    }
}

/// Changes nothing where somebody else does meanwhile.
async fn only_if_newest(client: Client) -> Result<Client, VerbError> {
    let now = client.get("/gateway/history").await?;
    let condition = match now["revision"].as_u64() {
        None | Some(0) => (IF_NONE_MATCH, HeaderValue::from_static("*")),
        Some(number) => {
            let tag = format!("\"{}.{number}\"", text(&now["lineage"]));
            let tag = HeaderValue::from_str(&tag).map_err(|error| VerbError::Refused(error.to_string()))?;
            (IF_MATCH, tag)
        }
    };
    Ok(client.only_if(condition))
}

/// The document of a file, and where it comes from; or all that is wrong with it.
fn read(file: &Path, json: bool, out: &mut (dyn Write + Send)) -> Result<(String, Kept), VerbError> {
    let is_input = file == Path::new("-");
    let failed = |reason: String| VerbError::File { path: file.display().to_string(), reason };
    let path = if is_input { Path::new("/dev/stdin") } else { file };
    let mut document = String::new();
    // One byte more than it may have, so that it is seen to have too many.
    let read =
        File::open(path).and_then(|it| it.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_string(&mut document));
    read.map_err(|error| failed(error.to_string()))?;
    // What was exported only names secrets: the nodes have them.
    let kept = Kept::read_alone(&document).map_err(|refused| {
        let faults = refused.faults;
        let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
        match json.then(|| print_json(out, &json!({ "faults": faults }))) {
            Some(Err(error)) => error,
            _ => failed(lines.join("\n  ")),
        }
    })?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut source = name.filter(|_| !is_input).unwrap_or_else(|| "standard input".into());
    source.retain(|c| !c.is_control());
    while source.len() > SOURCE_BYTES_MAX {
        source.pop();
    }
    Ok((source, kept))
}

/// What a change came to, a line for each object.
fn changed(answer: &Value, is_only_tried: bool) -> String {
    let mut lines = Vec::new();
    for (list, sign) in [("added", '+'), ("changed", '~'), ("removed", '-')] {
        let objects = answer[list].as_array().into_iter().flatten();
        lines.extend(objects.map(|name| format!("{sign} {}", text(name))));
    }
    let revision = text(&answer["revision"]);
    lines.push(match (lines.is_empty(), is_only_tried) {
        (true, _) => format!("nothing is to be changed: the revision is {revision}"),
        (false, true) => format!("nothing was changed: the revision is {revision}"),
        (false, false) => format!("the revision is {revision} now"),
    });
    if let (Some(seen_by), Some(of)) = (answer["seen_by"].as_u64(), answer["of"].as_u64()) {
        lines.push(match of {
            0 => "no balancer says that it obeys the cluster's document".into(),
            _ => format!("in force at {seen_by} of {of} balancers"),
        });
    }
    lines.join("\n")
}
