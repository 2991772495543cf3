//! What clients speak: the cores that accept them, the PROXY protocol, TLS, HTTP/1.x and HTTP/2.
//!
//! `cores -> http1, http2`: both read a head, have the gateway judge it, and are the client's side of
//! what is forwarded. Neither knows the other.

pub(crate) mod activation;
pub(crate) mod backlog;
pub(crate) mod client;
pub mod cores;
pub(crate) mod handshake;
pub(crate) mod http1;
pub mod http2;
mod leave;
pub mod proxy_protocol;
pub(crate) mod question;
pub mod tls;
