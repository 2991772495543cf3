//! The skep node: gossip membership, a Raft-replicated store, and the HTTP API over it.
//!
//! Data flows one way: `main -> server -> api -> kinds -> http -> service` and
//! `server -> group -> service`, and from there into the crates below:
//! `store -> raft -> state`, `members`, `base`.

pub mod api;
pub mod config;
pub mod group;
pub mod http;
pub mod kinds;
pub mod listen;
pub mod program;
pub mod recover;
pub mod server;
pub mod service;
pub mod telemetry;
pub mod verbs;
