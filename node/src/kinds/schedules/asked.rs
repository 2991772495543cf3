//! What operators say of schedules, as JSON; an error names the member that is wrong.

use std::borrow::Cow;

use serde::Deserialize;
use skep_state::level::Limits;
use skep_state::schedule::{CRON_BYTES_MAX, EVERY_MS_MIN, Schedule, Timing, ZONE_BYTES_MAX};
use skep_state::task::When;

use super::invalid;
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::tasks::asked::{Span, TaskAsked, object, parse};
use crate::service::schedules::Times;

/// A schedule as it is put.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleAsked<'a> {
    #[serde(borrow)]
    task: TaskAsked<'a>,
    #[serde(borrow, default)]
    cron: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    timezone: Option<Cow<'a, str>>,
    every: Option<Span>,
    #[serde(default)]
    paused: bool,
    #[serde(default = "yes")]
    catch_up: bool,
}

fn yes() -> bool {
    true
}

/// The schedule of a body, whose times can be read, and one of which comes after now.
pub(super) fn schedule(body: &[u8], now_ms: u64) -> Result<Schedule, Problem> {
    let of_schedule = |problem: Problem| match problem.kind {
        ProblemKind::InvalidTask => invalid(problem.detail),
        _ => problem,
    };
    let asked: ScheduleAsked<'_> = object(body).and_then(parse).map_err(of_schedule)?;
    let task = asked.task.task().map_err(|problem| invalid(format!("task: {}", problem.detail)))?;
    if matches!(task.when, When::At { .. }) {
        return Err(invalid("task: at: a schedule says itself when; a delay counts from each fire"));
    }
    let mut timing = match (asked.cron, asked.every) {
        (Some(expression), None) => {
            let zone = asked.timezone.unwrap_or(Cow::Borrowed("UTC"));
            for (name, text, most) in
                [("cron", &expression, CRON_BYTES_MAX), ("timezone", &zone, ZONE_BYTES_MAX)]
            {
                if text.len() > most {
                    return Err(invalid(format!("{name}: expected at most {most} bytes")));
                }
            }
            Timing::Cron { expression: expression.into_owned(), zone: zone.into_owned() }
        }
        (None, Some(_)) if asked.timezone.is_some() => {
            return Err(invalid("timezone: it is for cron, and every needs none"));
        }
        (None, Some(Span(ms))) if ms < EVERY_MS_MIN => {
            return Err(invalid(format!("every: expected at least {} s", EVERY_MS_MIN / 1000)));
        }
        (None, Some(Span(ms))) => Timing::Every { ms },
        (Some(_), Some(_)) => return Err(invalid("cron and every: give one of them")),
        (None, None) => return Err(invalid("cron or every: give one of them")),
    };
    let times = Times::of(&timing, now_ms).map_err(invalid)?;
    if times.after(now_ms).is_none() {
        return Err(invalid("cron: there is no such day in the next 50 years"));
    }
    // However it was written.
    if let (Timing::Cron { zone, .. }, Some(name)) = (&mut timing, times.zone_name()) {
        name.clone_into(zone);
    }
    let schedule = Schedule { timing, is_paused: asked.paused, catches_up: asked.catch_up, task };
    let (bytes, bytes_max) = (schedule.bytes(), Limits::WIDEST.schedule_bytes_max);
    match schedule.is_bounded(bytes_max) {
        true => Ok(schedule),
        false => Err(invalid(format!("the schedule has {bytes} bytes; expected at most {bytes_max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn one(text: &str) -> Result<Schedule, String> {
        schedule(text.as_bytes(), NOW_MS).map_err(|problem| {
            assert_eq!(problem.kind, ProblemKind::InvalidSchedule, "{}", problem.detail);
            problem.detail.into_owned()
        })
    }

    #[test]
    fn a_schedule_has_its_members_and_what_is_left_out() {
        let first = one(r#"{"cron":"0 3 * * mon-fri","task":{"queue":"q","payload": {"b": 1.50}}}"#).unwrap();
        let (expression, zone) = ("0 3 * * mon-fri".to_owned(), "UTC".to_owned());
        assert_eq!(first.timing, Timing::Cron { expression, zone });
        assert_eq!((first.is_paused, first.catches_up), (false, true));
        assert_eq!((&*first.task.kind, &*first.task.payload), ("q", &br#"{"b": 1.50}"#[..]));
        let berlin = one(r#"{"cron":"* * * * *","timezone":"europe/BERLIN","task":{"queue":"q"}}"#).unwrap();
        let expected = ("* * * * *".to_owned(), "Europe/Berlin".to_owned());
        assert_eq!(berlin.timing, Timing::Cron { expression: expected.0, zone: expected.1 });
        let text = r#"{"every":"1m 30s","paused":true,"catch_up":false,"task":{"queue":"q","unique":"u","delay":5}}"#;
        let other = one(text).unwrap();
        assert_eq!(other.timing, Timing::Every { ms: 90_000 });
        assert_eq!((other.is_paused, other.catches_up), (true, false));
        assert_eq!(other.task.when, When::After { delay_ms: 5_000 });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            (r#"{}"#, "task"),
            (r#"[]"#, "object"),
            (r#"{"task":{"queue":"q"}}"#, "cron or every"),
            (r#"{"task":{"queue":"q"},"cron":"* * * * *","every":5}"#, "cron and every"),
            (r#"{"task":{"queue":"a b"},"every":5}"#, "task: queue"),
            (r#"{"task":{"queue":"q","at":"2036-11-21T03:10:00Z"},"every":5}"#, "task: at"),
            (r#"{"task":{"queue":"q"},"every":0.5}"#, "every: expected at least 1 s"),
            (r#"{"task":{"queue":"q"},"every":"often"}"#, "often"),
            (r#"{"task":{"queue":"q"},"every":5,"timezone":"UTC"}"#, "timezone: it is for cron"),
            (r#"{"task":{"queue":"q"},"cron":"* * * *"}"#, "cron: expected five fields"),
            (r#"{"task":{"queue":"q"},"cron":"* 24 * * *"}"#, "cron: hour: \"24\" is not 0 to 23"),
            (r#"{"task":{"queue":"q"},"cron":"0 0 31 6 *"}"#, "cron: there is no such day"),
            (r#"{"task":{"queue":"q"},"cron":"* * * * *","timezone":"Mars/Base"}"#, "timezone: no time zone"),
            (r#"{"task":{"queue":"q"},"cron":"* * * * *","timezone":""}"#, "timezone: no time zone"),
            (r#"{"task":{"queue":"q"},"every":5,"pause":true}"#, "pause"),
        ] {
            let detail = one(text).unwrap_err();
            assert!(detail.contains(named), "{text}: {detail}");
        }
        let long = |name: &str, text: String| {
            one(&format!(r#"{{"task":{{"queue":"q"}},"cron":"* * * * *","{name}":"{text}"}}"#)).unwrap_err()
        };
        assert!(long("timezone", "x".repeat(65)).contains("timezone: expected at most 64 bytes"));
        let many = format!(r#"{{"task":{{"queue":"q"}},"cron":"{}* * * * *"}}"#, "0,".repeat(128));
        assert!(one(&many).unwrap_err().contains("cron: expected at most 256 bytes"));
        let large = format!(r#"{{"task":{{"queue":"q","payload":"{}"}},"every":5}}"#, "x".repeat(64 * 1024));
        assert!(one(&large).unwrap_err().contains("expected at most 65536"));
    }
}
