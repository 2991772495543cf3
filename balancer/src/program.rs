//! The program: what was asked for, and who does it. Exit statuses are `skep_base::process`'s.

use std::process::ExitCode;

use skep_base::process::Process;
use skep_console::verbs::{VerbError, exit, health};

use crate::config::{self, Invocation, ServeConfig};
use crate::{control, verbs};

const BALANCER: Process = Process { name: "skep-balancer", libraries: "chitchat=warn" };

/// From the process's arguments to its exit status.
pub fn run() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Serve(config)) => match can_serve(&config) {
            Ok(()) => BALANCER.serve(&config.log.clone(), control::run(*config)),
            Err(refused) => refused,
        },
        Ok(Invocation::Vrrp(config)) => skep_vrrp::program::hold(*config),
        Ok(Invocation::Backends { admin, json }) => ask(verbs::backends(admin, json, &mut std::io::stdout())),
        Ok(Invocation::Operate { verb, admin, token, json }) => {
            ask(verbs::operate(&verb, admin, token, json, &mut std::io::stdout()))
        }
        Ok(Invocation::CheckGateway { file, json }) => {
            told(verbs::gateway::check(&file, json, &mut std::io::stdout()))
        }
        Ok(Invocation::ExplainGateway { file, question, json }) => {
            told(verbs::gateway::explain(&file, &question, json, &mut std::io::stdout()))
        }
        Ok(Invocation::Health { admin, of, json }) => ask(health(admin, of, json, &mut std::io::stdout())),
        Err(error) => BALANCER.refuse(&error),
    }
}

/// Whether it may begin; what is wrong has been said.
fn can_serve(config: &ServeConfig) -> Result<(), ExitCode> {
    config.vrrp.as_ref().map_or(Ok(()), skep_vrrp::program::check)?;
    config.check().map_err(|error| BALANCER.refuse(&error))
}

/// What was found in this process alone, and whether it is well.
fn told(found: Result<bool, VerbError>) -> ExitCode {
    match found {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => exit(BALANCER.name, Err(error)),
    }
}

fn ask(verb: impl Future<Output = Result<(), VerbError>>) -> ExitCode {
    BALANCER.block_on(async { exit(BALANCER.name, verb.await) })
}
