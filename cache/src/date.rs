//! Times of day as HTTP writes them (RFC 9110, 5.6.7), in seconds of Unix time. Strict but for the case of names: what
//! is no date is taken for the past by who reads it.

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const DAYS: [&[u8]; 7] =
    [b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday"];

/// Reads a date in any of the three forms. `now_s` says which century two digits of a year mean.
pub fn read(text: &[u8], now_s: u64) -> Option<u64> {
    let comma = text.iter().position(|b| *b == b',');
    match comma {
        Some(3) => imf(text),
        Some(_) => rfc850(text, now_s),
        None => asctime(text),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf(text: &[u8]) -> Option<u64> {
    if text.len() != 29 || !is_day(&text[..3], true) || !is_gmt(&text[25..]) {
        return None;
    }
    if text[3] != b',' || [4, 7, 11, 16].iter().any(|at| text[*at] != b' ') {
        return None;
    }
    seconds(number(&text[12..16])?, month(&text[8..11])?, number(&text[5..7])?, &text[17..25])
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8], now_s: u64) -> Option<u64> {
    let comma = text.iter().position(|b| *b == b',')?;
    let rest = &text[comma + 1..];
    if !is_day(&text[..comma], false) || rest.len() != 23 || !is_gmt(&rest[19..]) {
        return None;
    }
    if rest[0] != b' ' || rest[3] != b'-' || rest[7] != b'-' || rest[10] != b' ' {
        return None;
    }
    let (day, month, short) = (number(&rest[1..3])?, month(&rest[4..7])?, number(&rest[8..10])?);
    // What seems more than 50 years ahead is of the past (RFC 9110, 5.6.7).
    let this_year = 1970 + now_s / 31_556_952;
    let year = this_year - this_year % 100 + short;
    let year = if year > this_year + 50 { year - 100 } else { year };
    seconds(year, month, day, &rest[11..19])
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<u64> {
    if text.len() != 24 || !is_day(&text[..3], true) || [3, 7, 10, 19].iter().any(|at| text[*at] != b' ') {
        return None;
    }
    let day = match &text[8..10] {
        [b' ', digit] => number(&[*digit])?,
        two => number(two)?,
    };
    seconds(number(&text[20..])?, month(&text[4..7])?, day, &text[11..19])
}

fn is_day(text: &[u8], is_short: bool) -> bool {
    DAYS.iter().map(|day| if is_short { &day[..3] } else { *day }).any(|day| day.eq_ignore_ascii_case(text))
}

fn is_gmt(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b" GMT")
}

fn month(text: &[u8]) -> Option<u64> {
    MONTHS.iter().position(|month| month.eq_ignore_ascii_case(text)).map(|at| at as u64 + 1)
}

fn number(text: &[u8]) -> Option<u64> {
    text.iter().all(u8::is_ascii_digit).then(|| text.iter().fold(0, |sum, b| sum * 10 + u64::from(b - b'0')))
}

/// `clock` is `08:49:37`. Nothing before 1970.
fn seconds(year: u64, month: u64, day: u64, clock: &[u8]) -> Option<u64> {
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..8])?);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || day == 0 || day > days || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970, by years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn the_three_forms_mean_the_same() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(read(text.as_bytes(), NOW), Some(784_111_777), "{text}");
            assert_eq!(read(text.to_uppercase().as_bytes(), NOW), Some(784_111_777), "{text}");
        }
        assert_eq!(read(b"Thu, 01 Jan 1970 00:00:00 GMT", NOW), Some(0));
        assert_eq!(read(b"Tue, 29 Feb 2000 00:00:00 GMT", NOW), Some(951_782_400));
        assert_eq!(read(b"Fri, 01 Jan 2038 01:01:01 GMT", NOW), Some(2_145_920_461));
        assert_eq!(read(b"Friday, 01-Jan-38 01:01:01 GMT", NOW), Some(2_145_920_461), "of this century");
        assert_eq!(read(b"Friday, 31-Dec-99 23:59:59 GMT", NOW), Some(946_684_799), "of the last");
    }

    #[test]
    fn what_is_almost_a_date_is_none() {
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text.as_bytes(), NOW), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_no_date_panics(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = read(&text, NOW);
        }

        #[test]
        fn nothing_near_a_date_panics(at in 0usize..33, b: u8, cut in 0usize..33) {
            for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
                let mut text = form.as_bytes().to_vec();
                if let Some(place) = text.get_mut(at) { *place = b; }
                text.truncate(cut);
                let _ = read(&text, NOW);
            }
        }
    }
}
