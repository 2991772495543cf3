//! The same certificates for HTTP between members: another protocol inside, so that nobody who means the one is
//! answered by the other.

use std::sync::Arc;

use super::PeerTls;

/// Members' HTTP/1.1, as ALPN names it.
pub const HTTP_ALPN: &[u8] = b"skep-http/1";

impl PeerTls {
    /// For a node's HTTP port, and for a balancer that asks it.
    pub fn for_http(&self) -> Self {
        let (mut server, mut client) = ((*self.server).clone(), (*self.client).clone());
        server.alpn_protocols = vec![HTTP_ALPN.to_vec()];
        client.alpn_protocols = vec![HTTP_ALPN.to_vec()];
        Self { server: Arc::new(server), client: Arc::new(client), ..self.clone() }
    }
}
