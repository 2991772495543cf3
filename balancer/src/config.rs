//! Configuration: what the command line, the environment and a TOML file ask for.
//!
//! Owns the balancer's settings and verbs, their defaults and bounds. How they are read, and which
//! layer counts, is `skep_base::settings`'.

mod args;
pub(crate) mod gateway;
mod serve;
mod settings;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use skep_base::settings::{ConfigError, Output, values};
use skep_console::token;
use skep_console::verbs::HealthOf;
use skep_gateway::explain::Question;
use skep_vrrp::config::{AgentConfig, VERB as VRRP};

pub use serve::{BackendTlsConfig, ServeConfig};

use args::{GatewayArgs, VerbArgs};

use crate::pools::orders::EJECTION_MAX;

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
    /// Have something changed or shown.
    Operate {
        verb: OperatorVerb,
        admin: SocketAddr,
        /// The operators' token, as a field's value.
        token: Option<HeaderValue>,
        json: bool,
    },
    /// Say what is wrong with a gateway's document, if anything is.
    CheckGateway {
        file: PathBuf,
        json: bool,
    },
    /// Say which route of it would have a request, and what would become of that there.
    ExplainGateway {
        file: PathBuf,
        question: Question,
        json: bool,
    },
    Health {
        admin: SocketAddr,
        of: HealthOf,
        json: bool,
    },
}

/// What an operator may have changed or shown.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatorVerb {
    Drain {
        backend: String,
    },
    Undrain {
        backend: String,
    },
    Weigh {
        backend: String,
        weight: f64,
    },
    Eject {
        backend: String,
        length: Option<Duration>,
    },
    Reset {
        backend: String,
    },
    ShowLevel,
    /// None: as it was started with.
    SetLevel {
        filter: Option<String>,
    },
    RetryBudget,
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
    let operate = |verb, output: Output| {
        // What only shows something needs no token, nor to read its file.
        let token = match verb {
            OperatorVerb::ShowLevel | OperatorVerb::RetryBudget => None,
            _ => token::to_send(&layers, &settings::OPERATOR_TOKEN_FILE)?,
        };
        Ok(Invocation::Operate { verb, admin, token, json: output.json })
    };
    Ok(match verb {
        VerbArgs::Vrrp => {
            let reason = "the verb stands first, and its flags after it".to_owned();
            return Err(ConfigError::Invalid { origin: "vrrp".into(), reason });
        }
        VerbArgs::Backends(output) => Invocation::Backends { admin, json: output.json },
        VerbArgs::Gateway(GatewayArgs::Check { file, output }) => {
            Invocation::CheckGateway { file, json: output.json }
        }
        VerbArgs::Gateway(GatewayArgs::Explain { file, url, method, header, from, output }) => {
            let question = Question { url, method, headers: header, from };
            Invocation::ExplainGateway { file, question, json: output.json }
        }
        VerbArgs::Drain { backend, output } => operate(OperatorVerb::Drain { backend }, output)?,
        VerbArgs::Undrain { backend, output } => operate(OperatorVerb::Undrain { backend }, output)?,
        VerbArgs::Weigh { backend, weight, output } => {
            operate(OperatorVerb::Weigh { backend, weight }, output)?
        }
        VerbArgs::Eject { backend, length, output } => {
            let length = length.as_deref().map(|text| values::duration_up_to(text, EJECTION_MAX)).transpose();
            let length = length.map_err(|reason| ConfigError::Invalid { origin: "--for".into(), reason })?;
            operate(OperatorVerb::Eject { backend, length }, output)?
        }
        VerbArgs::Reset { backend, output } => operate(OperatorVerb::Reset { backend }, output)?,
        VerbArgs::LogLevel { filter: None, reset: false, output } => {
            operate(OperatorVerb::ShowLevel, output)?
        }
        VerbArgs::LogLevel { filter, output, .. } => operate(OperatorVerb::SetLevel { filter }, output)?,
        VerbArgs::RetryBudget(output) => operate(OperatorVerb::RetryBudget, output)?,
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
