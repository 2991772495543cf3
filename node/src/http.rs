//! The HTTP API and the admin API.
//!
//! `serve` owns the listeners' and the connections' tasks; a handler's future may be dropped at
//! any await (its client left): a write that it began may still take effect. Requests flow
//! `serve -> app (metrics, Skep-Served-By) -> router -> messages | text | admin -> api`, where
//! `api` names what the handlers ask of the service, so that tests can put a fake behind real
//! sockets.
//!
//! Limits: connections, head bytes, body bytes, time for a head and for a body: each a named
//! constant or a field of [`ServeLimits`].

mod accept;
pub mod admin;
pub mod api;
mod app;
mod assets;
mod body;
mod encode;
mod endpoint;
mod entry;
mod export;
#[cfg(test)]
pub(crate) mod fake;
mod idempotency;
mod json;
mod live;
mod members;
mod messages;
mod openapi;
mod page;
mod problem;
mod public;
mod query;
mod refusal;
mod schema;
mod serve;
mod text;
mod token;

pub use admin::admin_app;
pub use api::{AdminApi, MessageApi, NodeAdmin};
pub use app::App;
pub use problem::{Problem, ProblemKind};
pub use public::public_app;
pub use serve::{ServeLimits, Stage, serve};
pub use token::OperatorToken;

#[cfg(test)]
mod tests;
