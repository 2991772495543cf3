//! Limits and times that forwarding obeys; replaced as a whole when the configuration is read again.

use std::net::IpAddr;
use std::time::Duration;

pub use skep_base::network::Network;

/// The least status that may count as a backend's failure; what is below is no error.
pub const FAILURE_STATUS_MIN: u16 = 400;

/// What may be changed without a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections of one client address.
    pub connections_per_client_max: usize,
    /// Time for a request's head, from its first byte or the connection's start.
    pub head_timeout: Duration,
    /// Time between requests on one connection.
    pub idle_timeout: Duration,
    /// Time for a body to make progress, either way.
    pub body_timeout: Duration,
    /// Time that a backend may be silent within an answer.
    pub stream_timeout: Duration,
    /// Time from a request's end to its answer's begin, over all attempts; and that which a body has beyond
    /// what `rate_min` gives it.
    pub request_timeout: Duration,
    /// Time for a connection to a backend.
    pub connect_timeout: Duration,
    /// Bytes in each second that a body must bring, beyond what it may take in any case.
    pub rate_min: u64,
    /// Time for a request with its body, whatever it brings.
    pub upload_timeout: Duration,
    /// Requests of one client address that a backend has while their bodies still come.
    pub uploads_per_client_max: usize,
    /// Largest request body, in bytes.
    pub body_bytes_max: u64,
    /// Requests in flight at one backend, over all cores.
    pub in_flight_max: u32,
    /// Requests of one core that wait for a backend.
    pub queue_max: usize,
    /// Time that a request may wait for a backend.
    pub queue_timeout: Duration,
    /// Answers with these count as failures of their backend, which eject it.
    pub failure_statuses: Vec<u16>,
    /// Reads of a message go to the backend that its digest belongs to.
    pub by_digest: bool,
    /// Proxies before this one: what they say of their clients is believed.
    pub trusted: Vec<Network>,
    /// Connections from `trusted` begin with a PROXY protocol header.
    pub proxy_protocol: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            connections_per_client_max: 16_384,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(20),
            stream_timeout: Duration::from_secs(300),
            request_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(1),
            rate_min: 1024,
            upload_timeout: Duration::from_secs(15 * 60),
            uploads_per_client_max: 256,
            body_bytes_max: 64 * 1024 * 1024,
            in_flight_max: 1024,
            queue_max: 1024,
            queue_timeout: Duration::from_secs(2),
            failure_statuses: vec![502, 503, 504],
            by_digest: false,
            trusted: Vec::new(),
            proxy_protocol: false,
        }
    }
}

impl Settings {
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}
