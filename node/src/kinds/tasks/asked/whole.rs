//! Numbers that some languages write as `7.0`: JSON has one kind of number, and so have they.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// As the document has them, of 64 bits with a sign.
const WHOLE_MAX: u64 = i64::MAX as u64;

/// From 0 on.
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                match number <= WHOLE_MAX {
                    true => Ok(Whole(number)),
                    false => Err(E::custom("expected a whole number of 63 bits")),
                }
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
                match number.fract() == 0.0 && (0.0..WHOLE_MAX as f64).contains(&number) {
                    true => Ok(Whole(number as u64)),
                    false => Err(E::custom("expected a whole number, not below 0")),
                }
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

/// A number.
pub(super) fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Whole::deserialize(deserializer).map(|number| number.0)
}

/// Some of them.
pub(super) fn all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let numbers = Vec::<Whole>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|number| number.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        let read = |text: &str| serde_json::from_str::<Whole>(text).ok().map(|number| number.0);
        let whole =
            [("0", 0), ("7", 7), ("7.0", 7), ("7e2", 700), ("-0.0", 0), ("9007199254740993", (1 << 53) + 1)];
        for (text, number) in whole {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in ["7.5", "-1", "-1.0", "1e300", "9223372036854775808", "\"7\"", "null", "[7]"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
