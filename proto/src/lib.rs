//! What both skep programs share.
//!
//! Data flows `id, message -> command -> codec` on the way to the log and the wire, and
//! `key -> seal -> gossip` on the way to the peers. `settings -> log -> process` is how a process
//! begins.

pub mod advertise;
pub mod codec;
pub mod command;
pub mod gossip;
pub mod id;
pub mod key;
pub mod log;
pub mod message;
pub mod process;
pub mod seal;
pub mod seeds;
pub mod settings;
pub mod tls;
