//! A request of which something is not known yet: whether its password is right, what a service says of it that is asked.
//! It waits for that, and is judged once more, with what came of it.

use std::rc::Rc;
use std::time::Duration;

use skep_console::ProblemKind;
use skep_console::problem::RETRY_AFTER_S;
use skep_gateway::auth::Consumers;
use skep_gateway::auth::password::Check;
use skep_gateway::limit::seconds;

use super::asking::{Asking, Said};
use super::limited::Passed;
use super::{Answer, Gateway};
use crate::core::passwords::{Outcome, Turned, WRONG, Waiting};
use crate::core::routes::Via;
use crate::core::timer::Timer;

/// How long a request waits for a look at its password.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What is waited for.
#[derive(Debug)]
enum What {
    Password(Waiting),
    Answer(Box<Asking>),
}

/// The same, of a request.
#[derive(Debug)]
pub struct Wait {
    what: What,
    /// What came of waits before.
    before: Box<Known>,
    /// The limits by address that let the request in: it is not counted twice.
    passed: Option<Passed>,
    /// The path and query as the log shows them, where those that came have a key in them: its client may leave meanwhile.
    shown: Option<Vec<u8>>,
}

/// What is known of a request that has waited.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Of its password.
    pub(super) outcome: Option<Outcome>,
    /// What a service said that was asked.
    pub(super) said: Option<Rc<Said>>,
}

/// A request that has waited.
#[derive(Debug)]
pub struct Resumed {
    pub(super) known: Known,
    pub(super) passed: Option<Passed>,
}

impl Wait {
    /// For what a service says that is asked.
    pub(super) fn for_answer(asking: Asking, before: Known, passed: Option<Passed>) -> Self {
        Self { what: What::Answer(asking.into()), before: before.into(), passed, shown: None }
    }

    pub(super) fn showing(self, target: Option<Vec<u8>>) -> Self {
        Self { shown: target, ..self }
    }

    /// The path and query as the log shows them, where those that came have a key in them.
    pub fn shown(&self) -> Option<&[u8]> {
        self.shown.as_deref()
    }

    /// Ends in time, whatever comes. To drop it is to leave.
    pub async fn done(self, timer: &Timer) -> Resumed {
        let Self { what, before, passed, .. } = self;
        let known = match what {
            What::Password(mut waiting) => {
                timer.arm(WAIT_MAX);
                let right = timer.limit(waiting.answer()).await.unwrap_or_default();
                timer.disarm();
                Known { outcome: Some(waiting.outcome(right)), ..*before }
            }
            // Apart, for it is large, and few connections wait for it.
            What::Answer(asking) => Known { said: Some(Box::pin(asking.done()).await.into()), ..*before },
        };
        Resumed { known, passed }
    }
}

impl Gateway {
    /// Has a password looked at; or says why not.
    pub(super) fn look(
        &self,
        consumers: &Consumers,
        check: Check,
        client: std::net::IpAddr,
        (before, passed): (Known, Option<Passed>),
        via: Via,
    ) -> Result<Wait, Box<Answer>> {
        let looked = self.worker.shared.passwords.look(check, |user| consumers.decoy(user), client);
        match looked {
            Ok(waiting) => {
                Ok(Wait { what: What::Password(waiting), before: before.into(), passed, shown: None })
            }
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
