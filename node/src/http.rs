//! HTTP that knows no resource: connections, limits, bodies, negotiation, problems.
//!
//! [`serve`], the console's, owns the listeners' and the connections' tasks; a handler's future may be dropped at
//! any await (its client left): a write that it began may still take effect. Requests flow
//! `serve -> app (metrics, Skep-Served-By) -> router`, whose routes are those of [`crate::kinds`] and
//! [`crate::api`].
//!
//! Limits: connections, head bytes, body bytes, time for a head and for a body: each a named
//! constant or a field of [`ServeLimits`].

pub(crate) mod account;
pub(crate) mod app;
pub(crate) mod body;
pub(crate) mod browser;
pub(crate) mod conditions;
pub(crate) mod encode;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod idempotency;
pub(crate) mod json;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod token;

pub use account::{ACCOUNT_BYTES_MIN, Account};
pub use app::App;
pub use browser::Origins;
pub use problem::{Problem, ProblemKind};
pub use skep_console::{ServeLimits, Stage, serve};
pub use token::{OperatorToken, WorkerToken};
