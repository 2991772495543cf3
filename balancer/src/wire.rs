//! HTTP/1.1 as bytes: heads, fields, chunks, bodies. Pure, and fuzzed.
//!
//! `body -> response_head -> write -> request_head -> fields`, and `body -> chunked -> fields`. Nothing is
//! copied: heads are spans into what they were read from.

pub mod body;
pub mod chunked;
pub mod fields;
pub mod request_head;
pub mod response_head;
pub mod write;

#[cfg(test)]
mod corpus;
