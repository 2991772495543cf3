//! The lab, the client on its LAN, and what both are asked.

pub mod effort;
pub mod lab;
pub mod ledger;
pub mod stack;
pub mod traffic;
