//! How the text of a setting is read, and its bounds. An error says what was expected.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use skep_proto::id::NodeId;
use skep_proto::seeds::Seed;

/// Most that `--max-body` may be, in bytes: a body must fit one Raft entry and one peer frame.
pub const BODY_BYTES_LIMIT: usize = 8 * 1024 * 1024;
/// Most that `--expect` may be.
pub const EXPECT_MAX: u32 = 255;
/// Most that `--voters` may be.
pub const VOTERS_MAX: u32 = 31;
/// Most seeds that may be listed.
const SEEDS_MAX: usize = 256;
/// Least and most of a duration setting.
const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_secs(3600);

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address: expected IP:PORT, as in 127.0.0.1:8080"))
}

/// An address to tell peers; without a port (0) it is that of the peer socket.
pub(super) fn advertise(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 0),
        Err(_) => text
            .parse()
            .map_err(|_| format!("{text:?} is not an address: expected IP or IP:PORT, as in 10.0.0.7"))?,
    };
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(format!("{} cannot be told to peers: nobody can connect to it", address.ip()));
    }
    Ok(address)
}

/// `host:port` items; whether a name resolves is found out while running.
pub(super) fn seeds(text: &str) -> Result<Vec<Seed>, String> {
    let seeds: Vec<&str> = text.split(',').map(str::trim).filter(|seed| !seed.is_empty()).collect();
    if seeds.len() > SEEDS_MAX {
        return Err(format!("{} seeds are too many: at most {SEEDS_MAX}", seeds.len()));
    }
    seeds.into_iter().map(|text| Seed::parse(text).map_err(|error| error.to_string())).collect()
}

pub(super) fn count(text: &str, max: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(count) if (1..=max).contains(&count) => Ok(count),
        _ => Err(format!("{text:?} is not a number from 1 to {max}")),
    }
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let expected = || {
        format!("{text:?} is not a size: expected 1 to {BODY_BYTES_LIMIT} bytes, as in 65536, 512KiB or 1MiB")
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: usize = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return Err(expected()),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| (1..=BODY_BYTES_LIMIT).contains(bytes)).ok_or_else(expected)
}

/// `10s`, `1m 30s`, `500ms`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    duration.filter(|duration| (DURATION_MIN..=DURATION_MAX).contains(duration)).ok_or_else(|| {
        format!(
            "{text:?} is not a duration from {} to {}, as in 10s or 500ms",
            humantime::format_duration(DURATION_MIN),
            humantime::format_duration(DURATION_MAX)
        )
    })
}

pub(super) fn node_id(text: &str) -> Result<NodeId, String> {
    text.parse().map_err(|error: skep_proto::id::IdParseError| error.to_string())
}
