//! What skep replicates, and what operations make of it. Every node applies the same operations in
//! the same order and comes to the same; so nothing here has a clock, a random number or a file.
//!
//! `command` is what the log carries, [`kinds`] the list of what it changes. A [`kind::Kind`] has a
//! room of its own in `kinds/`, whose laws are the same for all (`laws`). What is too large to be
//! held in memory lies behind the port [`records::Records`], or in a [`heap::Heap`].

pub mod clock;
pub mod command;
pub mod gateway;
pub mod heap;
pub mod kind;
pub mod kinds;
#[cfg(test)]
mod laws;
pub mod level;
pub mod message;
pub mod part;
pub mod purge;
pub mod records;
pub mod rolling;
pub mod schedule;
pub mod section;
pub mod shift;
pub mod task;

pub use kinds::Kinds;
