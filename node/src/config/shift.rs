//! The verb `config shift`: what leads a route's requests from one of its services to another.

use std::time::Duration;

use clap::Args;
use skep_base::settings::values::duration_up_to;
use skep_base::settings::{ConfigError, Output};
use skep_gateway::shift::Rule;

/// How long a shift takes where nothing is said.
const OVER: Duration = Duration::from_secs(60);
const OVER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Args)]
pub(super) struct ShiftArgs {
    /// The route's name
    route: String,
    /// From which of its services to which, as in "blue->green"; without it, what is known of its shift is shown
    #[arg(value_name = "FROM->TO")]
    services: Option<String>,
    /// How long it takes: 60s where nothing is said; from 10s to 24h
    #[arg(long, value_name = "TIME", requires = "services")]
    over: Option<String>,
    /// When it goes back by itself: "5xx>1%" where so much of the requests to the new service is answered 5xx or not at
    /// all, "errors>1%" where it is not answered
    #[arg(long, value_name = "RULE", requires = "services")]
    abort: Option<String>,
    /// Say what is known of the shift
    #[arg(long, conflicts_with_all = ["services", "stop", "resume", "back"])]
    status: bool,
    /// What went over stays there, and no more does
    #[arg(long, conflicts_with_all = ["services", "resume", "back"])]
    stop: bool,
    /// One that was stopped goes on
    #[arg(long, conflicts_with_all = ["services", "back"])]
    resume: bool,
    /// It goes back at once: the route is as the document says
    #[arg(long, conflicts_with = "services")]
    back: bool,
    #[command(flatten)]
    output: Output,
}

/// What to do with a shift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShiftVerb {
    Begin { from: String, to: String, over_s: u64, abort: Option<String> },
    Show,
    Stop,
    Resume,
    Back,
}

/// Of which route, what is to be done, and whether it is to be said as JSON.
pub(super) fn resolve(args: ShiftArgs) -> Result<(String, ShiftVerb, bool), ConfigError> {
    let ShiftArgs { route, services, over, abort, status: _, stop, resume, back, output } = args;
    let invalid = |origin: &str, reason: String| ConfigError::Invalid { origin: origin.into(), reason };
    let verb = match services {
        Some(services) => {
            let Some((from, to)) = services.split_once("->").map(|(from, to)| (from.trim(), to.trim()))
            else {
                return Err(invalid("FROM->TO", format!("{services:?} is not as in \"blue->green\"")));
            };
            let over = over.map_or(Ok(OVER), |text| duration_up_to(&text, OVER_MAX));
            let over = over.map_err(|why| invalid("--over", why))?;
            let abort = abort.map(|text| text.parse::<Rule>()).transpose();
            let abort = abort.map_err(|why| invalid("--abort", why))?.map(|rule| rule.to_string());
            ShiftVerb::Begin { from: from.to_owned(), to: to.to_owned(), over_s: over.as_secs(), abort }
        }
        None if stop => ShiftVerb::Stop,
        None if resume => ShiftVerb::Resume,
        None if back => ShiftVerb::Back,
        None => ShiftVerb::Show,
    };
    Ok((route, verb, output.json))
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigVerb, Invocation, Verb, parse};
    use super::*;

    fn shift(args: &[&str]) -> Result<(String, ShiftVerb), String> {
        let line = [&["skep-node", "config", "shift"][..], args].concat();
        match parse(line, |_| None) {
            Ok(Invocation::Verb(Verb::Config { verb: ConfigVerb::Shift { route, verb }, .. })) => {
                Ok((route, verb))
            }
            Ok(_) => panic!("another verb"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_shift_is_begun_shown_stopped_and_taken_back() {
        let begin = |over_s, abort: Option<&str>| {
            let abort = abort.map(str::to_owned);
            ShiftVerb::Begin { from: "blue".into(), to: "green".into(), over_s, abort }
        };
        for (args, verb) in [
            (&["web", "blue->green"][..], begin(60, None)),
            (
                &["web", "blue -> green", "--over", "2m", "--abort", "5xx>1.50%"][..],
                begin(120, Some("5xx>1.5%")),
            ),
            (&["web"][..], ShiftVerb::Show),
            (&["web", "--status"][..], ShiftVerb::Show),
            (&["web", "--stop"][..], ShiftVerb::Stop),
            (&["web", "--resume"][..], ShiftVerb::Resume),
            (&["web", "--back"][..], ShiftVerb::Back),
        ] {
            assert_eq!(shift(args), Ok(("web".to_owned(), verb)), "{args:?}");
        }
        for bad in [
            &["web", "blue"][..],
            &["web", "blue->green", "--over", "soon"],
            &["web", "blue->green", "--abort", "often"],
            &["web", "--over", "60s"],
            &["web", "--stop", "--back"],
            &["web", "blue->green", "--stop"],
            &[],
        ] {
            assert!(shift(bad).is_err(), "{bad:?}");
        }
    }
}
