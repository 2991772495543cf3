//! Sets of backends: where they come from, what probes and traffic show of them, which one is chosen.

pub mod backends;
pub mod choose;
pub mod probe;
pub mod registry;
pub mod source;
