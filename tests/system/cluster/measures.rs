//! What is held to a time, a share or a size: each of these takes the machine for itself.
//!
//! The name is what counts: `.config/nextest.toml` has whatever is in a module `measures` run alone.

mod balancing;
mod failover;
mod feed;
mod formation;
mod gateway_shift;
mod gossip_speed;
mod learner;
mod memory;
mod restart;
mod scale;
mod slow_disk;
mod stops;
mod worker;
