//! The gateway without I/O, clock or chance: what it is told, and what it decides of a request.
//!
//! `host`, `path` and `fields` say how each of these is read, of documents and of requests alike; `policy` what becomes
//! of a request where its route asks something of it. There is one reading of each, or a refusal; what was matched is
//! what is sent.

pub mod fields;
pub mod host;
pub mod path;
pub mod policy;
