//! Forwarding: one request to one backend after another until one answers, whatever protocol it
//! came by.
//!
//! `compressed -> cached`, `ahead, ask, cached -> exchange -> plan -> dispatch -> idle -> upstream`, and `dispatches -> dispatch`; `cached` answers from what
//! is stored, `compressed` codes what goes to the client, `ask` asks a service whether a request may go on; `downstream` is the client's side, `ahead` the
//! part of a body that comes before a backend is chosen, `kept` what was sent of it, `queue` who waits
//! where all backends are full, `waiting` who is waited for and how long, `retry` the rule by which a request
//! is sent again, `problem` what is said where none answers.

pub(crate) mod ahead;
pub(crate) mod ask;
pub(crate) mod cached;
pub(crate) mod compressed;
pub(crate) mod dispatch;
pub(crate) mod dispatches;
pub(crate) mod downstream;
pub(crate) mod exchange;
mod idle;
mod kept;
pub(crate) mod plan;
pub(crate) mod problem;
mod queue;
pub mod retry;
pub mod trial;
pub(crate) mod upstream;
pub(crate) mod waiting;
