//! The ground that every skep program stands on: it knows no peer, no message and no backend.
//!
//! `id` and `codec` name things and put them into bytes; `settings -> log -> process` is how a
//! process begins. `listen` opens sockets that others may share; `network` is a range of addresses; `random`
//! is chance that needs no secrecy.

pub mod codec;
pub mod id;
pub mod listen;
pub mod log;
pub mod network;
pub mod process;
pub mod random;
pub mod settings;
