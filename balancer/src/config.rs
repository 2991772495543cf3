//! Configuration: what the command line, the environment and a TOML file ask for.
//!
//! Owns the balancer's settings and verbs, their defaults and bounds. How they are read, and which
//! layer counts, is `skep_base::settings`'.

mod args;
mod serve;
mod settings;
mod vrrp;

use std::ffi::OsString;
use std::net::SocketAddr;

use skep_base::settings::ConfigError;

pub use serve::ServeConfig;
pub use vrrp::AgentConfig;

use args::{NoVerb, VerbArgs};

/// The verb that stands first, and whose flags are its own.
pub const VRRP: &str = "vrrp";

/// What the program is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// No verb: balance.
    Serve(Box<ServeConfig>),
    /// Hold virtual addresses alone.
    Vrrp(Box<AgentConfig>),
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
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.get(1).is_some_and(|verb| verb == VRRP) {
        return parse_vrrp(args, env).map(Box::new).map(Invocation::Vrrp);
    }
    let (layers, verb) =
        skep_base::settings::parse::<VerbArgs, _, _>(args::program(), settings::SETTINGS, args, &env)?;
    let Some(verb) = verb else {
        return serve::resolve(&layers).map(Box::new).map(Invocation::Serve);
    };
    let admin = layers.address_to_ask(&settings::ADMIN)?;
    Ok(match verb {
        VerbArgs::Vrrp => {
            let reason = "the verb stands first, and its flags after it".to_owned();
            return Err(ConfigError::Invalid { origin: "vrrp".into(), reason });
        }
        VerbArgs::Backends(output) => Invocation::Backends { admin, json: output.json },
        VerbArgs::Health { live, output } => Invocation::Health { admin, live, json: output.json },
    })
}

/// Reads a command line whose verb is [`VRRP`], or, of a program that has no other, none.
pub fn parse_vrrp<I, A>(args: I, env: impl Fn(&str) -> Option<OsString>) -> Result<AgentConfig, ConfigError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    // Its flags are its own: the verb is no argument among them.
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.get(1).is_some_and(|verb| verb == VRRP) {
        args.remove(1);
    }
    let (layers, _) = skep_base::settings::parse::<NoVerb, _, OsString>(
        args::vrrp_program(),
        vrrp::rows::SETTINGS,
        args,
        &env,
    )?;
    vrrp::resolve_alone(&layers)
}

#[cfg(test)]
mod tests;
