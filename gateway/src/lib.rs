//! The gateway without I/O, clock or chance: what it is told, and what it decides of a request.
//!
//! ```text
//! value -> reader -> document     a text, JSON or TOML, into services and routes: or every fault of it
//!                        table    which route a request belongs to
//!    policy, cors, auth, limit    what becomes of it there
//! ```
//!
//! `host`, `path`, `query` and `fields` say how each of these is read, of documents and of requests alike. There is one
//! reading of each, or a refusal; what was matched is what is sent. `kept` is a
//! document as the cluster keeps and changes it, `told` how nodes tell balancers of it,
//! `exchange` what balancers tell one another of limits, `figures` what they tell nodes of what they do.

pub mod auth;
pub mod cors;
pub mod document;
pub mod exchange;
pub mod explain;
mod fault;
pub mod fields;
pub mod figures;
pub mod host;
pub mod kept;
pub mod limit;
mod names;
pub mod path;
pub mod policy;
pub mod query;
mod reader;
pub mod table;
pub mod told;
mod value;

pub use document::Document;
pub use fault::{Fault, Refused};
pub use kept::Kept;
pub use table::Table;
