//! A request whose password nobody has looked at yet: it waits for that, and is judged once more, with what came of it.

use std::time::Duration;

use skep_console::ProblemKind;
use skep_console::problem::RETRY_AFTER_S;
use skep_gateway::auth::Consumers;
use skep_gateway::auth::password::Check;
use skep_gateway::limit::seconds;

use super::limited::Passed;
use super::{Answer, Gateway};
use crate::core::passwords::{Outcome, Turned, WRONG, Waiting};
use crate::core::routes::Via;
use crate::core::timer::Timer;

/// How long a request waits for that.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What is waited for.
#[derive(Debug)]
pub struct Wait {
    waiting: Waiting,
    /// The limits by address that let the request in: it is not counted twice.
    passed: Option<Passed>,
    /// The path and query as the log shows them, where those that came have a key in them: its client may leave meanwhile.
    shown: Option<Vec<u8>>,
}

/// A request that has waited.
#[derive(Debug)]
pub struct Resumed {
    pub(super) outcome: Outcome,
    pub(super) passed: Option<Passed>,
}

impl Wait {
    pub(super) fn showing(self, target: Option<Vec<u8>>) -> Self {
        Self { shown: target, ..self }
    }

    /// The path and query as the log shows them, where those that came have a key in them.
    pub fn shown(&self) -> Option<&[u8]> {
        self.shown.as_deref()
    }

    /// Ends in time, whatever comes. To drop it is to leave.
    pub async fn done(mut self, timer: &Timer) -> Resumed {
        timer.arm(WAIT_MAX);
        let right = timer.limit(self.waiting.answer()).await.unwrap_or_default();
        timer.disarm();
        Resumed { outcome: self.waiting.outcome(right), passed: self.passed }
    }
}

impl Gateway {
    /// Has a password looked at; or says why not.
    pub(super) fn look(
        &self,
        consumers: &Consumers,
        check: Check,
        client: std::net::IpAddr,
        passed: Option<Passed>,
        via: Via,
    ) -> Result<Wait, Box<Answer>> {
        let looked = self.worker.shared.passwords.look(check, |user| consumers.decoy(user), client);
        match looked {
            Ok(waiting) => Ok(Wait { waiting, passed, shown: None }),
            Err(Turned::Full) => Err(full(via).into()),
            Err(Turned::TooOften(wait)) => {
                let detail = format!(
                    "too many passwords from this address are wrong: after {} it is {} per {}",
                    WRONG.burst, WRONG.rate, WRONG.per
                );
                let kind = ProblemKind::RateLimited;
                let problem = Answer::problem(kind, "Too Many Requests", &detail, Some(via));
                let more = vec![("retry-after", seconds(wait).max(1).to_string())];
                Err(Answer { more, ..problem }.into())
            }
        }
    }
}

/// Nobody came to look at it in time, or there is no room to wait. Nothing was done of the request.
pub(super) fn full(via: Via) -> Answer {
    let detail = "too many passwords are being looked at";
    let problem = Answer::problem(ProblemKind::Overloaded, "Service Unavailable", detail, Some(via));
    let more = vec![("retry-after", RETRY_AFTER_S.to_string()), ("skep-unprocessed", "1".to_owned())];
    Answer { more, ..problem }
}
