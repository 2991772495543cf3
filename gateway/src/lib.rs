//! The gateway without I/O, clock or chance: what it is told, and what it decides of a request.
//!
//! ```text
//! value -> reader -> document     a text, JSON or TOML, into services and routes: or every fault of it
//!                        table    which route a request belongs to
//!    policy, cors, auth, ask, limit, compress    what becomes of it there
//! ```
//!
//! `host`, `path`, `query` and `fields` say how each of these is read, of documents and of requests alike. There is one
//! reading of each, or a refusal; what was matched is what is sent. `kept` is a
//! document as the cluster keeps and changes it, `told` how nodes tell balancers of it, `purge` what these are to forget,
//! `certificates` which certificate is shown to whom,
//! `exchange` what balancers tell one another of limits, `figures` what they tell nodes of what they do, `shift` how a
//! route goes over from one service to another, `sticky` which of its services who asks has again.

pub mod ask;
pub mod auth;
pub mod certificates;
pub mod compress;
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
pub mod purge;
pub mod query;
mod reader;
pub mod shift;
pub mod sticky;
pub mod table;
pub mod told;
mod value;

pub use document::Document;
pub use fault::{Fault, Refused};
pub use kept::Kept;
pub use table::Table;
