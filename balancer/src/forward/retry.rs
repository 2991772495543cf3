//! When a request may be sent again: a pure rule over what is known of the attempt.

use crate::pools::failures::Way;
use crate::wire::request_head::BodyLength;

/// Most attempts for one request, the first included.
pub const ATTEMPTS_MAX: u32 = 5;
/// Most backends that may have executed one request: what brings down whoever gets it is sent to one
/// other, not to all of them in turn.
const EXECUTIONS_MAX: u32 = 2;
/// Most bytes of a request's body that are kept for another attempt.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// What a request adds to the budget for retries.
const BUDGET_SHARE: f64 = 0.2;
/// Retries that may be saved up for one bad moment: a node's death meets all that it had in flight.
const BUDGET_MAX: f64 = 500.0;

/// How an attempt failed before anything of its answer was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// No connection, for want of a descriptor or a port of our own: nothing was sent, and it is no
    /// backend's fault.
    OwnLack,
    /// The answer says that the request was certainly not executed.
    Unprocessed,
    /// The connection ended before any answer.
    Reset,
    /// The backend was found dead or hung while it was waited for.
    Silent,
    /// The answer cannot be passed on.
    BadAnswer,
    /// The time for the request is over.
    Deadline,
}

/// What the rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Doing it twice is the same as doing it once: by its method, by its content, or by its
    /// `Idempotency-Key`.
    pub repeatable: bool,
    /// All of the body that was sent is still there.
    pub body_kept: bool,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Those of them that may have executed it.
    pub executions: u32,
    /// An interim answer was passed on.
    pub told: bool,
    pub time_left: bool,
}

/// Whether a body of that length may be kept for another attempt.
pub fn may_keep(length: BodyLength) -> bool {
    !matches!(length, BodyLength::Length(bytes) if bytes > KEPT_BYTES_MAX as u64)
}

/// Whether to send the request again. The budget is asked last, and charged where this says yes.
pub fn may_retry(failure: Failure, attempt: Attempt, budget: &mut Budget) -> bool {
    let allowed = match failure {
        Failure::Connect | Failure::OwnLack | Failure::Unprocessed => true,
        Failure::Reset | Failure::Silent => attempt.repeatable && attempt.executions < EXECUTIONS_MAX,
        Failure::BadAnswer | Failure::Deadline => false,
    };
    allowed
        && !attempt.told
        && attempt.body_kept
        && attempt.time_left
        && attempt.attempts < ATTEMPTS_MAX
        && budget.take()
}

/// Retries are a share of traffic, so that they cannot multiply an overload.
#[derive(Debug)]
pub struct Budget {
    tokens: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { tokens: BUDGET_MAX }
    }
}

impl Failure {
    /// Whether the backend certainly did nothing.
    pub fn is_unprocessed(self) -> bool {
        matches!(self, Self::Connect | Self::OwnLack | Self::Unprocessed)
    }

    /// What it is to its backend; None where it is none of its own.
    pub fn of_backend(self) -> Option<Way> {
        match self {
            Self::OwnLack => None,
            Self::Connect => Some(Way::Connect),
            Self::Unprocessed => Some(Way::Declined),
            Self::Reset => Some(Way::Reset),
            Self::Silent => Some(Way::Silent),
            Self::BadAnswer => Some(Way::Malformed),
            Self::Deadline => Some(Way::Late),
        }
    }
}

impl Budget {
    /// A request came.
    pub fn earn(&mut self) {
        self.tokens = (self.tokens + BUDGET_SHARE).min(BUDGET_MAX);
    }

    fn take(&mut self) -> bool {
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Attempt = Attempt {
        repeatable: true,
        body_kept: true,
        attempts: 1,
        executions: 0,
        told: false,
        time_left: true,
    };

    #[test]
    fn the_rule_by_failure_and_request() {
        use Failure::*;
        let once = Attempt { repeatable: false, ..FRESH };
        let (first, second) =
            (Attempt { executions: 1, ..FRESH }, Attempt { attempts: 2, executions: 2, ..FRESH });
        let told = Attempt { told: true, ..FRESH };
        for (failure, attempt, expected) in [
            (Connect, FRESH, true),
            (Connect, once, true),
            (OwnLack, once, true),
            (Unprocessed, FRESH, true),
            (Unprocessed, once, true),
            (Reset, first, true),
            (Reset, second, false),
            (Reset, once, false),
            (Silent, first, true),
            (Silent, second, false),
            (Silent, once, false),
            (Connect, first, true),
            (Connect, told, false),
            (Unprocessed, told, false),
            (Reset, told, false),
            (BadAnswer, FRESH, false),
            (Deadline, FRESH, false),
            (Connect, Attempt { body_kept: false, ..FRESH }, false),
            (Reset, Attempt { body_kept: false, ..FRESH }, false),
            (Connect, Attempt { time_left: false, ..FRESH }, false),
            (Connect, Attempt { attempts: ATTEMPTS_MAX, ..FRESH }, false),
        ] {
            assert_eq!(
                may_retry(failure, attempt, &mut Budget::default()),
                expected,
                "{failure:?} {attempt:?}"
            );
        }
    }

    #[test]
    fn retries_are_a_fifth_of_traffic_once_the_savings_are_spent() {
        let mut budget = Budget::default();
        while may_retry(Failure::Connect, FRESH, &mut budget) {}
        let mut retried = 0;
        for _ in 0..1000 {
            budget.earn();
            retried += u32::from(may_retry(Failure::Connect, FRESH, &mut budget));
        }
        assert!((195..=201).contains(&retried), "{retried}");
    }
}
