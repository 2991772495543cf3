//! How bytes and times are written in answers.

use time::OffsetDateTime;

/// The last millisecond of the year 9999: RFC 3339 has four digits for a year.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// Appends an RFC 3339 time in UTC with milliseconds, as in `2026-11-21T03:10:00.123Z`.
pub(crate) fn time_rfc3339(time_ms: u64, text: &mut Vec<u8>) {
    let time_ms = time_ms.min(TIME_MS_MAX);
    let seconds = i64::try_from(time_ms / 1000).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut digits = |number: u64, count: u32, after: u8| {
        text.extend((0..count).rev().map(|place| b'0' + (number / 10u64.pow(place) % 10) as u8));
        text.push(after);
    };
    digits(u64::try_from(time.year()).unwrap_or(0), 4, b'-');
    digits(u8::from(time.month()).into(), 2, b'-');
    digits(time.day().into(), 2, b'T');
    digits(time.hour().into(), 2, b':');
    digits(time.minute().into(), 2, b':');
    digits(time.second().into(), 2, b'.');
    digits(time_ms % 1000, 3, b'Z');
}

/// Base64 (RFC 4648, section 4) with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            text.push(if i > chunk.len() {
                '='
            } else {
                char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_hold() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        for (time_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (1_795_230_600_123, "2026-11-21T03:10:00.123Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let mut text = Vec::new();
            time_rfc3339(time_ms, &mut text);
            assert_eq!(text, expected.as_bytes());
        }
    }
}
