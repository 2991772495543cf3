//! What tests of whole programs need: the programs as they were built, clusters and hosts of them,
//! clients, and an oracle that judges what the nodes hold.
//!
//! Whatever a test makes here is its own, also beside other tests of other processes: a loopback subnet
//! that is claimed (`cluster::subnet`), network namespaces that carry the process's id (`hosts::lan`),
//! folders with names that nobody else has. All of it goes with the value that made it.

pub mod clients;
pub mod cluster;
pub mod effort;
pub mod faults;
pub mod folders;
pub mod history;
pub mod hosts;
pub mod monitoring;
pub mod mount;
pub mod programs;
pub mod random;
pub mod site;
pub mod swarm;
pub mod wait;

pub use clients::http::Client;
pub use clients::load::{Ledger, Load, LoadOptions, Targets};
pub use cluster::Cluster;
pub use cluster::node::Node;
