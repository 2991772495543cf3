//! HTTP/1.1 as bytes: heads, fields, chunks, bodies. Pure, and fuzzed.

pub mod body;
pub mod chunked;
pub mod fields;
pub mod request_head;
pub mod response_head;
pub mod write;

#[cfg(test)]
mod corpus;
