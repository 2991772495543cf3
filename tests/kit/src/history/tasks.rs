//! Whether what workers saw of a queue was linearizable: tasks are put, claimed and ended one after the other, each
//! between its call and its return, and each ends once.
//!
//! A fence rises with each claim over the whole cluster, so fences are the order of the claims. A task was put before
//! it was claimed for the first time, and an end that counted has its place between its own claim and the next one of
//! its task. So a history was linearizable just where no task was claimed after the end that closed it, and what was
//! called after another operation had returned is not before it in that order (see `order`). What became of the tasks
//! in the end shows whether one was lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display};

use super::Contradiction;
use super::order::{self, Placed};
use super::recorder::Operation;

#[cfg(test)]
mod tests;

/// A task as a claim gave it. Its payload is a value that no other task has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub id: String,
    pub value: u64,
    pub fence: u64,
}

/// How a worker ends what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Complete,
    /// It is tried again.
    Fail,
    Release,
}

/// What a client did to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The id is what the answer said; none where there was no answer.
    Put {
        value: u64,
        id: Option<String>,
    },
    Claim {
        given: Vec<Given>,
    },
    /// Whether it counted; none where there was no answer.
    End {
        id: String,
        fence: u64,
        how: How,
        counted: Option<bool>,
    },
}

impl Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "completed",
            Self::Fail => "failed",
            Self::Release => "released",
        })
    }
}

impl Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { value, id: Some(id) } => write!(f, "put {value} as {id}"),
            Self::Put { value, id: None } => write!(f, "put {value}"),
            Self::Claim { given } if given.is_empty() => f.write_str("claimed nothing"),
            Self::Claim { given } => {
                f.write_str("claimed")?;
                given.iter().try_for_each(|one| write!(f, " {} ({}, fence {})", one.value, one.id, one.fence))
            }
            Self::End { id, fence, how, counted } => {
                let came = match counted {
                    Some(true) => "it counted",
                    Some(false) => "it did not count",
                    None => "no answer",
                };
                write!(f, "{how} {id} by fence {fence}: {came}")
            }
        }
    }
}

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    Done,
    /// It was lost with so many workers, or failed so often, that it is given up.
    Dead,
    /// Nobody knows of it, or it has not ended.
    Lost,
}

type Op = Operation<Act>;

/// What is known of one task.
#[derive(Default)]
struct Task<'a> {
    put: Option<&'a Op>,
    claims: BTreeMap<u64, &'a Op>,
    ends: Vec<(u64, How, Option<bool>, &'a Op)>,
}

/// Judges a whole history, at whose end `became` says of each task what came of it; which operations contradict each
/// other, where some do.
pub fn check(history: &[Op], became: &HashMap<String, Became>) -> Result<(), Contradiction> {
    let tasks = tasks(history)?;
    for (id, task) in &tasks {
        ended_once(id, task)?;
        not_lost(id, task, became.get(*id).copied())?;
    }

    let (mut placed, mut operations) = (Vec::new(), Vec::new());
    for operation in history {
        if let Some((lowest, highest)) = place(&operation.did, &tasks) {
            let (called, returned) = (operation.called.event, operation.end());
            placed.push(Placed { called, returned, lowest, highest });
            operations.push(operation);
        }
    }
    match order::contradiction(&placed) {
        Some((one, other)) => {
            let what = "the second began after the first had ended, and comes before it by their fences";
            Err(Contradiction::new(what, &[operations[one], operations[other]]))
        }
        None => Ok(()),
    }
}

fn tasks(history: &[Op]) -> Result<BTreeMap<&str, Task<'_>>, Contradiction> {
    let mut tasks: BTreeMap<&str, Task> = BTreeMap::new();
    let (mut ids, mut fences) = (HashMap::new(), HashMap::new());
    let mut values = BTreeSet::new();
    for operation in history {
        if let Act::Put { value, id } = &operation.did {
            assert!(values.insert(value), "{value} was put twice: a history needs a value for each put");
            if let Some(id) = id {
                ids.insert(*value, (id, operation));
                tasks.entry(id).or_default().put = Some(operation);
            }
        }
    }
    for operation in history {
        match &operation.did {
            Act::Put { .. } => {}
            Act::Claim { given } => {
                for Given { id, value, fence } in given {
                    if !values.contains(value) {
                        return Err(Contradiction::new(format!("nobody put {value}"), &[operation]));
                    }
                    let (known, other) = *ids.entry(*value).or_insert((id, operation));
                    if known != id {
                        let what = format!("{value} was put once, and is {known} and {id}");
                        return Err(Contradiction::new(what, &[other, operation]));
                    }
                    if let Some(other) = fences.insert(*fence, operation) {
                        let what = format!("fence {fence} was given twice");
                        return Err(Contradiction::new(what, &[other, operation]));
                    }
                    tasks.entry(id).or_default().claims.insert(*fence, operation);
                }
            }
            Act::End { id, fence, how, counted } => {
                tasks.entry(id).or_default().ends.push((*fence, *how, *counted, operation));
            }
        }
    }
    Ok(tasks)
}

/// The end that closed it is the last that happened to it.
fn ended_once(id: &str, task: &Task) -> Result<(), Contradiction> {
    let mut closed: Option<(u64, &Op)> = None;
    for (fence, how, counted, operation) in &task.ends {
        if (*how, *counted) != (How::Complete, Some(true)) {
            continue;
        }
        if let Some((other, before)) = closed
            && other != *fence
        {
            return Err(Contradiction::new(format!("{id} was completed twice"), &[before, operation]));
        }
        closed = Some((*fence, operation));
    }
    let Some((fence, operation)) = closed else { return Ok(()) };
    match task.claims.range(fence + 1..).next() {
        Some((_, claim)) => {
            Err(Contradiction::new(format!("{id} was claimed after it had ended"), &[operation, claim]))
        }
        None => Ok(()),
    }
}

/// What was acknowledged, or seen by a worker, came to an end, which somebody brought about.
fn not_lost(id: &str, task: &Task, became: Option<Became>) -> Result<(), Contradiction> {
    let Some(seen) = task.put.or(task.claims.values().next().copied()) else { return Ok(()) };
    let completes = || task.ends.iter().filter(|(_, how, ..)| *how == How::Complete);
    match became.unwrap_or(Became::Lost) {
        Became::Lost => Err(Contradiction::new(format!("{id} was lost"), &[seen])),
        Became::Done if completes().all(|(_, _, counted, _)| *counted == Some(false)) => {
            Err(Contradiction::new(format!("{id} is done, and nobody completed it"), &[seen]))
        }
        Became::Dead if completes().any(|(_, _, counted, _)| *counted == Some(true)) => {
            Err(Contradiction::new(format!("{id} was completed, and is given up"), &[seen]))
        }
        Became::Done | Became::Dead => Ok(()),
    }
}

/// From where to where in the order of fences it may be: a claim at twice its fence, what is between two claims right
/// after the one and right before the other. None of what says nothing of the order.
fn place(did: &Act, tasks: &BTreeMap<&str, Task>) -> Option<(u64, u64)> {
    match did {
        Act::Put { id, .. } => {
            let claims = &tasks.get(id.as_deref()?)?.claims;
            Some((0, claims.keys().next().map_or(u64::MAX, |first| 2 * first - 1)))
        }
        // One command, whose fences follow each other.
        Act::Claim { given } => given.first().map(|one| (2 * one.fence, 2 * one.fence)),
        Act::End { id, fence, counted: Some(true), .. } => {
            let next = tasks.get(id.as_str())?.claims.range(fence + 1..).next();
            Some((2 * fence + 1, next.map_or(u64::MAX, |(next, _)| 2 * next - 1)))
        }
        Act::End { .. } => None,
    }
}
