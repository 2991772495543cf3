//! The skep node: gossip membership, a Raft-replicated store, and the HTTP API over it.
//!
//! Data flows one way: `main -> server -> http -> service -> raft -> store -> proto`.

pub mod config;
pub mod http;
pub mod identity;
pub mod listen;
pub mod program;
pub mod raft;
pub mod recover;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod verbs;
