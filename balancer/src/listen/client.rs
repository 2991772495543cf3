//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};

use crate::wire::write::Client;

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

    pub fn as_client(&self, http2: bool) -> Client<'_> {
        let Self { address, node, proto, trusted, .. } = self;
        Client { address, node, proto, http2, trusted: *trusted }
    }
}
