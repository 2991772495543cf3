//! The virtual addresses' own harness: hosts as network namespaces on a bridge. One source for both.
#![allow(dead_code)]

#[path = "../vrrp/support/effort.rs"]
pub mod effort;
#[path = "../vrrp/support/host.rs"]
pub mod host;
#[path = "../vrrp/support/lan.rs"]
pub mod lan;
