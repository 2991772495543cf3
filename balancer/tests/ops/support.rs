//! The node's own harness, and a balancer before its cluster. One source for all.
#![allow(dead_code)]

#[path = "../nodes/balancer.rs"]
pub mod balancer;
#[path = "../../../node/tests/cluster/support/load.rs"]
pub mod load;
#[path = "../nodes/support.rs"]
mod shared;

pub use shared::*;
