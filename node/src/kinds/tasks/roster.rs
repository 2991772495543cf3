//! Workers as operators see them: what the state knows of each, with what the leader has heard of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use skep_state::kinds::tasks::{HeldView, Part, WorkerView};

use super::shown::time;
use crate::service::tasks::HeardWorker;

/// A part of the list.
#[derive(Debug, Serialize)]
pub(super) struct WorkersShown {
    workers: Vec<WorkerShown>,
    after: Option<String>,
}

/// A worker, and what it holds.
#[derive(Debug, Serialize)]
struct WorkerShown {
    worker: String,
    /// When it last claimed; one that is new may not have yet.
    claimed: Option<String>,
    /// When it was last heard of, where it was within a lease's length.
    beat: Option<String>,
    slots: Option<u32>,
    version: Option<String>,
    /// Whether it claims nothing, or is to.
    quiet: Option<bool>,
    holds: Vec<HeldShown>,
}

#[derive(Debug, Serialize)]
struct HeldShown {
    id: String,
    fence: u64,
    queue: String,
    kind: String,
    since: String,
}

/// Either part is of workers after the same name, the first of them, and at most `limit`.
pub(super) fn of(
    part: Part<WorkerView, Arc<str>>,
    mut heard: Vec<HeardWorker>,
    limit: usize,
    now_ms: u64,
) -> WorkersShown {
    // Behind the end of either there may be more of that one: what lies beyond is of the next part.
    let heard_end = (heard.len() >= limit).then(|| heard.last().map(|last| last.worker.clone())).flatten();
    let end = [part.after.as_deref(), heard_end.as_deref()].into_iter().flatten().min().map(str::to_owned);
    let is_within = |name: &str| end.as_deref().is_none_or(|end| name <= end);
    heard.retain(|heard| is_within(&heard.worker));
    let known = part.found.iter().filter(|view| is_within(&view.name)).map(WorkerShown::of);
    let mut all: BTreeMap<String, WorkerShown> =
        known.map(|worker| (worker.worker.clone(), worker)).collect();
    for HeardWorker { worker, ago_ms, slots, version, quiet } in heard {
        let shown = all.entry(worker).or_insert_with_key(|name| WorkerShown::new(name));
        shown.beat = Some(time(now_ms.saturating_sub(ago_ms)));
        shown.slots = (slots > 0).then_some(slots);
        shown.version = (!version.is_empty()).then_some(version);
        shown.quiet = quiet;
    }
    let has_more = end.is_some() || all.len() > limit;
    let workers: Vec<WorkerShown> = all.into_values().take(limit).collect();
    let after = workers.last().filter(|_| has_more).map(|last| last.worker.clone());
    WorkersShown { workers, after }
}

impl WorkerShown {
    fn new(name: &str) -> Self {
        let worker = name.to_owned();
        Self { worker, claimed: None, beat: None, slots: None, version: None, quiet: None, holds: Vec::new() }
    }

    fn of(view: &WorkerView) -> Self {
        let held = |held: &HeldView| HeldShown {
            id: held.lease.id.to_string(),
            fence: held.lease.fence,
            queue: held.queue.to_string(),
            kind: held.kind.clone(),
            since: time(held.since_ms),
        };
        let claimed = Some(time(view.claimed_ms));
        Self { claimed, holds: view.holds.iter().map(held).collect(), ..Self::new(&view.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(names: &[&str], after: Option<&str>) -> Part<WorkerView, Arc<str>> {
        let view = |name: &&str| WorkerView { name: (**name).into(), claimed_ms: 1_000, holds: Vec::new() };
        Part { found: names.iter().map(view).collect(), after: after.map(Into::into) }
    }

    fn heard(names: &[&str]) -> Vec<HeardWorker> {
        let heard = |name: &&str| HeardWorker {
            worker: (**name).into(),
            ago_ms: 500,
            slots: 8,
            version: "1.2.3".into(),
            quiet: Some(true),
        };
        names.iter().map(heard).collect()
    }

    /// The workers of each part, with whether each is known and was heard of.
    fn all(known: &[&str], told: &[&str], limit: usize) -> Vec<Vec<(String, bool, bool)>> {
        let (mut parts, mut after) = (Vec::new(), String::new());
        loop {
            let rest: Vec<&str> = known.iter().copied().filter(|name| **name > *after).collect();
            let first: Vec<&str> = rest.iter().copied().take(limit).collect();
            let goes_on = first.last().copied().filter(|_| rest.len() > limit);
            let told: Vec<&str> = told.iter().copied().filter(|name| **name > *after).take(limit).collect();
            let shown = of(part(&first, goes_on), heard(&told), limit, 10_000);
            let seen = shown.workers.iter();
            parts.push(seen.map(|it| (it.worker.clone(), it.claimed.is_some(), it.beat.is_some())).collect());
            match shown.after {
                Some(next) => after = next,
                None => return parts,
            }
        }
    }

    #[test]
    fn each_worker_is_told_once_in_parts_of_whatever_length() {
        let (known, told) = (["a", "c", "d", "f", "x"], ["b", "c", "e", "x", "y"]);
        let whole: Vec<_> = ["a", "b", "c", "d", "e", "f", "x", "y"]
            .map(|name| (name.to_owned(), known.contains(&name), told.contains(&name)))
            .to_vec();
        for limit in 1..10 {
            let parts = all(&known, &told, limit);
            assert!(parts.iter().all(|part| part.len() <= limit), "{limit}: {parts:?}");
            assert_eq!(parts.concat(), whole, "{limit}");
        }
        assert_eq!(
            all(&["a", "b"], &[], 2),
            [[("a".to_owned(), true, false), ("b".to_owned(), true, false)]]
        );
    }

    #[test]
    fn what_a_worker_says_of_itself_is_shown() {
        let shown = serde_json::to_value(of(part(&["a"], None), heard(&["a"]), 9, 10_000)).unwrap();
        let worker = &shown["workers"][0];
        assert_eq!(worker["beat"], "1970-01-01T00:00:09.500Z");
        assert_eq!((&worker["slots"], &worker["version"]), (&8.into(), &"1.2.3".into()), "{worker}");
    }
}
