//! How the text of a setting is read. An error says what was expected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::log::LogFormat;

/// Most items that may be listed: seeds, backends, networks, certificates.
const ITEMS_MAX: usize = 256;
/// Least and most of a duration setting.
const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_secs(3600);

pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address: expected IP:PORT, as in 127.0.0.1:8080"))
}

/// Items of a comma-separated list, each read by `item`.
pub fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.len() > ITEMS_MAX {
        return Err(format!("{} items are too many: at most {ITEMS_MAX}", items.len()));
    }
    items.into_iter().map(item).collect()
}

pub fn count(text: &str, max: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(count) if (1..=max).contains(&count) => Ok(count),
        _ => Err(format!("{text:?} is not a number from 1 to {max}")),
    }
}

/// Bytes: `65536`, `512KiB`, `1MiB`.
pub fn size(text: &str, bytes_max: u64) -> Result<u64, String> {
    let expected =
        || format!("{text:?} is not a size: expected 1 to {bytes_max} bytes, as in 65536, 512KiB or 1MiB");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return Err(expected()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| (1..=bytes_max).contains(bytes)).ok_or_else(expected)
}

/// `10s`, `1m 30s`, `500ms`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration_up_to(text, DURATION_MAX)
}

/// The same, of what may last longer than a request does.
pub fn duration_up_to(text: &str, max: Duration) -> Result<Duration, String> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    duration.filter(|duration| (DURATION_MIN..=max).contains(duration)).ok_or_else(|| {
        format!(
            "{text:?} is not a duration from {} to {}, as in 10s or 500ms",
            humantime::format_duration(DURATION_MIN),
            humantime::format_duration(max)
        )
    })
}

pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::filter::Targets>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is not a log filter: {error}; expected a level, as in info"))
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not a log format: expected human or json")),
    }
}

/// Loopback in place of an address that binds all.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
