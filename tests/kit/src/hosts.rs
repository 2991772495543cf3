//! Hosts as network namespaces on one bridge, the programs on them, and clients that never stop asking.

pub mod attempts;
pub mod keepalived;
pub mod lan;
pub mod names;
pub mod nodes;
pub mod program;
