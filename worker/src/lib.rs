//! Does the tasks of a skep cluster: claims them from its nodes, has them done by a program or by a server
//! beside it, and says what came of them.
//!
//! `run` wires it together. `claims` asks for tasks, one request at a time; `work` sees each through: `doing`
//! has it done, and stops it; `ends` says what came of it, until a node has heard. `held` knows which are
//! here; `beats` keeps what is held, and tells what is lost; `stream` shows
//! nodes at once where the process dies. All of them share `worker`, and ask by
//! `client`, in the words of `api`.
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
mod pauses;
pub mod program;
mod run;
mod stream;
mod work;
mod worker;
