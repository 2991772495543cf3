//! The skep balancer: finds the nodes by gossip and spreads HTTP traffic over them.
//!
//! Data flows one way: `main -> server -> forward -> choose -> backends -> proto`.
//! `skep-vrrp` stands beside that: it depends on nothing here, and is told by channels.

pub mod access_log;
pub mod backends;
pub mod choose;
pub mod client;
pub mod config;
pub mod control;
pub mod file_limit;
pub mod forward;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod metrics;
pub mod probe;
pub mod program;
pub mod proxy_protocol;
pub mod server;
pub mod settings;
pub mod stats;
pub mod status;
pub mod tls;
pub mod verbs;
pub mod worker;
