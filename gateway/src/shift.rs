//! A shift: requests of a route go over from one of its services to another, step by step, and back where too many fail.
//! What of it is numbers: how much goes where, when a step is due, and when it is to go back. Pure.
//!
//! A balancer draws a service by the weights of the document, as without a shift; of what `from` would have, the share
//! that has gone over goes to `to`. So nothing else of the route moves.
//!
//! `window` is what one balancer counts, `report` what it tells nodes of that.

pub mod report;
pub mod window;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// All of what goes over, as shares of it are counted.
pub const WHOLE: u32 = 10_000;
/// Most shifts that there are at a time.
pub const SHIFTS_MAX: usize = 64;
/// Most steps of one, and the shortest time between two.
const STEPS_MAX: u64 = 100;
const STEP_MS_MIN: u64 = 500;
/// So many failed requests there are before a rule is broken, and so many requests a few count as: one that fails is no
/// hundred percent.
pub const FAILED_MIN: u64 = 3;
pub const REQUESTS_MIN: u64 = 20;

/// What counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// An answer of 500 and above, and whatever is none.
    ServerErrors,
    /// No answer alone: refused, cut, silent, too late, malformed.
    Errors,
}

/// How a request to a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer of that status.
    Answered(u16),
    /// Without one that could be passed on.
    Unanswered,
}

/// What makes a shift go back, as in `5xx>1%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub counted: Counted,
    /// Of so many in 10,000 more fail.
    pub limit: u32,
}

impl Rule {
    /// Whether that ending counts as failed.
    pub fn fails(self, ended: Ended) -> bool {
        match ended {
            Ended::Unanswered => true,
            Ended::Answered(status) => self.counted == Counted::ServerErrors && status >= 500,
        }
    }

    /// Whether so many failed requests of so many are too many.
    pub fn is_broken(self, requests: u64, failed: u64) -> bool {
        let of = requests.max(failed).max(REQUESTS_MIN);
        let (failed_of_whole, most) =
            (u128::from(failed) * u128::from(WHOLE), u128::from(of) * u128::from(self.limit));
        failed >= FAILED_MIN && failed_of_whole > most
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is no rule: expected as in 5xx>1% or errors>0.5%, below 100%");
        let (counted, rest) = match text.strip_prefix("5xx>") {
            Some(rest) => (Counted::ServerErrors, rest),
            None => (Counted::Errors, text.strip_prefix("errors>").ok_or_else(fault)?),
        };
        let number = rest.strip_suffix('%').ok_or_else(fault)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let are_digits =
            |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !are_digits(whole, 2) || !are_digits(part, 2) {
            return Err(fault());
        }
        let hundredths = format!("{part:0<2}").parse::<u32>().map_err(|_| fault())?;
        let limit = whole.parse::<u32>().map_err(|_| fault())? * 100 + hundredths;
        Ok(Self { counted, limit })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = match self.counted {
            Counted::ServerErrors => "5xx",
            Counted::Errors => "errors",
        };
        write!(f, "{counted}>{}%", percent(self.limit))
    }
}

/// So many of 10,000, in percent.
pub fn percent(of: u32) -> String {
    let (whole, part) = (of / 100, of % 100);
    match part {
        0 => whole.to_string(),
        _ => format!("{whole}.{part:02}").trim_end_matches('0').to_owned(),
    }
}

/// How much has gone over once it has gone on for so long, of a share that had gone over then: in whole steps.
pub fn share_after(before: u32, gone_on_ms: u64, over_ms: u64) -> u32 {
    let step_ms = (over_ms / STEPS_MAX).max(STEP_MS_MIN);
    let over_ms = over_ms.max(step_ms);
    let steps_ms = gone_on_ms - gone_on_ms % step_ms;
    let more = steps_ms.min(over_ms).saturating_mul(WHOLE.into()) / over_ms;
    u64::from(before).saturating_add(more).min(WHOLE.into()) as u32
}

/// Whether of what goes over, with that share, what was drawn has: any number that is drawn evenly, or comes of who
/// asks. Who has gone over stays there while the share rises.
pub fn is_over(drawn: u64, share: u32) -> bool {
    drawn % u64::from(WHOLE) < u64::from(share)
}

/// What `from` and `to` weigh with that share, of what they weigh in the document; 10,000 times as much.
pub fn weighed((from, to): (u32, u32), share: u32) -> (u64, u64) {
    let over = u64::from(from) * u64::from(share.min(WHOLE));
    let of = |weight| u64::from(weight) * u64::from(WHOLE);
    (of(from) - over, of(to) + over)
}

/// What two services of a route weigh, which is JSON as it is kept; none where it does not go to both.
pub fn weights(route: &str, from: &str, to: &str) -> Option<(u32, u32)> {
    let route: Value = serde_json::from_str(route).ok()?;
    let services = route.get("services")?;
    let weight = |name| u32::try_from(services.get(name)?.as_u64()?).ok();
    Some((weight(from)?, weight(to)?))
}

/// The same route once all that `from` weighs has gone over.
pub fn shifted(route: &str, from: &str, to: &str) -> Option<String> {
    let (had, has) = weights(route, from, to)?;
    let mut route: Value = serde_json::from_str(route).ok()?;
    let services = route.get_mut("services")?.as_object_mut()?;
    services.insert(from.to_owned(), 0.into());
    services.insert(to.to_owned(), had.checked_add(has)?.into());
    serde_json::to_string(&route).ok()
}

/// A shift as balancers are told it: while it is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub id: u64,
    pub route: String,
    pub from: String,
    pub to: String,
    /// How much of what `from` weighs goes to `to`, in parts of [`WHOLE`].
    pub share: u32,
    /// A [`Rule`]; one of a later version is none to this one.
    pub abort: String,
}

/// Reads those of a line: no more than there may be.
pub fn read_told(json: &RawValue) -> Result<Vec<Told>, serde_json::Error> {
    let mut all: Vec<Told> = serde_json::from_str(json.get())?;
    all.truncate(SHIFTS_MAX);
    all.iter_mut().for_each(|it| it.share = it.share.min(WHOLE));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn a_rule_says_what_counts_and_how_much_of_it_is_too_much() {
        for (text, counted, limit) in [
            ("5xx>1%", Counted::ServerErrors, 100),
            ("5xx>0%", Counted::ServerErrors, 0),
            ("errors>0.5%", Counted::Errors, 50),
            ("errors>12.05%", Counted::Errors, 1_205),
            ("5xx>99.99%", Counted::ServerErrors, 9_999),
        ] {
            assert_eq!(rule(text), Rule { counted, limit }, "{text}");
            assert_eq!(rule(text).to_string(), text);
        }
        for bad in [
            "",
            "5xx",
            "5xx>1",
            "5xx>100%",
            "5xx>-1%",
            "5xx>1.%",
            "5xx>.5%",
            "5xx>1.234%",
            "5xx>+1%",
            "5xx>%",
            "4xx>1%",
            "5xx > 1%",
            "errors<1%",
            "5xx>1%%",
            "5xx>٣%",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_few_failed_requests_break_a_rule_and_one_or_two_do_not() {
        let strict = rule("5xx>1%");
        for (requests, failed, broken) in [
            (1, 1, false),
            (2, 2, false),
            (3, 3, true),
            (20, 2, false),
            (200, 3, true),
            (300, 3, false),
            (301, 4, true),
            (1_000_000, 10_000, false),
            (1_000_000, 10_001, true),
            // Those that broke off later than they were counted.
            (0, 3, true),
            (u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(strict.is_broken(requests, failed), broken, "{failed} of {requests}");
        }
        let mild = rule("errors>50%");
        assert!(!mild.is_broken(5, 5), "so few are less than half of twenty");
        assert!(!mild.is_broken(10, 10) && mild.is_broken(11, 11));
        assert!(rule("5xx>0%").is_broken(1_000_000, 3));
        assert!(strict.fails(Ended::Answered(500)) && !mild.fails(Ended::Answered(503)));
        assert!(strict.fails(Ended::Unanswered) && mild.fails(Ended::Unanswered));
        assert!(!strict.fails(Ended::Answered(499)));
    }

    #[test]
    fn a_shift_takes_its_time_in_steps_and_goes_on_from_where_it_was() {
        // Of a minute, a hundred steps; of ten seconds, twenty.
        for (over_ms, step_ms, steps) in [(60_000, 600, 100), (10_000, 500, 20), (86_400_000, 864_000, 100)] {
            assert_eq!(share_after(0, step_ms - 1, over_ms), 0);
            assert_eq!(share_after(0, step_ms, over_ms), WHOLE / steps);
            assert_eq!(share_after(0, over_ms - 1, over_ms), WHOLE - WHOLE / steps);
            for late in [over_ms, over_ms + 1, u64::MAX] {
                assert_eq!(share_after(0, late, over_ms), WHOLE, "{late} of {over_ms}");
            }
            assert_eq!(share_after(4_000, over_ms / 2, over_ms), 9_000);
            assert_eq!(share_after(WHOLE, 0, over_ms), WHOLE);
        }
        let mut before = 0;
        for ms in 0..12_345 {
            let share = share_after(0, ms, 12_345);
            assert!((before..=before + 500).contains(&share), "{ms}");
            before = share;
        }
        assert_eq!((share_after(7, 9, 0), share_after(0, 500, 0)), (7, WHOLE), "nothing divides by nothing");
    }

    #[test]
    fn of_what_goes_over_as_many_are_over_as_the_share_says_and_stay_there() {
        for share in [0, 1, 5_000, WHOLE] {
            let over = (0..u64::from(WHOLE) * 3).filter(|drawn| is_over(*drawn, share)).count();
            assert_eq!(over, share as usize * 3);
        }
        assert!((0..99_999).all(|drawn| !is_over(drawn, 3_000) || is_over(drawn, 3_001)));
        assert_eq!(weighed((100, 0), 2_500), (750_000, 250_000));
        assert_eq!(weighed((1, 3), WHOLE), (0, 40_000));
        assert_eq!(weighed((7, 3), 0), (70_000, 30_000));
    }

    #[test]
    fn what_a_route_says_of_its_services_is_read_and_written() {
        let route = r#"{"match":{"path":"/"},"services":{"blue":90,"green":10,"red":5},"source":"web"}"#;
        assert_eq!(weights(route, "blue", "green"), Some((90, 10)));
        assert_eq!(weights(route, "blue", "x"), None);
        assert_eq!(weights(r#"{"service":"blue"}"#, "blue", "green"), None);
        let expected = r#"{"match":{"path":"/"},"services":{"blue":0,"green":100,"red":5},"source":"web"}"#;
        assert_eq!(shifted(route, "blue", "green").as_deref(), Some(expected));
        assert_eq!(shifted("{}", "blue", "green"), None);
    }
}
