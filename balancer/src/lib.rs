//! The skep balancer: finds the nodes by gossip and spreads HTTP traffic over them.
//!
//! Data flows one way: `main -> server -> forward -> choose -> backends -> proto`.
//! `skep-vrrp` stands beside that: it depends on nothing here, and is told by channels.

pub mod config;
pub mod control;
pub mod core;
pub mod file_limit;
pub mod forward;
pub mod gateway;
pub mod listen;
pub mod metrics;
pub mod pools;
pub mod program;
pub mod status;
pub mod verbs;
pub mod wire;
