//! A part of a stored answer (RFC 9110, 14).

use std::ops::Range;

use crate::list::{Item, items};

/// What becomes of a request for a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it: what was asked for is no single part in bytes.
    Whole,
    /// 206.
    Of(Range<u64>),
    /// 416.
    None,
}

/// `len` is the length of the whole, in bytes.
pub fn part(range: &[u8], len: u64) -> Part {
    let Some(at) = range.iter().position(|b| *b == b'=') else { return Part::Whole };
    let (unit, set) = (&range[..at], &range[at + 1..]);
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return Part::Whole;
    }
    let mut parts = items(set);
    let (Some(Item::Is(only)), None) = (parts.next(), parts.next()) else { return Part::Whole };
    let Some(dash) = only.iter().position(|b| *b == b'-') else { return Part::Whole };
    let (first, last) = (&only[..dash], &only[dash + 1..]);
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) => (first, last),
        _ => return Part::Whole,
    };
    match (first, last) {
        (None, None) => Part::Whole,
        (None, Some(suffix)) if suffix == 0 || len == 0 => Part::None,
        (None, Some(suffix)) => Part::Of(len.saturating_sub(suffix)..len),
        (Some(first), Some(last)) if last < first => Part::Whole,
        (Some(first), _) if first >= len => Part::None,
        (Some(first), last) => Part::Of(first..last.map_or(len, |last| last.saturating_add(1).min(len))),
    }
}

/// `Some(None)` where nothing stands there.
fn number(text: &[u8]) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, b: &u8| sum.saturating_mul(10).saturating_add(u64::from(b - b'0'));
    Some(Some(text.iter().fold(0, add)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_single_part_is_cut_to_what_is_there() {
        for (range, expected) in [
            ("bytes=0-3", Part::Of(0..4)),
            ("Bytes = 2-", Part::Of(2..10)),
            ("bytes=-3", Part::Of(7..10)),
            ("bytes=-30", Part::Of(0..10)),
            ("bytes=9-99999999999999999999999", Part::Of(9..10)),
            ("bytes=10-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=99999999999999999999999-", Part::None),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,2-3", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=0--1", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("0-1", Part::Whole),
        ] {
            assert_eq!(part(range.as_bytes(), 10), expected, "{range}");
        }
        assert_eq!(part(b"bytes=-5", 0), Part::None);
    }

    proptest! {
        #[test]
        fn no_part_goes_beyond_the_whole(range in "bytes=[0-9,\\- ]{0,30}", len in 0u64..100) {
            if let Part::Of(part) = part(range.as_bytes(), len) {
                prop_assert!(part.start < part.end && part.end <= len);
            }
        }
    }
}
