//! What an operator sees of a program, the same of each: one admin server, one writer of problems, one
//! text of metrics, one client and one table for verbs.
//!
//! `server` owns the tasks of a listener's connections; `refusal` gives hyper's own answers their words.
//! `answer` has the routes that every program has, `admin` a program's own beside them where it needs no
//! more than a table; what it shows is `problem`s and `metrics`, in the form that `accept` finds is
//! wanted. `token` and `browser` say who may change something. `verbs` asks such a server by `client`, and shows a `table`.
//!
//! Knows nothing of what a program does. Limits: connections, head, body, time, each a named constant or
//! a field of [`ServeLimits`].

pub mod accept;
pub mod admin;
pub mod answer;
pub mod browser;
pub mod client;
pub mod metrics;
pub mod problem;
mod refusal;
pub mod server;
pub mod table;
pub mod token;
pub mod verbs;

pub use admin::Admin;
pub use answer::Answer;
pub use problem::{Problem, ProblemKind};
pub use server::{Answers, Counts, Proved, ServeLimits, Stage, serve, serve_behind};
