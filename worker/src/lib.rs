//! Does the tasks of a skep cluster: claims them from its nodes, has them done by a program or by a server
//! beside it, and says what came of them.
//!
//! `run` wires it together. `claims` asks for tasks, one request at a time, and begins each; `held` knows
//! which are here; `doing` has one done, and stops it; `ends` says what came of it, until a node has
//! heard; `beats` keeps what is held, and tells what is lost. All of them ask by `client`, in the words of
//! `api`.
//!
//! Nothing here is durable: what a worker held when it died is another's once its lease is over, and its
//! fence is worth nothing then. Limits are named constants beside what obeys them.

mod api;
mod beats;
mod claims;
mod client;
mod config;
mod doing;
mod ends;
mod held;
mod metrics;
pub mod program;
mod run;
