//! What a run of commands writes to, and what it needs of the disk, of every kind of records.

use skep_state::command::Op;

use crate::{claims, segments};

/// What a run may write to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    pub messages: bool,
    pub claims: bool,
    pub tasks: bool,
    /// By the level, claims become records, and bytes of tasks go into files.
    pub level: bool,
}

impl Touched {
    pub(crate) fn note(&mut self, op: &Op) {
        self.messages |= matches!(op, Op::PutMessage { .. });
        self.claims |= matches!(op, Op::Claim { .. });
        self.tasks |= matches!(op, Op::Tasks { .. });
        self.level |= matches!(op, Op::Level { .. });
    }
}

/// What is to be looked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub messages: segments::Wanted,
    pub claims: claims::Wanted,
}

impl Wanted {
    pub(crate) fn note(&mut self, op: &Op) {
        self.messages.note(op);
        self.claims.note(op);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.claims.is_empty()
    }

    /// Whether it takes reads by the thousand: nothing for the thread that runs consensus.
    pub(crate) fn is_long(&self) -> bool {
        self.messages.is_long() || self.claims.is_long()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub messages: segments::Known,
    pub claims: claims::Known,
}
