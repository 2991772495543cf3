//! The program: what was asked for, and who does it. Exit statuses are `skep_base::process`'s.

use std::process::ExitCode;

use skep_base::process::Process;
use skep_console::verbs::{HealthOf, VerbError, exit, health};

use crate::config::{self, AgentConfig, Invocation};
use crate::vrrp::{self, VrrpConfig};
use crate::{agent, control, verbs};

const BALANCER: Process = Process { name: "skep-balancer", libraries: "chitchat=warn" };

/// From the process's arguments to its exit status.
pub fn run() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Serve(config)) => match check(config.vrrp.as_ref()) {
            Ok(()) => BALANCER.serve(&config.log.clone(), control::run(*config)),
            Err(refused) => refused,
        },
        Ok(Invocation::Vrrp(config)) => hold_as(*config),
        Ok(Invocation::Backends { admin, json }) => ask(verbs::backends(admin, json, &mut std::io::stdout())),
        Ok(Invocation::Health { admin, live, json }) => {
            let of = if live { HealthOf::Live } else { HealthOf::Ready };
            ask(health(admin, of, json, &mut std::io::stdout()))
        }
        Err(error) => BALANCER.refuse(&error),
    }
}

/// `skep-balancer vrrp` and nothing else: for a program that is no proxy.
pub fn hold() -> ExitCode {
    match config::parse_vrrp(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(config) => hold_as(config),
        Err(error) => BALANCER.refuse(&error),
    }
}

fn hold_as(config: AgentConfig) -> ExitCode {
    match check(Some(&config.vrrp)) {
        Ok(()) => {
            vrrp::capability::drop_others();
            BALANCER.serve(&config.log.clone(), agent::run(config))
        }
        Err(refused) => refused,
    }
}

/// What the configuration says of this host, held against the host: a bad one binds nothing.
fn check(config: Option<&VrrpConfig>) -> Result<(), ExitCode> {
    const BAD_CONFIGURATION: u8 = 2;
    let Some(Err(error)) = config.map(vrrp::check) else { return Ok(()) };
    eprintln!("error: {error}");
    Err(ExitCode::from(BAD_CONFIGURATION))
}

fn ask(verb: impl Future<Output = Result<(), VerbError>>) -> ExitCode {
    BALANCER.block_on(async { exit(BALANCER.name, verb.await) })
}
