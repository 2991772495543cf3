//! What both skep programs share.
//!
//! Data flows `id, message -> command -> codec` on the way to the log and the wire, and
//! `key -> seal -> gossip` on the way to the peers.

pub mod advertise;
pub mod codec;
pub mod command;
pub mod gossip;
pub mod id;
pub mod key;
pub mod message;
pub mod seal;
pub mod seeds;
pub mod tls;
