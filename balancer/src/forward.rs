//! Forwarding: one request to one backend after another until one answers, whatever protocol it
//! came by.

pub mod exchange;
pub mod idle;
pub mod problem;
pub mod retry;
pub mod upstream;
