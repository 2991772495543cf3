//! How much of a host a node takes: how long messages are kept and how many bytes of them, memory, threads.

use std::time::Duration;

use crate::http::ACCOUNT_BYTES_MIN;

/// Most threads for clients.
const HTTP_THREADS_MAX: usize = 256;
/// Least that messages may be given to take.
const RETAINED_BYTES_MIN: u64 = 4096;
/// Least and most of a message's age.
const AGE_MIN: Duration = Duration::from_secs(1);
const AGE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How long an idempotency key is remembered where nobody says it: 24 h.
pub(super) const IDEMPOTENCY_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Least: where there is no room for another, younger ones are kept all the same.
const IDEMPOTENCY_MIN: Duration = Duration::from_secs(15 * 60);
const IDEMPOTENCY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// `24h`; how long an idempotency key is remembered.
pub(super) fn idempotency(text: &str) -> Result<Duration, String> {
    between(text, IDEMPOTENCY_MIN, IDEMPOTENCY_MAX, "as in 24h or 7days")
}

/// `128MiB`; what requests may hold in memory.
pub(super) fn request_memory(text: &str) -> Result<u64, String> {
    let fits = size(text).ok().filter(|bytes| *bytes >= ACCOUNT_BYTES_MIN);
    fits.ok_or_else(|| {
        format!("{text:?} is not a size of at least {} MiB, as in 128MiB", ACCOUNT_BYTES_MIN >> 20)
    })
}

/// `0`, `7`; threads for clients.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    let fits = text.parse().ok().filter(|threads| *threads <= HTTP_THREADS_MAX);
    fits.ok_or_else(|| format!("{text:?} is not a number from 0 to {HTTP_THREADS_MAX}"))
}

/// `64MiB`, `1TiB`; what messages may take.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        "TiB" => Some(40),
        _ => None,
    };
    let bytes =
        digits.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes >= RETAINED_BYTES_MIN).ok_or_else(|| {
        format!("{text:?} is not a size of at least {RETAINED_BYTES_MIN} bytes, as in 500MiB or 2TiB")
    })
}

/// `7days`, `12h`; how old a message may be.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    between(text, AGE_MIN, AGE_MAX, "as in 12h or 30days")
}

fn between(text: &str, least: Duration, most: Duration, example: &str) -> Result<Duration, String> {
    let age = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    age.filter(|age| (least..=most).contains(age)).ok_or_else(|| {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        format!("{text:?} is not an age from {least} to {most}, {example}")
    })
}
