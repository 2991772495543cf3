//! What skep replicates, and what operations make of it. Every node applies the same operations in
//! the same order and comes to the same; so nothing here has a clock, a random number or a file.

pub mod command;
pub mod message;
