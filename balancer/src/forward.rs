//! Forwarding: one request to one backend after another until one answers, whatever protocol it
//! came by.

pub mod body;
pub mod buffer;
pub mod chunked;
pub mod exchange;
pub mod headers;
pub mod pool;
pub mod problem;
pub mod request_head;
pub mod response_head;
pub mod retry;
pub mod splice;
pub mod timer;
pub mod upstream;

#[cfg(test)]
mod corpus;
