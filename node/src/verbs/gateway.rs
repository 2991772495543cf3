//! The verbs `config`: the document that the cluster keeps for its balancers, shown, tried and changed.
//!
//! A document is looked at here before it is sent, by the same code: what is wrong with it is said without a node.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{ETAG, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use skep_base::random::drawn;
use skep_console::client::{Client, ClientError};
use skep_console::table;
use skep_console::verbs::{VerbError, print, print_json, rows, text};
use skep_gateway::auth;
use skep_gateway::auth::password::{PASSWORD_BYTES_MAX, check_given};
use skep_gateway::document::DOCUMENT_BYTES_MAX;
use skep_gateway::{Fault, Kept, Refused};
use skep_state::gateway::SOURCE_BYTES_MAX;

use super::shift;
use crate::config::{ConfigVerb, Part};

/// Carries one out.
pub(super) async fn run(
    client: Client,
    verb: ConfigVerb,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    match verb {
        ConfigVerb::Apply { file, part, is_only_tried, wait_s } => {
            let client = waiting(client, wait_s);
            let answer = match part {
                None => apply(client, &file, is_only_tried, json, out).await?,
                Some(part) => apply_part(client, &file, &part, is_only_tried, json, out).await?,
            };
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
            let lines: Vec<String> = [
                "route", "auth", "consumer", "ask", "limits", "cache", "compress", "policies", "shift",
                "outcome", "sent",
            ]
            .into_iter()
            .flat_map(|name| explained(name, &answer[name]))
            .collect();
            print(out, json, &answer, &lines.join("\n"))?;
            match answer["sent"].is_string() {
                true => Ok(()),
                false => Err(VerbError::Refused("it goes to no service".into())),
            }
        }
        ConfigVerb::Shift { route, verb } => shift::run(client, &route, verb, json, out).await,
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
        ConfigVerb::Purge { purge, wait_s } => {
            let answer = waiting(client, wait_s).post("/gateway/purge", &json!(purge)).await?;
            let lines = [Some(format!("purge {}", text(&answer["purge"]))), in_force(&answer)];
            let lines: Vec<String> = lines.into_iter().flatten().collect();
            print(out, json, &answer, &lines.join("\n"))?;
            wait_s.map_or(Ok(()), |_| all_obey(&answer))
        }
    }
}

/// A line of what is explained, or several.
fn explained(name: &str, value: &Value) -> Vec<String> {
    let line = |name: &str, it: &Value| Some(format!("{name}: {}", it.as_str()?));
    let of_each = |name: &str| {
        value.as_array().into_iter().flatten().filter_map(|it| line(name, it)).collect::<Vec<String>>()
    };
    match name {
        "limits" => of_each("limit"),
        "policies" => of_each("policy"),
        name => line(name, value).into_iter().collect(),
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
    let random = drawn().ok_or_else(|| VerbError::Refused("the system gives no random bytes".into()))?;
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

/// What is kept of a password that is read: the consumer as it may be put at a node.
pub(super) fn keep_password(
    consumer: &str,
    user: Option<&str>,
    json: bool,
    input: &mut dyn Read,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    let refused = |why: String| VerbError::Refused(why);
    let mut password = String::new();
    // With an end of the line, and one byte more than it may have.
    let read = input.take(PASSWORD_BYTES_MAX as u64 + 3).read_to_string(&mut password);
    read.map_err(|error| refused(format!("standard input: {error}")))?;
    let password = password.strip_suffix('\n').map_or(&*password, |it| it.strip_suffix('\r').unwrap_or(it));
    check_given(password).map_err(refused)?;
    let mut given = json!({ "password": password });
    if let Some(user) = user {
        given["user"] = user.into();
    }
    let document = json!({ "consumers": { consumer: { "passwords": [given] } } });
    let kept = Kept::read_alone(&document.to_string(), &drawn::<16>).map_err(|found| {
        let faults: Vec<String> = found.faults.iter().map(Fault::to_string).collect();
        refused(faults.join("; "))
    })?;
    let kept = kept.object("consumers", consumer).unwrap_or_default();
    let shown: Value = serde_json::from_str(&kept).unwrap_or_default();
    print(out, json, &json!({ "consumer": consumer, "kept": shown }), &kept)
}

async fn apply(
    client: Client,
    file: &Path,
    is_only_tried: bool,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<Value, VerbError> {
    let (source, kept) = read(file, json, out)?;
    let mut query = Serializer::new("/gateway?".to_owned());
    query.append_pair("source", &source);
    if is_only_tried {
        query.append_pair("dry-run", "");
    }
    let client = only_if_newest(client).await?;
    put(client, &query.finish(), &kept, is_only_tried, json, out).await
}

/// What others have stays as it is, whoever changes it meanwhile: so there is no condition.
async fn apply_part(
    client: Client,
    file: &Path,
    part: &Part,
    is_only_tried: bool,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<Value, VerbError> {
    let text = text_of(file)?;
    let kept = Kept::read_part(&text, &part.source).and_then(|it| it.hashed(&drawn::<16>));
    let kept = kept.map_err(|it| refused(it, file, json, out))?;
    let mut query = Serializer::new(format!("/gateway/sources/{}?", part.source));
    for (name, _) in [("dry-run", is_only_tried), ("take", part.takes)].iter().filter(|(_, is_said)| *is_said)
    {
        query.append_pair(name, "");
    }
    put(client, &query.finish(), &kept, is_only_tried, json, out).await
}

async fn put(
    client: Client,
    path: &str,
    kept: &Kept,
    is_only_tried: bool,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<Value, VerbError> {
    let Some(document) = kept.json() else {
        return Err(VerbError::Refused(format!("as JSON it has more than {DOCUMENT_BYTES_MAX} bytes")));
    };
    let body = Full::new(Bytes::from(document));
    let answer = client.send(Method::PUT, path, Some("application/json"), body).await?;
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
    let number = if answer["purge"].is_null() { "revision" } else { "purge" };
    let told = rows(answer, "behind", &["id", "http", number, "why"]);
    let behind: Vec<String> = told.iter().map(|it| it.join(" ")).collect();
    match behind.is_empty() {
        true => Ok(()),
        false => {
            let behind = behind.join("; ");
            Err(VerbError::Refused(format!(
                "it is kept, and not in force at each balancer (id, address, {number} in force there, why): {behind}"
            )))
        }
    }
}

/// Changes nothing where somebody else does meanwhile.
async fn only_if_newest(client: Client) -> Result<Client, VerbError> {
    let tag = match client.get("/gateway/history").await {
        Ok(now) => match now["revision"].as_u64() {
            None | Some(0) => None,
            Some(number) => {
                let tag = format!("\"{}.{number}\"", text(&now["lineage"]));
                Some(HeaderValue::from_str(&tag).map_err(|error| VerbError::Refused(error.to_string()))?)
            }
        },
        // The gateway's token has no past: it may ask for the document alone.
        Err(ClientError::Problem { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }) => {
            tag_of_newest(&client).await?
        }
        Err(error) => return Err(error.into()),
    };
    let nothing = (IF_NONE_MATCH, HeaderValue::from_static("*"));
    Ok(client.only_if(tag.map_or(nothing, |tag| (IF_MATCH, tag))))
}

/// None where nothing is configured.
async fn tag_of_newest(client: &Client) -> Result<Option<HeaderValue>, VerbError> {
    match client.exchange(Method::GET, "/gateway", None, Full::new(Bytes::new())).await {
        Ok(answer) => Ok(answer.headers().get(ETAG).cloned()),
        Err(ClientError::Problem { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The document of a file, and where it comes from; or all that is wrong with it.
fn read(file: &Path, json: bool, out: &mut (dyn Write + Send)) -> Result<(String, Kept), VerbError> {
    let document = text_of(file)?;
    // What was exported only names secrets: the nodes have them.
    let kept = Kept::read_alone(&document, &drawn::<16>).map_err(|it| refused(it, file, json, out))?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut source = name.filter(|_| !is_input(file)).unwrap_or_else(|| "standard input".into());
    source.retain(|c| !c.is_control());
    while source.len() > SOURCE_BYTES_MAX {
        source.pop();
    }
    Ok((source, kept))
}

fn is_input(file: &Path) -> bool {
    file == Path::new("-")
}

/// One byte more than it may have, so that it is seen to have too many.
fn text_of(file: &Path) -> Result<String, VerbError> {
    let path = if is_input(file) { Path::new("/dev/stdin") } else { file };
    let mut text = String::new();
    let read =
        File::open(path).and_then(|it| it.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| failed(file, error.to_string()))?;
    Ok(text)
}

fn failed(file: &Path, reason: String) -> VerbError {
    VerbError::File { path: file.display().to_string(), reason }
}

/// Says what is wrong with what stands in a file.
fn refused(refused: Refused, file: &Path, json: bool, out: &mut (dyn Write + Send)) -> VerbError {
    let faults = refused.faults;
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    match json.then(|| print_json(out, &json!({ "faults": faults }))) {
        Some(Err(error)) => error,
        _ => failed(file, lines.join("\n  ")),
    }
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
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        lines.push(format!("warning: {}: {}", text(&warning["pointer"]), text(&warning["fault"])));
    }
    lines.extend(in_force(answer));
    lines.join("\n")
}

/// At how many balancers, where that was waited for.
fn in_force(answer: &Value) -> Option<String> {
    let (seen_by, of) = (answer["seen_by"].as_u64()?, answer["of"].as_u64()?);
    Some(match of {
        0 => "no balancer says that it obeys the cluster's document".into(),
        _ => format!("in force at {seen_by} of {of} balancers"),
    })
}

#[cfg(test)]
mod tests {
    use skep_gateway::auth::password::PasswordHash;

    use super::*;

    #[test]
    fn what_is_kept_of_a_password_that_is_read_is_said_and_not_the_password() {
        let said = |user: Option<&str>, input: &str| {
            let mut out = Vec::new();
            keep_password("shop", user, false, &mut input.as_bytes(), &mut out)?;
            Ok::<_, VerbError>(String::from_utf8_lossy(&out).into_owned())
        };
        for (user, input, name) in
            [(None, "hidden password\r\n", "shop"), (Some("of the shop"), "hidden password", "of the shop")]
        {
            let kept: Value = serde_json::from_str(&said(user, input).unwrap()).unwrap();
            let password = &kept["passwords"][0];
            assert_eq!(password["user"], name);
            let hash = PasswordHash::read(password["password"].as_str().unwrap()).unwrap();
            assert_eq!(hash.is_of(b"hidden password"), Some(true));
        }
        for (user, input) in [
            (None, ""),
            (None, "hidden\n"),
            (None, &*"hidden".repeat(100)),
            (Some("a:b"), "hidden password"),
            (None, "hidden password\nhidden"),
        ] {
            let refused = said(user, input).unwrap_err().to_string();
            assert!(!refused.contains("hidden"), "{refused}");
        }
    }
}
