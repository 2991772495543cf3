//! A query's parameters. Those of names that a route does not know are passed over, as everywhere
//! on the web.

use std::borrow::Cow;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::headers::is_token;
use super::problem::{Problem, ProblemKind};

/// Names and values, decoded.
pub(crate) struct Pairs<'a>(form_urlencoded::Parse<'a>);

impl<'a> Pairs<'a> {
    pub(crate) fn of(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Largest seq that may be asked for: JSON's numbers are exact to here (RFC 8259, section 6).
pub(crate) const SEQ_MAX: u64 = (1 << 53) - 1;

/// The place after which to begin.
pub(crate) fn after(value: &str) -> Result<u64, Problem> {
    seq(value).ok_or_else(|| {
        let detail = format!("after is {value:?}; expected a seq, 0 for the beginning, at most {SEQ_MAX}");
        Problem::new(ProblemKind::InvalidQuery, detail)
    })
}

/// A seq or 0, in decimal.
pub(crate) fn seq(value: &str) -> Option<u64> {
    value.parse().ok().filter(|seq| *seq <= SEQ_MAX)
}

/// A time (RFC 3339), in milliseconds since the Unix epoch.
pub(crate) fn time_ms(name: &str, value: &str) -> Result<u64, Problem> {
    let time = OffsetDateTime::parse(value, &Rfc3339).map_err(|_| {
        let detail = format!("{name} is {value:?}; expected a time as in 2026-11-21T03:10:00Z");
        Problem::new(ProblemKind::InvalidQuery, detail)
    })?;
    // Before the epoch there is nothing.
    Ok(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

/// A media type without parameters, or all of a main type, as in `text/*`; in lowercase.
pub(crate) fn media_range(value: &str) -> Result<String, Problem> {
    let range = value.to_ascii_lowercase();
    match range.split_once('/') {
        Some((main, sub)) if is_token(main) && is_token(sub) => Ok(range),
        _ => {
            let detail =
                format!("content_type is {value:?}; expected a media type as in text/plain, or text/*");
            Err(Problem::new(ProblemKind::InvalidQuery, detail))
        }
    }
}
