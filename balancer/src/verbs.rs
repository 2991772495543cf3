//! The operator verbs: what the admin address says, in the terminal.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use skep_console::client::Client;
use skep_console::table;
use skep_console::verbs::{VerbError, print_json};

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
    Ok(table::write(out, &COLUMNS, &COLUMNS[6..], &rows)?)
}

/// Words, then numbers.
const COLUMNS: [&str; 11] = [
    "backend",
    "address",
    "state",
    "role",
    "probe",
    "status",
    "in-flight",
    "req/s",
    "latency-ms",
    "failures",
    "5xx",
];

fn row(it: &BackendStatus) -> Vec<String> {
    let status = match (it.serving, it.ejected) {
        (true, false) => "serving",
        (true, true) => "ejected",
        (false, _) => "out",
    };
    vec![
        it.id.clone(),
        it.address.clone(),
        it.state.clone(),
        it.role.clone(),
        it.probe.clone(),
        status.into(),
        it.outstanding.to_string(),
        format!("{:.1}", it.requests_per_s),
        format!("{:.2}", it.latency_ms),
        it.failures.to_string(),
        it.responses_5xx.to_string(),
    ]
}
