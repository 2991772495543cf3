//! Forwarding: one request to one backend after another until one answers, whatever protocol it
//! came by.
//!
//! `exchange -> plan -> dispatch -> idle -> upstream`; `downstream` is the client's side, `queue` who waits
//! where all backends are full, `retry` the rule by which a request is sent again, `problem` what is said
//! where none answers.

pub(crate) mod dispatch;
pub(crate) mod downstream;
pub(crate) mod exchange;
mod idle;
pub(crate) mod plan;
pub(crate) mod problem;
mod queue;
pub mod retry;
pub(crate) mod upstream;
