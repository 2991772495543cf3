//! The operator verbs: one request each to the admin address, or work on a file.
//!
//! No tasks but the connection's own, which ends with the request. Answers go to stdout, as an
//! aligned table or as JSON; what went wrong goes to stderr, and the exit status is 1.

mod gateway;
mod offline;
mod shift;
mod snapshot;
mod tasks;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use skep_console::client::Client;
use skep_console::table;
use skep_console::verbs::{exit, health, print, print_json, rows, text};
use skep_members::seeds::{Seed, resolve_now};

pub use skep_console::verbs::VerbError;

use crate::config::{SnapshotVerb, Verb};
use crate::http::encode::time_rfc3339;
use skep_state::clock::mends::AHEAD_MS_MAX;

pub use offline::recover;

/// How long a node may take to answer; an operation waits for the leader and a quorum.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a node may take to say that it is ready, where there are several to ask.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an operator may look at the time that is to be set back to.
const SHOWN_MS_MAX: u64 = 3_600_000;

/// Carries out a verb: its answer goes to stdout, an error to stderr.
pub async fn run(program: &str, verb: Verb) -> ExitCode {
    exit(program, carry_out(verb, &mut std::io::stdout()).await)
}

async fn carry_out(verb: Verb, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    match verb {
        Verb::Keygen { json } => offline::keygen(json, out),
        Verb::EdgeKey { keys, json } => offline::edge_key(&keys, json, out),
        Verb::WorkerToken { keys, json } => offline::worker_token(&keys, json, out),
        Verb::Health { admin, of, json } => health(admin, of, json, out).await,
        Verb::Members { admin, json } => {
            let cluster = Client::new(admin, ANSWER_TIMEOUT).get("/cluster").await?;
            if json {
                return print_json(out, &cluster);
            }
            let columns = ["id", "role", "state", "raft", "http", "peer", "version"];
            table::write(out, &columns, &[], &rows(&cluster, "members", &columns))?;
            Ok(())
        }
        Verb::Peers { admin, json } => {
            let peers = Client::new(admin, ANSWER_TIMEOUT).get("/peers").await?;
            if json {
                return print_json(out, &peers);
            }
            let columns = ["id", "role", "state", "matched", "lag", "address"];
            table::write(out, &columns, &[], &rows(&peers, "peers", &columns))?;
            Ok(())
        }
        Verb::Tasks { admin, verb, json } => tasks::run(admin, &verb, json, out).await,
        Verb::Config { admin, token, verb, json } => {
            let client = Client::new(one_of(&admin).await?, ANSWER_TIMEOUT).bearing(token);
            gateway::run(client, verb, json, out).await
        }
        Verb::CheckConfig { file, json } => gateway::check(&file, json, out),
        Verb::MakeKey { consumer, json } => gateway::make_key(&consumer, json, out),
        Verb::KeepPassword { consumer, user, json } => {
            gateway::keep_password(&consumer, user.as_deref(), json, &mut std::io::stdin(), out)
        }
        Verb::Clock { admin, json } => {
            let clocks = Client::new(admin, ANSWER_TIMEOUT).get("/clock").await?;
            if json {
                return print_json(out, &clocks);
            }
            let columns = ["id", "offset_ms"];
            table::write(out, &columns, &[], &rows(&clocks, "members", &columns))?;
            if clocks["agreed"] != true {
                writeln!(out, "no majority of the voters' clocks agrees: nothing is dropped by age")?;
            }
            let ms = |name: &str| clocks[name].as_u64().unwrap_or_default();
            let ahead_ms = ms("newest_ms").saturating_sub(ms("time_ms"));
            if ahead_ms > AHEAD_MS_MAX {
                let ahead_s = ahead_ms / 1000;
                writeln!(out, "a time was given that is {ahead_s} s ahead: see `skep-node clock mend`")?;
            }
            Ok(())
        }
        Verb::MendTime { admin, shown_ms, json } => {
            let client = Client::new(admin, ANSWER_TIMEOUT);
            let asked = Instant::now();
            let mut answer = client.get("/clock/mend").await?;
            if let Some(shown_ms) = shown_ms {
                let agreed_ms = answer["agreed_ms"].as_u64().unwrap_or_default();
                is_as_shown(shown_ms, agreed_ms)?;
                // What the clocks agree on when it is set back must be what they do now, gone on.
                let gone_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
                let agreed_ms = agreed_ms.saturating_add(gone_ms);
                answer = client.post("/clock/mend", &json!({ "agreed_ms": agreed_ms })).await?;
            }
            print(out, json, &answer, &mended(&answer))
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
            print_values(&info, out)
        }
        Verb::Snapshot(SnapshotVerb::Restore { admin, file, json }) => {
            let answer = snapshot::restore(admin, &file).await?;
            print(out, json, &answer, &format!("restored {} messages", text(&answer["messages"])))
        }
        Verb::Verify { data, json } => {
            let found = offline::verify(&data).await?;
            if json {
                return print_json(out, &found);
            }
            print_values(&found, out)
        }
        Verb::RecoverInspect { data, json } => {
            let found = offline::inspect(&data).await?;
            if json {
                return print_json(out, &found);
            }
            print_values(&found, out)
        }
        Verb::Recover { data, yes, json } => {
            let answer = recover(&data, yes).await?;
            print(out, json, &answer, "the folder is a single-voter cluster now; start the node")
        }
    }
}

/// An address at which a node is ready, of those that a name has; where none is, any that it has, which says why.
async fn one_of(admin: &Seed) -> Result<SocketAddr, VerbError> {
    if let Seed::Address(address) = admin {
        return Ok(*address);
    }
    let addresses = resolve_now(std::slice::from_ref(admin)).await;
    for address in &addresses {
        if Client::new(*address, LOOK_TIMEOUT).probe("/readyz").await.is_ok() {
            return Ok(*address);
        }
    }
    let nowhere = || VerbError::Refused(format!("{admin} has no address (--admin or SKEP_ADMIN says where)"));
    addresses.first().copied().ok_or_else(nowhere)
}

/// Whether the clocks may agree on this time by now, where they agreed on the one that an operator was shown.
fn is_as_shown(shown_ms: u64, agreed_ms: u64) -> Result<(), VerbError> {
    let from = shown_ms.saturating_sub(AHEAD_MS_MAX);
    if (from..=shown_ms.saturating_add(SHOWN_MS_MAX)).contains(&agreed_ms) {
        return Ok(());
    }
    Err(VerbError::Refused(format!(
        "the clocks agree on {} by now, and --agreed says {}, which is not of the last hour: look again without \
         --yes, and see whether that is the right time",
        rfc3339(agreed_ms),
        rfc3339(shown_ms)
    )))
}

fn rfc3339(time_ms: u64) -> String {
    let mut time = Vec::new();
    time_rfc3339(time_ms, &mut time);
    String::from_utf8_lossy(&time).into_owned()
}

/// What the leader says of the time of what is written, in a sentence.
fn mended(answer: &serde_json::Value) -> String {
    let time = |name: &str| rfc3339(answer[name].as_u64().unwrap_or_default());
    let (newest, agreed, messages) = (time("newest_ms"), time("agreed_ms"), text(&answer["messages"]));
    match (answer["mended"] == true, answer["ahead"] == true) {
        (true, _) => format!(
            "the time of what is written was set back from {newest} to {agreed}: {messages} messages are shown with \
             it from now on, and --retain-age counts theirs from it"
        ),
        (false, true) => format!(
            "the newest time that was given is {newest}, ahead of {agreed}, on which the clocks agree; {messages} \
             messages have a later time than that. If that is the right time, set it back with --yes --agreed {agreed} \
             within the hour: these are shown with the time of then, for good, --retain-age counts theirs from it, \
             and what comes gets its own"
        ),
        (false, false) => format!(
            "the newest time that was given, {newest}, is not ahead of what the clocks agree on: there is nothing \
             to mend"
        ),
    }
}

/// An object, a line each.
fn print_values(object: &serde_json::Value, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    let values = object.as_object().into_iter().flatten();
    let rows: Vec<_> = values.map(|(name, value)| vec![name.clone(), text(value)]).collect();
    table::write(out, &["what", "value"], &[], &rows)?;
    Ok(())
}

#[cfg(test)]
mod tests;
