//! Whole numbers, however they are written: JSON has one kind of number, and some languages write `7.0` for 7.

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
                f.write_str("a whole number, not below 0 (7, 7.0 and 7e0 are the same)")
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

/// A number that may be left out, or null; too large for its place is an error.
pub(super) fn some<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::<Whole>::deserialize(deserializer)?.map(fitting).transpose()
}

/// A number that may be left out, and is not null.
pub(super) fn given<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Whole::deserialize(deserializer).and_then(fitting).map(Some)
}

fn fitting<T: TryFrom<u64>, E: de::Error>(Whole(number): Whole) -> Result<T, E> {
    T::try_from(number).map_err(|_| {
        let most = u64::MAX >> (64 - 8 * size_of::<T>());
        de::Error::custom(format!("{number} is too large: expected a whole number up to {most}"))
    })
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
    fn a_number_that_may_be_left_out_fits_its_place() {
        let read = |text: &str| {
            let mut from = serde_json::Deserializer::from_str(text);
            let read: Result<Option<u8>, _> = some(&mut from);
            read.map_err(|error| error.to_string())
        };
        for (text, number) in [("null", None), ("9", Some(9)), ("9.0", Some(9)), ("2.55e2", Some(255))] {
            assert_eq!(read(text).as_ref(), Ok(&number), "{text}");
        }
        for (text, named) in
            [("256", "up to 255"), ("-1", "not below 0"), ("0.5", "whole"), ("\"9\"", "whole")]
        {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

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
