//! Where a server of a service is: a URL of which the scheme, the host and the port count.

use std::net::IpAddr;

use crate::host;
use crate::path;

/// Where a service is: the address, or all addresses that a name has.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub is_tls: bool,
    pub host: TargetHost,
    pub port: u16,
    /// How many times the load of another it is to have.
    pub weight: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetHost {
    Address(IpAddr),
    Name(String),
}

impl Target {
    /// `http://HOST:PORT` or `https://HOST:PORT`; without a port it is the usual one.
    pub fn read(text: &str) -> Result<Self, String> {
        let fault =
            || format!("{text:?} is no URL of a server: expected as in http://10.0.0.5:8080, and no path");
        let (is_tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://").ok_or_else(fault)?),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(fault)?)
            }
            _ => (authority, usual_port(is_tls)),
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address: Option<IpAddr> = match bare {
            Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
            None => host.parse().ok().filter(IpAddr::is_ipv4),
        };
        let is_number = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let host = match address {
            Some(ip) if !ip.is_unspecified() => TargetHost::Address(ip),
            None if host::is_name(host) && !is_number => TargetHost::Name(host.to_ascii_lowercase()),
            _ => return Err(fault()),
        };
        Ok(Self { is_tls, host, port, weight: 1.0 })
    }

    /// What its own `Host` would be.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            TargetHost::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
            TargetHost::Address(ip) => ip.to_string(),
            TargetHost::Name(name) => name.clone(),
        };
        if self.port == usual_port(self.is_tls) { host } else { format!("{host}:{}", self.port) }
    }
}

/// A path at a server, with a query or without.
pub(super) fn place_at(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !is_path || text.len() > path::PATH_BYTES_MAX {
        return Err(format!("{text:?} is no path: expected as in /healthz"));
    }
    Ok(text.to_owned())
}

fn usual_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}
