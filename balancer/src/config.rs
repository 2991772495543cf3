//! Configuration: what the command line, the environment and a TOML file ask for.
//!
//! Owns the balancer's settings and verbs, their defaults and bounds. How they are read, and which
//! layer counts, is `skep_base::settings`'.

mod args;
mod serve;
mod settings;

use std::ffi::OsString;
use std::net::SocketAddr;

use skep_base::settings::ConfigError;
use skep_console::verbs::HealthOf;
use skep_vrrp::config::{AgentConfig, VERB as VRRP};

pub use serve::ServeConfig;

use args::VerbArgs;

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
        of: HealthOf,
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
        return skep_vrrp::config::parse(args, env).map(Box::new).map(Invocation::Vrrp);
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
        VerbArgs::Health { started, live, output } => {
            let of = match (started, live) {
                (true, _) => HealthOf::Started,
                (false, true) => HealthOf::Live,
                (false, false) => HealthOf::Ready,
            };
            Invocation::Health { admin, of, json: output.json }
        }
    })
}

#[cfg(test)]
mod tests;
