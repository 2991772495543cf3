//! Whether a log of messages was linearizable: each put appends one, and is answered with its number.
//!
//! The numbers are the order of the puts, and an answer that shows the log up to a number has its place between
//! that put and the next. So the log was linearizable just where all agree on which message a number has, and
//! what was called after another operation had returned is not before it in that order (see `order`).

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};

use super::Contradiction;
use super::order::{self, Placed};
use super::recorder::Operation;

#[cfg(test)]
mod tests;

/// A message's number and its value, which no other message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub value: u64,
}

/// What a client did to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The number is what the answer said; none where there was no answer.
    Put { value: u64, seq: Option<u64> },
    /// The messages whose numbers are above `after`; `more` where the answer says that others follow them.
    List { after: u64, entries: Vec<Entry>, more: bool },
    /// The last message's number.
    Count { last: u64 },
    /// Whether this one message is there.
    Look { value: u64, found: bool },
}

impl Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Put { value, seq: Some(seq) } => write!(f, "put {value} as number {seq}"),
            Act::Put { value, seq: None } => write!(f, "put {value}"),
            Act::List { after, entries, more } => {
                let end = if *more { "and more" } else { "and no more" };
                match (entries.first(), entries.last()) {
                    (Some(first), Some(last)) => write!(
                        f,
                        "listed after {after}: number {} ({}) to number {} ({}), {end}",
                        first.seq, first.value, last.seq, last.value
                    ),
                    _ => write!(f, "listed after {after}: nothing, {end}"),
                }
            }
            Act::Count { last } => write!(f, "counted {last}"),
            Act::Look { value, found: true } => write!(f, "found {value}"),
            Act::Look { value, found: false } => write!(f, "did not find {value}"),
        }
    }
}

type Op = Operation<Act>;

/// Which message has which number, and who said so first.
#[derive(Default)]
struct Numbers<'a> {
    by_seq: HashMap<u64, (u64, &'a Op)>,
    by_value: HashMap<u64, (u64, &'a Op)>,
}

/// Judges a whole history; which operations contradict each other, where some do.
pub fn check(history: &[Op]) -> Result<(), Contradiction> {
    let mut values = HashSet::new();
    for operation in history {
        if let Act::Put { value, .. } = operation.did {
            assert!(values.insert(value), "{value} was put twice: a history needs a value for each put");
        }
    }
    let mut numbers = Numbers::default();
    for operation in history {
        match &operation.did {
            Act::Put { value, seq: Some(seq) } => {
                numbers.add(Entry { seq: *seq, value: *value }, operation)?
            }
            Act::List { after, entries, .. } => {
                for (expected, entry) in (after + 1..).zip(entries) {
                    if entry.seq != expected {
                        return Err(Contradiction::new(
                            format!("number {expected} is left out"),
                            &[operation],
                        ));
                    }
                    if !values.contains(&entry.value) {
                        let what = format!("nobody put {}, which has number {}", entry.value, entry.seq);
                        return Err(Contradiction::new(what, &[operation]));
                    }
                    numbers.add(*entry, operation)?;
                }
            }
            _ => {}
        }
    }

    let (mut placed, mut operations) = (Vec::new(), Vec::new());
    for operation in history {
        if let Some((lowest, highest)) = numbers.place(&operation.did) {
            let (called, returned) = (operation.called.event, operation.end());
            placed.push(Placed { called, returned, lowest, highest });
            operations.push(operation);
        }
    }
    match order::contradiction(&placed) {
        Some((one, other)) => {
            let what = "the second began after the first had ended, and knows less of the log";
            Err(Contradiction::new(what, &[operations[one], operations[other]]))
        }
        None => Ok(()),
    }
}

impl<'a> Numbers<'a> {
    fn add(&mut self, entry: Entry, by: &'a Op) -> Result<(), Contradiction> {
        let (value, other) = *self.by_seq.entry(entry.seq).or_insert((entry.value, by));
        if value != entry.value {
            let what = format!("number {} is {value} and {}", entry.seq, entry.value);
            return Err(Contradiction::new(what, &[other, by]));
        }
        let (seq, other) = *self.by_value.entry(entry.value).or_insert((entry.seq, by));
        if seq != entry.seq {
            let what = format!("{} has number {seq} and number {}", entry.value, entry.seq);
            return Err(Contradiction::new(what, &[other, by]));
        }
        Ok(())
    }

    /// From where to where in the log's order it may be: the put of a number is at twice that, what shows the
    /// log up to there and no further right after it. None of what says nothing of the order.
    fn place(&self, did: &Act) -> Option<(u64, u64)> {
        let (put, shown) = (|seq| 2 * seq, |seq| 2 * seq + 1);
        match did {
            // One with no answer has a number where it was listed.
            Act::Put { value, .. } => self.by_value.get(value).map(|(seq, _)| (put(*seq), put(*seq))),
            Act::List { after, entries, more } => {
                let end = after + entries.len() as u64;
                Some(match (more, entries.is_empty()) {
                    (true, _) => (shown(end + 1), u64::MAX),
                    (false, false) => (shown(end), shown(end)),
                    // Nothing tells that the log ends there, or before.
                    (false, true) => (0, shown(end)),
                })
            }
            Act::Count { last } => Some((shown(*last), shown(*last))),
            Act::Look { value, found } => {
                let (seq, _) = self.by_value.get(value)?;
                Some(if *found { (shown(*seq), u64::MAX) } else { (0, shown(seq - 1)) })
            }
        }
    }
}
