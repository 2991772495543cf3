//! The operator verbs: one request each to the admin address, or work on a file.
//!
//! No tasks but the connection's own, which ends with the request. Answers go to stdout, as an
//! aligned table or as JSON; what went wrong goes to stderr, and the exit status is 1.

mod client;
mod offline;
mod snapshot;
mod table;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{HealthOf, SnapshotVerb, Verb};
use client::{Client, ClientError};

pub use offline::recover;

/// How long a node may take to say whether it is ready.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take to answer anything else; an operation waits for the leader and a quorum.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What the health verb exits with 1 for.
    #[error("not {0}: {1}")]
    NotReady(&'static str, String),
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error("{0}")]
    Refused(String),
    #[error("writing the answer: {0}")]
    Output(#[from] std::io::Error),
}

/// Carries out a verb: its answer goes to stdout, an error to stderr.
pub async fn run(verb: Verb) -> ExitCode {
    match carry_out(verb, &mut std::io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        // `| head` closed the pipe: it has what it wanted.
        Err(VerbError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skep-node: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(verb: Verb, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    match verb {
        Verb::Keygen { json } => offline::keygen(json, out),
        Verb::Health { admin, of, json } => health(admin, of, json, out).await,
        Verb::Members { admin, json } => {
            let cluster = Client::new(admin, ANSWER_TIMEOUT).get("/cluster").await?;
            if json {
                return print_json(out, &cluster);
            }
            let columns = ["id", "role", "state", "raft", "http", "peer", "version"];
            table::write(out, &columns, &rows(&cluster, "members", &columns))?;
            Ok(())
        }
        Verb::Peers { admin, json } => {
            let peers = Client::new(admin, ANSWER_TIMEOUT).get("/peers").await?;
            if json {
                return print_json(out, &peers);
            }
            let columns = ["id", "role", "state", "matched", "lag", "address"];
            table::write(out, &columns, &rows(&peers, "peers", &columns))?;
            Ok(())
        }
        Verb::TransferLeader { admin, to, json } => {
            let to = to.map(|id| id.to_string());
            let client = Client::new(admin, ANSWER_TIMEOUT);
            let answer = client.post("/transfer-leader", &json!({ "to": to })).await?;
            print(out, json, &answer, &format!("{} leads now", text(&answer["leader"])))
        }
        Verb::ForceLeave { admin, id, json } => {
            let client = Client::new(admin, ANSWER_TIMEOUT);
            let answer = client.post("/force-leave", &json!({ "id": id.to_string() })).await?;
            print(out, json, &answer, &format!("{} is out of the cluster", text(&answer["removed"])))
        }
        Verb::Snapshot(SnapshotVerb::Save { admin, file, json }) => {
            let bytes = snapshot::save(admin, &file).await?;
            let answer = json!({ "file": file.display().to_string(), "bytes": bytes });
            print(out, json, &answer, &format!("saved {bytes} bytes to {}", file.display()))
        }
        Verb::Snapshot(SnapshotVerb::Inspect { file, json }) => {
            let info = snapshot::inspect(&file)?;
            if json {
                return print_json(out, &info);
            }
            let rows: Vec<_> = info
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| vec![name.clone(), text(value)])
                .collect();
            table::write(out, &["what", "value"], &rows)?;
            Ok(())
        }
        Verb::Snapshot(SnapshotVerb::Restore { admin, file, json }) => {
            let answer = snapshot::restore(admin, &file).await?;
            print(out, json, &answer, &format!("restored {} messages", text(&answer["messages"])))
        }
        Verb::Recover { data, yes, json } => {
            let answer = recover(&data, yes).await?;
            print(out, json, &answer, "the folder is a single-voter cluster now; start the node")
        }
    }
}

async fn health(
    admin: SocketAddr,
    of: HealthOf,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    let (path, word) = match of {
        HealthOf::Ready => ("/readyz", "ready"),
        HealthOf::Started => ("/startedz", "started"),
        HealthOf::Live => ("/livez", "live"),
    };
    let reason = match Client::new(admin, HEALTH_TIMEOUT).probe(path).await {
        Ok(()) => None,
        Err(ClientError::Problem { detail, .. }) => Some(detail),
        Err(error) => Some(error.to_string()),
    };
    let healthy = reason.is_none();
    if json {
        print_json(out, &json!({ "healthy": healthy, "reason": reason }))?;
    } else if healthy {
        writeln!(out, "{word}")?;
    }
    reason.map_or(Ok(()), |reason| Err(VerbError::NotReady(word, reason)))
}

fn print(out: &mut (dyn Write + Send), json: bool, answer: &Value, text: &str) -> Result<(), VerbError> {
    if json {
        return print_json(out, answer);
    }
    Ok(writeln!(out, "{text}")?)
}

fn print_json(out: &mut (dyn Write + Send), value: &Value) -> Result<(), VerbError> {
    Ok(writeln!(out, "{value:#}")?)
}

fn rows(answer: &Value, list: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let items = answer[list].as_array().into_iter().flatten();
    items.map(|item| columns.iter().map(|column| text(&item[*column])).collect()).collect()
}

/// A JSON value as a cell shows it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
