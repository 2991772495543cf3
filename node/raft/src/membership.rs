//! Who votes: a pure plan, the leader's task that carries it out, and the orderly way out.

pub mod leave;
pub mod plan;
pub mod reconciler;
pub mod stops;
