//! Who is waited for, and how long: one table. Pure.
//!
//! Those who are polled say who keeps them waiting; nothing is guessed from what has come so far. A limit
//! begins anew with each byte and each time that somebody else is waited for. What a slow client may take in
//! all is bounded by its [`Pace`].

use std::time::{Duration, Instant};

use crate::core::settings::Settings;
use crate::forward::problem::Problem;
use crate::forward::retry::Failure;

/// How long a body may stand still while other requests wait for its place.
const STILL_MAX: Duration = Duration::from_secs(2);
/// And how long it may bring less, since it got the place, than the least rate.
const BEHIND_MAX: Duration = Duration::from_millis(500);
/// How long a body must have come, and not too slowly, to be passed on before it is whole.
const MOVING_MIN: Duration = Duration::from_secs(1);

/// Who is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// For its body, or to take its answer.
    Client,
    /// To take the body, or for its answer.
    Backend,
    /// For the rest of a body, and for the rest of an answer that has begun.
    Both,
}

impl Waiting {
    /// What a request waits for and what its answer does, where something does.
    pub fn of(request: Option<Self>, answer: Option<Self>) -> Self {
        match (request, answer) {
            (Some(one), Some(other)) if one != other => Self::Both,
            (_, Some(waiting)) | (Some(waiting), None) => waiting,
            (None, None) => Self::Backend,
        }
    }
}

/// How far an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The answer has not begun.
    Asking,
    Answering,
}

/// What becomes of an exchange whose limit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The client is told that it was too slow.
    Client(Problem),
    /// The backend has failed.
    Backend(Failure),
    /// The answer ends in the middle.
    Cut,
}

/// The times that the table is made of.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A body makes progress.
    pub body: Duration,
    /// A backend goes on with its answer.
    pub stream: Duration,
    /// A backend that has the request begins its answer.
    pub answer: Duration,
}

impl Limits {
    /// How long that may be waited for. `pressed`: others wait for the place that this request has.
    pub fn limit(&self, stage: Stage, waiting: Waiting, pressed: bool) -> Duration {
        match (stage, waiting) {
            (Stage::Asking, Waiting::Client) if pressed => STILL_MAX.min(self.body),
            (Stage::Asking, Waiting::Client) => self.body,
            (Stage::Asking, Waiting::Backend | Waiting::Both) => self.answer,
            (Stage::Answering, Waiting::Client) => self.body,
            (Stage::Answering, Waiting::Backend | Waiting::Both) => self.stream,
        }
    }
}

/// What it comes to.
pub fn over(stage: Stage, waiting: Waiting) -> Over {
    match (stage, waiting) {
        (Stage::Asking, Waiting::Client) => Over::Client(Problem::RequestTimeout),
        (Stage::Asking, Waiting::Backend | Waiting::Both) => Over::Backend(Failure::Deadline),
        (Stage::Answering, _) => Over::Cut,
    }
}

/// How slow a body may come: a grace, and a second for so many bytes; and how long it may take whatever it
/// brings.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    begun: Instant,
    grace: Duration,
    rate_min: u64,
    whole: Duration,
}

impl Pace {
    pub fn begin(settings: &Settings, begun: Instant) -> Self {
        let whole = settings.upload_timeout;
        Self { begun, grace: settings.request_timeout, rate_min: settings.rate_min.max(1), whole }
    }

    /// That of one whose place others wait for, and that has had it since then.
    pub fn pressed(self, since: Instant) -> Self {
        Self { begun: since, grace: BEHIND_MAX.min(self.grace), ..self }
    }

    /// The client was asked for the body only now.
    pub fn begin_again(&mut self, now: Instant) {
        self.begun = now;
    }

    /// Time in which it was not the client that kept it.
    pub fn forgive(&mut self, time: Duration) {
        self.grace = self.grace.saturating_add(time);
    }

    /// What is left of the most that it may take.
    pub fn whole_left(&self, now: Instant) -> Duration {
        self.whole.saturating_sub(now.saturating_duration_since(self.begun))
    }

    /// What is left of its time, when it has brought so many bytes.
    pub fn left(&self, bytes: u64, now: Instant) -> Duration {
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / self.rate_min);
        let all = self.grace.saturating_add(earned).min(self.whole);
        all.saturating_sub(now.saturating_duration_since(self.begun))
    }

    /// What an open body leaves to an answer that has stood still since then.
    pub fn left_beside(&self, still_since: Instant, now: Instant) -> Duration {
        self.whole.saturating_sub(now.saturating_duration_since(still_since))
    }

    /// Whether it has moved for long enough to be passed on as it comes.
    pub fn moves(&self, bytes: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.begun);
        let due = u128::from(self.rate_min) * elapsed.as_millis() / 1000;
        elapsed >= MOVING_MIN && u128::from(bytes) >= due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn the_table_of_limits() {
        use Stage::*;
        use Waiting::*;
        let limits = Limits { body: S(20), stream: S(300), answer: S(15) };
        let too_slow = Over::Client(Problem::RequestTimeout);
        let no_answer = Over::Backend(Failure::Deadline);
        for (stage, waiting, pressed, limit, comes_to) in [
            (Asking, Client, false, S(20), too_slow),
            (Asking, Client, true, STILL_MAX, too_slow),
            (Asking, Backend, false, S(15), no_answer),
            (Asking, Backend, true, S(15), no_answer),
            (Answering, Client, true, S(20), Over::Cut),
            (Answering, Backend, false, S(300), Over::Cut),
            (Answering, Both, false, S(300), Over::Cut),
        ] {
            assert_eq!(limits.limit(stage, waiting, pressed), limit, "{stage:?} {waiting:?}");
            assert_eq!(over(stage, waiting), comes_to, "{stage:?} {waiting:?}");
        }
    }

    #[test]
    fn who_is_waited_for_on_both_ways_together() {
        use Waiting::*;
        for (request, answer, waiting) in [
            (None, None, Backend),
            (Some(Client), None, Client),
            (Some(Backend), None, Backend),
            (None, Some(Client), Client),
            (Some(Client), Some(Backend), Both),
            (Some(Backend), Some(Client), Both),
            (Some(Client), Some(Client), Client),
        ] {
            assert_eq!(Waiting::of(request, answer), waiting, "{request:?} {answer:?}");
        }
    }

    #[test]
    fn a_body_earns_its_time_and_has_an_end_all_the_same() {
        let settings =
            Settings { request_timeout: S(15), upload_timeout: S(60), rate_min: 1000, ..Settings::default() };
        let begun = Instant::now();
        let pace = Pace::begin(&settings, begun);
        for (bytes, after, left) in
            [(0, 0, 15), (0, 14, 1), (1, 20, 0), (10_000, 20, 5), (10_000_000, 20, 40), (u64::MAX, 61, 0)]
        {
            assert_eq!(pace.left(bytes, begun + S(after)).as_secs(), left, "{bytes} after {after} s");
        }
        let pressed = pace.pressed(begun + S(10));
        for (bytes, after_ms, left_ms) in [(0, 100, 400), (10, 600, 0), (10_000, 600, 9900)] {
            let now = begun + S(10) + Duration::from_millis(after_ms);
            assert_eq!(pressed.left(bytes, now).as_millis(), left_ms, "{bytes} after {after_ms} ms");
        }
        for (bytes, after_ms, moves) in
            [(0, 2000, false), (10_000, 500, false), (1000, 1000, true), (1000, 1500, false)]
        {
            assert_eq!(
                pace.moves(bytes, begun + Duration::from_millis(after_ms)),
                moves,
                "{bytes} {after_ms}"
            );
        }
    }
}
