//! The skep balancer: finds the nodes by gossip and spreads HTTP traffic over them.
//!
//! Data flows one way, and imports go with it:
//!
//! ```text
//! main -> program -> config, verbs, control      what was asked for, and who does it
//!                            control -> listen, pools, status, operator, metrics, kong      the wiring
//! listen -> gateway -> forward -> core -> pools   a request's way to a backend
//!     `--------`---------`---------`----> wire    HTTP/1.1 as bytes
//! ```
//!
//! A step may be left out, none goes back: what must go upward travels by a channel that
//! `control` makes. No two modules use each other but parent and child. `skep-vrrp` stands beside all
//! that: it depends on nothing here, and is told by channels.
//!
//! Public is what the tests and the fuzzers speak to; [`program::run`] is all that a program needs.

mod config;
mod control;
pub mod core;
pub mod forward;
mod gateway;
mod kong;
pub mod listen;
mod metrics;
mod operator;
pub mod pools;
pub mod program;
mod status;
mod verbs;
pub mod wire;
