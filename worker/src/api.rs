//! The words of the nodes' worker routes (docs/tasks.md), as far as a worker needs them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Longest id of a task.
const ID_BYTES_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, Serialize)]
pub struct Claim<'a> {
    pub worker: &'a str,
    pub number: u64,
    pub queues: &'a [String],
    pub max: usize,
    pub wait: &'a str,
    /// Fences of what is here.
    pub holds: Vec<u64>,
}

/// What was given.
#[derive(Debug, Deserialize)]
pub struct Claimed {
    pub tasks: Vec<Task>,
}

/// A task that is to be done here.
#[derive(Debug, Deserialize)]
pub struct Task {
    pub id: String,
    pub fence: u64,
    pub queue: String,
    pub kind: String,
    /// Byte for byte as it was put.
    pub payload: Box<RawValue>,
    #[serde(rename = "try")]
    pub try_number: u32,
    #[serde(default)]
    pub lost: u32,
    /// Seconds that this try may take; none: any time.
    #[serde(default)]
    pub timeout: Option<f64>,
}

impl Task {
    /// Whether its id is a word that may stand in a path.
    pub fn has_an_id(&self) -> bool {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=ID_BYTES_MAX).contains(&self.id.len()) && self.id.bytes().all(letter)
    }

    /// How long a try may take, where there is a limit.
    pub fn limit(&self) -> Option<Duration> {
        let seconds = self.timeout.filter(|seconds| *seconds > 0.0)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[derive(Debug, Serialize)]
pub struct Beat {
    pub holds: Vec<u64>,
    /// The number of the newest stream; 0 where there was none.
    pub stream: u64,
    /// What operators are shown of the worker.
    pub slots: usize,
    pub version: &'static str,
    /// Whether it claims nothing, as an operator wanted.
    pub quiet: bool,
}

#[derive(Debug, Deserialize)]
pub struct Beaten {
    /// Fences that are this worker's no more.
    pub lost: Vec<u64>,
    /// What an operator wants of it: `quiet`, to claim nothing, or `run`.
    #[serde(default)]
    pub say: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Complete<'a> {
    pub fence: u64,
    pub result: &'a RawValue,
    /// Put with the end, or neither is done.
    #[serde(skip_serializing_if = "<[Follow]>::is_empty")]
    pub follow: &'a [Follow],
}

/// A task that goes on from one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Follow {
    pub queue: String,
    pub key: String,
    pub payload: serde_json::Value,
}

#[derive(Debug, Serialize)]
pub struct Fail<'a> {
    pub fence: u64,
    pub error: &'a str,
    #[serde(rename = "final")]
    pub is_final: bool,
}

#[derive(Debug, Serialize)]
pub struct Release {
    pub fence: u64,
}

#[derive(Debug, Serialize)]
pub struct Snooze {
    pub fence: u64,
    /// Seconds.
    pub delay: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_taken_as_it_was_put() {
        let text = r#"{"tasks":[{"id":"a","fence":7,"queue":"q","kind":"k","payload":{ "n" : 1.0 },"try":2,"new":1}]}"#;
        let claimed: Claimed = serde_json::from_str(text).unwrap();
        let task = &claimed.tasks[0];
        assert_eq!(task.payload.get(), r#"{ "n" : 1.0 }"#);
        assert_eq!((task.fence, task.try_number, task.lost, task.timeout), (7, 2, 0, None));
        for (said, limit) in
            [("null", None), ("0", None), ("-1", None), ("1e300", None), ("1.5", Some(1_500))]
        {
            let text = text.replace("\"new\":1", &format!("\"timeout\":{said}"));
            let claimed: Claimed = serde_json::from_str(&text).unwrap();
            assert_eq!(claimed.tasks[0].limit(), limit.map(Duration::from_millis), "{said}");
        }
    }
}
