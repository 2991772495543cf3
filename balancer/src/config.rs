//! Configuration: what the command line, the environment and a TOML file ask for.
//!
//! Owns the flags, their environment names, their file keys, defaults and bounds. Pure but for
//! reading the files that it is pointed at (the TOML file, the cluster key). Nothing binds, logs
//! or starts here: a bad value is a [`ConfigError`] that names where it came from.
//!
//! Precedence: flag, then environment, then file (`--config`), then default. An environment
//! variable that is set but empty counts as not set.

mod args;
mod error;
mod layers;
mod secret;
mod serve;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;

use clap::{CommandFactory, FromArgMatches};

pub use error::ConfigError;
pub use serve::{LogConfig, LogFormat, ServeConfig};

use args::{Cli, VerbArgs};
use layers::Layers;

/// What the program is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// No verb: balance.
    Serve(Box<ServeConfig>),
    Backends {
        admin: SocketAddr,
        json: bool,
    },
    Health {
        admin: SocketAddr,
        live: bool,
        json: bool,
    },
}

/// Reads the command line (program name first) and what stands behind it.
///
/// `env` looks up an environment variable; `main` passes `|name| std::env::var_os(name)`.
pub fn parse<I, A>(args: I, env: impl Fn(&str) -> Option<OsString>) -> Result<Invocation, ConfigError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let matches = Cli::command().try_get_matches_from(args).map_err(ConfigError::Usage)?;
    let cli = Cli::from_arg_matches(&matches).map_err(ConfigError::Usage)?;
    let layers = Layers::new(&cli, &env)?;
    let Some(verb) = cli.verb else {
        return serve::resolve(&layers).map(Box::new).map(Invocation::Serve);
    };
    // A flag that a verb would ignore is a mistake; saying nothing would hide it.
    if let Some(flag) = cli.serve.first_given() {
        return Err(ConfigError::NotForVerb { flag });
    }
    let admin = serve::admin_to_ask(&layers)?;
    Ok(match verb {
        VerbArgs::Backends(output) => Invocation::Backends { admin, json: output.json },
        VerbArgs::Health { live, output } => Invocation::Health { admin, live, json: output.json },
    })
}

#[cfg(test)]
mod tests;
