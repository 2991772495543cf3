//! Nodes on hosts of their own (network namespaces on one bridge), which are cut off from each other whole,
//! in part, or in one direction.
//!
//! Needs root and `ip`.

mod deposed;
mod histories;
mod measures;
