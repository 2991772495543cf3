//! How the text of a setting is read, and its bounds. An error says what was expected.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use skep_proto::advertise::Advertise;
use skep_proto::seeds::Seed;

use crate::access_log::Destination;
use crate::settings::Network;

/// Most that `--max-body` may be, in bytes.
pub const BODY_BYTES_LIMIT: usize = 1 << 40;
/// Most that `--cores` may be.
pub const CORES_MAX: u32 = 256;
/// Most that a count of connections or requests may be.
pub const COUNT_MAX: u32 = 10_000_000;
/// Most backends, trusted networks or certificates that may be listed.
const ITEMS_MAX: usize = 256;
/// Most seeds that may be listed.
const SEEDS_MAX: usize = 256;
/// Least and most of a duration setting.
const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_secs(3600);

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address: expected IP:PORT, as in 127.0.0.1:8080"))
}

/// An address to tell peers; without a port it is that of the gossip socket.
pub(super) fn advertise(text: &str) -> Result<Advertise, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => Advertise { ip, port: None },
        Err(_) => text
            .parse::<SocketAddr>()
            .map(|address| Advertise { ip: address.ip(), port: Some(address.port()) })
            .map_err(|_| format!("{text:?} is not an address: expected IP or IP:PORT, as in 10.0.0.7"))?,
    };
    if address.ip.is_unspecified() || address.ip.is_multicast() {
        return Err(format!("{} cannot be told to peers: nobody can connect to it", address.ip));
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

/// Items of a comma-separated list, each read by `item`.
pub(super) fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.len() > ITEMS_MAX {
        return Err(format!("{} items are too many: at most {ITEMS_MAX}", items.len()));
    }
    items.into_iter().map(item).collect()
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    Network::parse(text)
        .ok_or_else(|| format!("{text:?} is not a network: expected IP or IP/BITS, as in 10.0.0.0/8"))
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn access_log(text: &str) -> Result<Destination, String> {
    Ok(match text {
        "off" => Destination::Off,
        "stdout" => Destination::Stdout,
        path => Destination::File(path.into()),
    })
}
