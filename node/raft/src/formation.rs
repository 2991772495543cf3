//! How N new nodes become exactly one cluster, and what each of them keeps of it.

pub mod bootstrap;
pub mod identity;
