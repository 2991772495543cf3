//! Lengths of time as clients say them.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use skep_state::task::DURATION_MS_MAX;

/// A length of time: `"1m 30s"`, or seconds as a number. In milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub u64);

impl Span {
    pub(crate) fn parse(text: &str) -> Result<Span, String> {
        let given = humantime::parse_duration(text).map_err(|error| format!("{text:?}: {error}"))?;
        Span::of_ms(given.as_millis().try_into().unwrap_or(u64::MAX))
    }

    fn of_ms(ms: u64) -> Result<Span, String> {
        match ms <= DURATION_MS_MAX {
            true => Ok(Span(ms)),
            false => Err("expected at most a year".into()),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time, as \"5s\" or \"1h 30m\", or seconds")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Span::of_ms(seconds.saturating_mul(1000)).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
                match seconds >= 0.0 {
                    true => Span::of_ms((seconds * 1000.0).round() as u64).map_err(E::custom),
                    false => Err(E::custom("a length of time is not below 0")),
                }
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Span, E> {
                Err(E::custom("a length of time is not below 0"))
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}
