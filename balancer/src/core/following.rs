//! What this balancer knows of the configuration that the cluster keeps: whether any, which, and since when.
//!
//! Written by the control task, shown to operators; no core looks at it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A state of the cluster's configuration: where it stands, not what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which history the revision is of; 0 before its first document.
    pub lineage: u128,
    /// 0 where there never was a document.
    pub revision: u64,
}

/// Whose word is obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nobody's: nothing is known, and every request is answered 503.
    Nobody,
    /// Every node's that it is of a version which keeps no configuration.
    Older,
    /// That of the sealed copy: no node has said anything since the start.
    Copy,
    /// A node's.
    Node,
}

impl Word {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Older => "older nodes",
            Self::Copy => "copy",
            Self::Node => "node",
        }
    }
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub word: Word,
    /// What is in force.
    pub position: Option<Position>,
    /// What this version cannot read, where that is newer.
    pub refused: Option<Position>,
    /// When a node last said anything of it; of a copy, when that was written, as far as it can be told.
    pub heard: Option<Instant>,
    /// How old it was by then.
    pub age_then: Duration,
    /// What the copy says: what is served by a start that hears of no node.
    pub copied: Option<Position>,
    /// Whether the copy could not be written.
    pub copy_failed: bool,
}

impl Known {
    /// How long nothing was heard of it.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let heard = self.heard?;
        Some(now.saturating_duration_since(heard) + self.age_then)
    }
}

/// What is known of the cluster's configuration; nothing where a balancer does not follow one.
#[derive(Debug, Default)]
pub struct Following(Mutex<Option<Known>>);

impl Following {
    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the cluster is followed, of which nothing is known.
    pub fn begin(&self) {
        *self.lock() = Some(Known {
            word: Word::Nobody,
            position: None,
            refused: None,
            heard: None,
            age_then: Duration::ZERO,
            copied: None,
            copy_failed: false,
        });
    }

    pub fn known(&self) -> Option<Known> {
        *self.lock()
    }

    pub fn change(&self, change: impl FnOnce(&mut Known)) {
        if let Some(known) = &mut *self.lock() {
            change(known);
        }
    }

    /// A node is there, and says what the state is.
    pub fn heard(&self, now: Instant) {
        self.change(|known| (known.heard, known.age_then) = (Some(now), Duration::ZERO));
    }

    /// All nodes are of a version that keeps none. That is no word of what is in force, but where nothing is.
    pub fn heard_of_none(&self, now: Instant) {
        self.change(|known| {
            if known.word == Word::Older || known.position.is_some_and(|it| it.revision == 0) {
                (known.heard, known.age_then) = (Some(now), Duration::ZERO);
            }
        });
    }
}
