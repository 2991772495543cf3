//! What the operator verbs of all programs have in common: answers on stdout, as a table, a line or
//! JSON; what went wrong on stderr; the exit status.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, ClientError};

/// How long a program may take to say whether it is ready.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

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

/// What health is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthOf {
    /// It may take requests.
    Ready,
    /// The next one may be started or replaced.
    Started,
    /// The process answers.
    Live,
}

/// A verb's exit status; an error goes to stderr behind the program's name.
pub fn exit(program: &str, outcome: Result<(), VerbError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `| head` closed the pipe: it has what it wanted.
        Err(VerbError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The verb `health`: the word, or why not.
pub async fn health(
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

/// The answer as JSON, or as this text.
pub fn print(out: &mut (dyn Write + Send), json: bool, answer: &Value, text: &str) -> Result<(), VerbError> {
    if json {
        return print_json(out, answer);
    }
    Ok(writeln!(out, "{text}")?)
}

pub fn print_json(out: &mut (dyn Write + Send), value: &Value) -> Result<(), VerbError> {
    Ok(writeln!(out, "{value:#}")?)
}

/// A list's members as a table's rows.
pub fn rows(answer: &Value, list: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let items = answer[list].as_array().into_iter().flatten();
    items.map(|item| columns.iter().map(|column| text(&item[*column])).collect()).collect()
}

/// A JSON value as a cell shows it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
