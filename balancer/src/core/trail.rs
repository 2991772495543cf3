//! What the log and the metrics say of one exchange.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::routes::{Added, Via};
use crate::pools::backends::Backend;

/// What the log and the metrics say of an exchange.
#[derive(Debug)]
pub struct Trail {
    pub started: Instant,
    /// Whom a trusted proxy says that its client is.
    pub origin: Option<IpAddr>,
    /// Waited before it began: for a look at its password, for a service that is asked first.
    pub waited: Duration,
    /// Waited for a backend.
    pub queued: Duration,
    /// Waited for a connection, over all attempts.
    pub connecting: Duration,
    /// From the start to the answer's head.
    pub first_byte: Option<Duration>,
    pub backend: Option<Arc<Backend>>,
    /// The route that the request has.
    pub via: Option<Via>,
    pub attempts: u32,
    /// Of the answer that was passed on; 0 for none.
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Trail {
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            origin: None,
            waited: Duration::ZERO,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
            first_byte: None,
            backend: None,
            via: None,
            attempts: 0,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// What an answer of the balancer's own says of the pages that may read it.
    pub fn readers(&self) -> &[Added] {
        self.via.as_ref().map(Via::readers).unwrap_or_default()
    }
}
