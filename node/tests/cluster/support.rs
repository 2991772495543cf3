//! The harness: processes, a client, writers, and the oracle that judges what the nodes hold.

pub mod balancer;
pub mod browser;
pub mod cluster;
pub mod effort;
pub mod feed;
pub mod http;
pub mod load;
pub mod logfile;
pub mod mount;
pub mod node;
pub mod oracle;
pub mod program;
pub mod random;
pub mod signal;
pub mod status;
pub mod subnet;
pub mod wait;

pub use cluster::Cluster;
pub use http::Client;
pub use load::{Ledger, Load, LoadOptions, Targets};
pub use node::Node;
