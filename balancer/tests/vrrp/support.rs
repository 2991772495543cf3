//! A network of namespaces, the programs on its hosts, and a client that never stops asking.

pub mod client;
pub mod effort;
pub mod host;
pub mod keepalived;
pub mod lan;
