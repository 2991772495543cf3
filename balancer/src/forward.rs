//! Forwarding: one request to one backend after another until one answers, whatever protocol it
//! came by.
//!
//! `exchange -> plan -> dispatch -> idle -> upstream`; `downstream` is the client's side, `retry` the rule by
//! which a request is sent again, `problem` what is said where none answers.

pub mod dispatch;
pub mod downstream;
pub mod exchange;
mod idle;
pub mod plan;
pub mod problem;
pub mod retry;
pub mod upstream;
