//! What clients speak: the cores that accept them, the PROXY protocol, TLS, HTTP/1.x and HTTP/2.

pub mod client;
pub mod cores;
pub mod http1;
pub mod http2;
pub mod proxy_protocol;
pub mod tls;
