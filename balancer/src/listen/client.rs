//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};

use skep_gateway::policy;

use crate::core::settings::Settings;
use crate::wire::fields::Field;
use crate::wire::request_head::RequestHead;
use crate::wire::write::Client;

/// Most hops that are looked at for the first that is no trusted proxy.
const HOPS_MAX: usize = 32;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    pub ip: IpAddr,
    /// As the log shows it.
    pub address: String,
    /// As `Forwarded` shows it.
    pub node: String,
    pub proto: &'static str,
    pub trusted: bool,
}

impl ClientInfo {
    pub fn new(address: SocketAddr, proto: &'static str, trusted: bool) -> Self {
        let ip = address.ip().to_canonical();
        let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
        Self { ip, address: ip.to_string(), node, proto, trusted }
    }

    /// Whom to count; none, where it is a trusted proxy that does not say whom it stands for.
    pub fn counted(&self) -> Option<IpAddr> {
        (!self.trusted).then_some(self.ip)
    }

    /// Whom a trusted proxy says that it stands for: of `X-Forwarded-For` the last address that is no trusted
    /// proxy's, or the first where all are. What stands before an address that is none was said by nobody who is
    /// trusted.
    pub fn origin(&self, head: &RequestHead, buf: &[u8], settings: &Settings) -> Option<IpAddr> {
        if !self.trusted {
            return None;
        }
        let lists = head
            .forwarded
            .iter()
            .rev()
            .filter(|field| field.name.of(buf).eq_ignore_ascii_case(b"x-forwarded-for"));
        let mut origin = None;
        for hop in lists.flat_map(|field| field.value.of(buf).rsplit(|byte| *byte == b',')).take(HOPS_MAX) {
            let Some(ip) = address(hop) else { break };
            origin = Some(ip);
            if !settings.trusts(ip) {
                break;
            }
        }
        origin
    }

    /// Who asks, as the gateway's policies see it; `origin` is whom a trusted proxy stands for. That one says, too,
    /// how its client came.
    pub fn judged(&self, origin: Option<IpAddr>, head: &RequestHead, buf: &[u8]) -> policy::Client {
        let is_said = |name: &[u8]| name.eq_ignore_ascii_case(b"x-forwarded-proto");
        let said = || head.forwarded.iter().rev().find(|it| is_said(it.name.of(buf)));
        let told = |field: &Field| field.value.of(buf).eq_ignore_ascii_case(b"https");
        let secure = self.proto == "https" || self.trusted && said().is_some_and(told);
        policy::Client { ip: origin.unwrap_or(self.ip), secure }
    }

    pub fn as_client(&self, http2: bool) -> Client<'_> {
        let Self { address, node, proto, trusted, .. } = self;
        Client { address, node, proto, http2, trusted: *trusted }
    }
}

/// With a port, too, as some proxies write it.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::Network;

    fn origin(trusted: bool, fields: &str) -> Option<String> {
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        assert!(head.parse(text.as_bytes()).unwrap());
        let settings =
            Settings { trusted: vec![Network::parse("10.0.0.0/8").unwrap()], ..Settings::default() };
        let client = ClientInfo::new(([10, 0, 0, 1], 1).into(), "http", trusted);
        client.origin(&head, text.as_bytes(), &settings).map(|ip| ip.to_string())
    }

    #[test]
    fn a_trusted_proxys_client_is_the_last_that_is_no_trusted_proxy() {
        for (fields, expected) in [
            ("", None),
            ("x-forwarded-for: 192.0.2.7\r\n", Some("192.0.2.7")),
            ("x-forwarded-for: 198.51.100.1, 192.0.2.7 ,10.0.0.9\r\n", Some("192.0.2.7")),
            ("x-forwarded-for: 192.0.2.7\r\nX-Forwarded-For: 10.0.0.8, 10.0.0.9\r\n", Some("192.0.2.7")),
            ("x-forwarded-for: 10.0.0.7, 10.0.0.8\r\n", Some("10.0.0.7")),
            ("x-forwarded-for: 192.0.2.7:4711\r\n", Some("192.0.2.7")),
            ("x-forwarded-for: [2001:db8::1]:80\r\n", Some("2001:db8::1")),
            ("x-forwarded-for: [2001:db8::1]\r\n", Some("2001:db8::1")),
            ("x-forwarded-for: ::ffff:192.0.2.7\r\n", Some("192.0.2.7")),
            ("x-forwarded-for: 198.51.100.1, unknown, 10.0.0.9\r\n", Some("10.0.0.9")),
            ("x-forwarded-for: \"},{\r\n", None),
            ("forwarded: for=192.0.2.7\r\n", None),
        ] {
            assert_eq!(origin(true, fields).as_deref(), expected, "{fields}");
            assert_eq!(origin(false, fields), None, "a stranger says nothing");
        }
        let many = format!("x-forwarded-for: 192.0.2.7{}\r\n", ",10.0.0.1".repeat(HOPS_MAX));
        assert_eq!(origin(true, &many).as_deref(), Some("10.0.0.1"));
    }
}
