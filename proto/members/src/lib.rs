//! Who is there, and who may be: what the cluster key gives, where peers are, and gossip.
//!
//! Data flows `key -> seal, stored -> data_key`, `key -> seal, tls, tickets -> in_force` and `in_force, seeds, advertise -> gossip`; everything that
//! is sent is sealed.

pub mod advertise;
pub mod data_key;
pub mod gossip;
pub mod in_force;
pub mod key;
pub mod seal;
pub mod seeds;
pub mod settings;
pub mod stored;
pub mod tickets;
pub mod tls;
