//! What most tasks that wait in a queue have nothing of: it takes room only once there is something.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use crate::heap::Blob;
use crate::task::Member;

/// What a task has once something has come of it, or it waits for a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    /// Of the last claim; 0 before the first.
    pub fence: u64,
    /// When something is to happen to it; 0 where it waits for no time.
    pub timer_ms: u64,
    /// Who claimed it last.
    pub worker: Option<Arc<str>>,
    /// The result of one that is done, else the last error.
    pub outcome: Blob,
    pub progress: Bytes,
    /// Where it is in the batch that it is of.
    pub member: Option<Member>,
}

impl Rest {
    pub(super) const fn none() -> Rest {
        Rest {
            fence: 0,
            timer_ms: 0,
            worker: None,
            outcome: Blob::EMPTY,
            progress: Bytes::new(),
            member: None,
        }
    }
}

static NONE: Rest = Rest::none();

/// The same, where there is something.
#[derive(Debug, Clone, Default)]
pub(super) struct Rare(Option<Box<Rest>>);

impl Rare {
    /// Whether there is nothing, room or not.
    pub fn is_none(&self) -> bool {
        **self == NONE
    }
}

impl From<Rest> for Rare {
    fn from(rest: Rest) -> Self {
        Rare((rest != NONE).then(|| Box::new(rest)))
    }
}

impl Deref for Rare {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut Rest {
        self.0.get_or_insert_with(|| Box::new(Rest::none()))
    }
}

impl PartialEq for Rare {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
