//! What workers say: claims, ends, beats.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use skep_state::task::{
    CLAIM_QUEUES_MAX, CLAIM_TASKS_MAX, ERROR_BYTES_MAX, FOLLOW_TASKS_MAX, HOLDS_MAX, NewTask,
    PAYLOAD_BYTES_MAX, PROGRESS_BYTES_MAX,
};

use super::{Span, TaskAsked, WAIT_MS_MAX, invalid, many, object, parse, queue_name, whole, worker_name};
use crate::http::problem::Problem;
use crate::service::tasks::VERSION_BYTES_MAX;

/// How long a claim waits where it says nothing of it.
const WAIT_MS: u64 = 30_000;

/// A worker's claim.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimAsked {
    pub worker: String,
    #[serde(deserialize_with = "whole::one")]
    pub number: u64,
    pub queues: Vec<String>,
    #[serde(default, deserialize_with = "whole::some")]
    pub max: Option<u32>,
    pub wait: Option<Span>,
    #[serde(default, deserialize_with = "whole::all")]
    pub holds: Vec<u64>,
}

impl ClaimAsked {
    pub(crate) fn check(&self) -> Result<(), Problem> {
        worker_name(&self.worker)?;
        self.queues.iter().try_for_each(|queue| queue_name(queue).map(drop))?;
        let wrong = [
            (
                self.number == 0,
                "number: expected 1 for a worker's first claim, then one more each".to_owned(),
            ),
            (
                !(1..=CLAIM_QUEUES_MAX).contains(&self.queues.len()),
                format!("queues: expected 1 to {CLAIM_QUEUES_MAX}"),
            ),
            (
                !(1..=CLAIM_TASKS_MAX as u32).contains(&self.max()),
                format!("max: expected 1 to {CLAIM_TASKS_MAX}"),
            ),
            (self.wait_ms() > WAIT_MS_MAX, format!("wait: expected at most {} s", WAIT_MS_MAX / 1000)),
            (self.holds.len() > HOLDS_MAX, format!("holds: expected at most {HOLDS_MAX}")),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, detail)) => Err(invalid(detail)),
            None => Ok(()),
        }
    }

    pub(crate) fn max(&self) -> u32 {
        self.max.unwrap_or(1)
    }

    pub(crate) fn wait_ms(&self) -> u64 {
        self.wait.map_or(WAIT_MS, |wait| wait.0)
    }
}

/// How a worker ends what it claimed: what belongs to another end is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndAsked<'a> {
    #[serde(deserialize_with = "whole::one")]
    pub fence: u64,
    #[serde(borrow, default)]
    pub result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<Cow<'a, str>>,
    #[serde(default, rename = "final")]
    pub is_final: bool,
    pub delay: Option<Span>,
    #[serde(borrow, default)]
    pub progress: Option<&'a RawValue>,
    #[serde(borrow, default)]
    follow: Vec<TaskAsked<'a>>,
}

impl<'a> EndAsked<'a> {
    /// What may stand beside the fence are these members alone.
    pub(crate) fn parse(body: &'a [u8], members: &[&str]) -> Result<Self, Problem> {
        let asked: EndAsked<'a> = parse(object(body)?)?;
        let given = [
            ("result", asked.result.is_some()),
            ("error", asked.error.is_some()),
            ("final", asked.is_final),
            ("delay", asked.delay.is_some()),
            ("progress", asked.progress.is_some()),
            ("follow", !asked.follow.is_empty()),
        ];
        if let Some((name, _)) = given.iter().find(|(name, is_given)| *is_given && !members.contains(name)) {
            return Err(invalid(format!("{name}: not of this request")));
        }
        let bytes = |value: Option<&RawValue>| value.map_or(0, |value| value.get().len());
        if bytes(asked.result) > PAYLOAD_BYTES_MAX {
            return Err(invalid(format!("result: expected at most {PAYLOAD_BYTES_MAX} bytes")));
        }
        if bytes(asked.progress) > PROGRESS_BYTES_MAX {
            return Err(invalid(format!("progress: expected at most {PROGRESS_BYTES_MAX} bytes")));
        }
        Ok(asked)
    }

    /// The tasks that follow.
    pub(crate) fn follow(&self) -> Result<Vec<NewTask>, Problem> {
        match self.follow.len() {
            0 => Ok(Vec::new()),
            1..=FOLLOW_TASKS_MAX => many(self.follow.clone()),
            count => Err(invalid(format!("follow: {count} tasks; expected at most {FOLLOW_TASKS_MAX}"))),
        }
    }

    /// The error, cut where it is too long: what is wrong stands mostly at its begin.
    pub(crate) fn error(&self) -> String {
        let error = self.error.as_deref().unwrap_or_default();
        let mut end = error.len().min(ERROR_BYTES_MAX);
        while !error.is_char_boundary(end) {
            end -= 1;
        }
        error[..end].to_owned()
    }
}

/// Most slots that a worker may say: an `int32`, as the document of the API has them.
const SLOTS_MAX: u32 = i32::MAX as u32;

/// A worker's word that it is there.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BeatAsked {
    #[serde(default, deserialize_with = "whole::all")]
    pub holds: Vec<u64>,
    /// The number of its newest stream.
    #[serde(default, deserialize_with = "whole::one")]
    pub stream: u64,
    /// How many tasks it does at a time.
    #[serde(default, deserialize_with = "whole::given")]
    pub slots: Option<u32>,
    #[serde(default, deserialize_with = "given")]
    pub version: Option<String>,
    /// Whether it claims nothing at present.
    #[serde(default, deserialize_with = "given")]
    pub quiet: Option<bool>,
}

/// What may be left out, and is not null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What an operator wants of a worker.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuietAsked {
    pub quiet: bool,
}

impl BeatAsked {
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let version = self.version.as_deref().unwrap_or("0");
        let wrong = [
            (self.holds.len() > HOLDS_MAX, format!("holds: expected at most {HOLDS_MAX}")),
            (
                self.slots.is_some_and(|it| !(1..=SLOTS_MAX).contains(&it)),
                format!("slots: expected 1 to {SLOTS_MAX}"),
            ),
            (
                !(1..=VERSION_BYTES_MAX).contains(&version.len())
                    || !version.bytes().all(|b| b.is_ascii_graphic()),
                format!("version: expected 1 to {VERSION_BYTES_MAX} visible ASCII characters"),
            ),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, detail)) => Err(invalid(detail)),
            None => Ok(()),
        }
    }
}
