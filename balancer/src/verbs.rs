//! The operator verbs: what the admin address says, in the terminal.

pub mod gateway;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value, json};
use skep_console::client::Client;
use skep_console::table;
use skep_console::verbs::{VerbError, print, print_json, text};

use crate::config::OperatorVerb;
use crate::status::BackendStatus;

/// Time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows the backends.
pub async fn backends(admin: SocketAddr, json: bool, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    let client = Client::new(admin, ANSWER_TIMEOUT);
    let answer = client.get("/backends").await?;
    if json {
        return print_json(out, &answer);
    }
    let backends: Vec<BackendStatus> =
        serde_json::from_value(answer).map_err(|error| client.broken(&error))?;
    let rows: Vec<_> = backends.iter().map(row).collect();
    Ok(table::write(out, &COLUMNS, &COLUMNS[7..], &rows)?)
}

/// Has something changed or shown.
pub async fn operate(
    verb: &OperatorVerb,
    admin: SocketAddr,
    token: Option<HeaderValue>,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    let client = Client::new(admin, ANSWER_TIMEOUT).bearing(token);
    let answer = match verb {
        OperatorVerb::Drain { backend } => client.post("/drain", &json!({ "backend": backend })).await?,
        OperatorVerb::Undrain { backend } => client.post("/undrain", &json!({ "backend": backend })).await?,
        OperatorVerb::Weigh { backend, weight } => {
            client.post("/weigh", &json!({ "backend": backend, "weight": weight })).await?
        }
        OperatorVerb::Eject { backend, length } => {
            let seconds = length.map(|length| length.as_secs_f64());
            client.post("/eject", &json!({ "backend": backend, "seconds": seconds })).await?
        }
        OperatorVerb::Reset { backend } => client.post("/reset", &json!({ "backend": backend })).await?,
        OperatorVerb::SetLevel { filter } => client.post("/log-level", &json!({ "filter": filter })).await?,
        OperatorVerb::ShowLevel => client.get("/log-level").await?,
        OperatorVerb::RetryBudget => client.get("/retry-budget").await?,
    };
    print(out, json, &answer, &said(verb, &answer))
}

/// What an answer says, in words.
fn said(verb: &OperatorVerb, answer: &Value) -> String {
    let told = |member: &str| text(&answer[member]);
    let backend = told("backend");
    match verb {
        OperatorVerb::Drain { .. } => format!("{backend} gets nothing new, and finishes what it has"),
        OperatorVerb::Undrain { .. } => format!("{backend} is not drained any more"),
        OperatorVerb::Weigh { .. } => format!("{backend} weighs {}", told("weight")),
        OperatorVerb::Eject { length: None, .. } => format!("{backend} is ejected until it is reset"),
        OperatorVerb::Eject { length: Some(length), .. } => format!("{backend} is ejected for {length:?}"),
        OperatorVerb::Reset { .. } => format!("nothing is set of {backend}; it is judged anew"),
        OperatorVerb::ShowLevel | OperatorVerb::SetLevel { .. } => {
            format!("{} (started with {})", told("filter"), told("configured"))
        }
        OperatorVerb::RetryBudget => format!(
            "{} of {} retries may be made now; {} were made, for {} there was no budget",
            told("tokens"),
            told("tokens_max"),
            told("retries"),
            told("refused")
        ),
    }
}

/// Words, then numbers.
const COLUMNS: [&str; 13] = [
    "backend",
    "address",
    "state",
    "role",
    "probe",
    "status",
    "service",
    "weight",
    "in-flight",
    "req/s",
    "latency-ms",
    "failures",
    "5xx",
];

fn row(it: &BackendStatus) -> Vec<String> {
    vec![
        it.id.clone(),
        it.address.clone(),
        it.state.clone(),
        it.role.clone(),
        it.probe.clone(),
        it.word().into(),
        it.service.clone(),
        it.weight.to_string(),
        it.outstanding.to_string(),
        format!("{:.1}", it.requests_per_s),
        format!("{:.2}", it.latency_ms),
        it.failures.to_string(),
        it.responses_5xx.to_string(),
    ]
}
