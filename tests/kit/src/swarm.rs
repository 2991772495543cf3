//! The lab of several hosts with a Swarm, the stack on it, a client on its LAN, and what came of its requests.

pub mod lab;
pub mod ledger;
pub mod more;
pub mod stack;
pub mod traffic;
pub mod visits;
