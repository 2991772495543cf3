//! Two or three nodes' networks over real loopback TCP and TLS.

mod calls;
mod edges;
mod failures;
mod hostile;
mod keys;
mod refusals;
mod snapshots;
pub(crate) mod world;
