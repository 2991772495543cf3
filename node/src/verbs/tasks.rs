//! The verbs `queues`, `tasks`, `workers` and `schedules`: what the node that is asked knows of them.

use std::io::Write;
use std::net::SocketAddr;

use serde_json::{Value, json};
use skep_console::client::Client;
use skep_console::table;
use skep_console::verbs::{print_json, text};

use super::{ANSWER_TIMEOUT, VerbError};
use crate::config::TasksVerb;

/// Most of a cell that others wrote.
const CELL_CHARS_MAX: usize = 60;
/// Parts of the list of workers: there are fewer, however much each of them holds.
const PARTS_MAX: usize = 4096;

/// Carries one out.
pub(super) async fn run(
    admin: SocketAddr,
    verb: &TasksVerb,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    let client = Client::new(admin, ANSWER_TIMEOUT);
    match verb {
        TasksVerb::Queues => {
            let answer = client.get("/queues").await?;
            if json {
                return print_json(out, &answer);
            }
            let counts = ["ready", "due", "active", "dead", "put", "done", "failed", "lost", "cancelled"];
            let columns: Vec<&str> =
                ["queue"].into_iter().chain(counts).chain(["oldest_ready", "paused"]).collect();
            show(out, &columns, &counts, items(&answer, "queues"))
        }
        TasksVerb::Tasks { queue, state, limit, after } => {
            let mut query = form_urlencoded::Serializer::new(format!("/queues/{queue}/tasks?limit={limit}"));
            for (name, value) in [("state", state), ("after", after)] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            let answer = client.get(&query.finish()).await?;
            if json {
                return print_json(out, &answer);
            }
            let numbers = ["priority", "tries", "lost"];
            let columns =
                ["id", "state", "kind", "priority", "tries", "lost", "put", "since", "worker", "error"];
            show(out, &columns, &numbers, items(&answer, "tasks"))?;
            if let Some(after) = answer["after"].as_str() {
                writeln!(out, "there are more: --after {}", cell(after))?;
            }
            Ok(())
        }
        TasksVerb::Schedules => {
            let answer = client.get("/schedules").await?;
            if json {
                return print_json(out, &answer);
            }
            let rows: Vec<Value> = items(&answer, "schedules")
                .iter()
                .map(|schedule| {
                    let mut row = schedule.clone();
                    row["when"] = match schedule["cron"].as_str() {
                        Some(cron) => format!("{cron} ({})", text(&schedule["timezone"])).into(),
                        None => format!("every {}", text(&schedule["every"])).into(),
                    };
                    row
                })
                .collect();
            let counts = ["fired", "met", "missed", "refused"];
            let columns = ["name", "queue", "kind", "when", "next", "last"];
            let columns: Vec<&str> = columns.into_iter().chain(counts).chain(["paused", "error"]).collect();
            show(out, &columns, &counts, &rows)
        }
        TasksVerb::Workers => {
            let workers = workers(&client).await?;
            if json {
                return print_json(out, &json!({ "workers": workers }));
            }
            let rows: Vec<Value> = workers
                .iter()
                .map(|worker| {
                    let holds = items(worker, "holds").iter().map(|held| text(&held["queue"]));
                    let (count, queues) = (items(worker, "holds").len(), holds.collect::<Vec<_>>());
                    let queues: std::collections::BTreeSet<&String> = queues.iter().collect();
                    let of = queues.into_iter().cloned().collect::<Vec<_>>().join(",");
                    let mut row = json!({ "holds": count, "of": of });
                    for name in ["worker", "version", "slots", "quiet", "beat", "claimed"] {
                        row[name] = worker[name].clone();
                    }
                    row
                })
                .collect();
            let columns = ["worker", "version", "slots", "quiet", "beat", "claimed", "holds", "of"];
            show(out, &columns, &["slots", "holds"], &rows)
        }
    }
}

/// All workers, a part at a time.
async fn workers(client: &Client) -> Result<Vec<Value>, VerbError> {
    let (mut all, mut path) = (Vec::new(), "/workers?limit=1000".to_owned());
    for _ in 0..PARTS_MAX {
        let answer = client.get(&path).await?;
        all.extend_from_slice(items(&answer, "workers"));
        let Some(after) = answer["after"].as_str() else { break };
        path = form_urlencoded::Serializer::new("/workers?limit=1000".to_owned())
            .append_pair("after", after)
            .finish();
    }
    Ok(all)
}

fn items<'a>(answer: &'a Value, list: &str) -> &'a [Value] {
    answer[list].as_array().map_or(&[], Vec::as_slice)
}

fn show(
    out: &mut (dyn Write + Send),
    columns: &[&str],
    numbers: &[&str],
    items: &[Value],
) -> Result<(), VerbError> {
    let row = |item: &Value| columns.iter().map(|column| cell(&text(&item[*column]))).collect();
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    table::write(out, columns, numbers, &rows)?;
    Ok(())
}

/// What a client or a worker wrote, as a terminal may be given it: what would steer it is shown as what it is.
fn cell(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(CELL_CHARS_MAX)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_steers_no_terminal_and_is_cut() {
        assert_eq!(cell("no such\nfile \u{1b}[2J"), "no such\u{fffd}file \u{fffd}[2J");
        assert_eq!(cell(&"ü".repeat(60)), "ü".repeat(60));
        assert_eq!(cell(&"ü".repeat(61)), "ü".repeat(60) + "…");
    }
}
