//! Configuration: what the command line, the environment and a TOML file ask for.
//!
//! Owns the node's settings and verbs, their defaults and bounds. How they are read, and which
//! layer counts, is `skep_base::settings`'.

mod args;
mod kept;
mod serve;
mod settings;
mod shift;
mod verb;

use std::ffi::OsString;

use skep_base::settings::ConfigError;

pub use args::command_for_docs;
pub use serve::ServeConfig;
pub use settings::{BODY_BYTES_LIMIT, EXPECT_MAX, VOTERS_MAX};
pub use shift::ShiftVerb;
pub use verb::{ConfigVerb, HealthOf, Part, SnapshotVerb, TasksVerb, Verb};

use args::VerbArgs;

/// What the program is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// No verb: run a node.
    Serve(Box<ServeConfig>),
    /// An operator verb.
    Verb(Verb),
}

/// Reads the command line (program name first) and what stands behind it.
///
/// `env` looks up an environment variable; `main` passes `|name| std::env::var_os(name)`.
pub fn parse<I, A>(args: I, env: impl Fn(&str) -> Option<OsString>) -> Result<Invocation, ConfigError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let (layers, verb) =
        skep_base::settings::parse::<VerbArgs, _, _>(args::program(), settings::SETTINGS, args, &env)?;
    match verb {
        None => serve::resolve(&layers).map(Box::new).map(Invocation::Serve),
        Some(verb) => verb::resolve(verb, &layers).map(Invocation::Verb),
    }
}

#[cfg(test)]
mod tests;
