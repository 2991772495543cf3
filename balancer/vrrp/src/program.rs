//! The program that holds addresses and is no proxy. Exit statuses are `skep_base::process`'s.

use std::process::ExitCode;

use skep_base::process::Process;

use crate::config::{self, AgentConfig};
use crate::{VrrpConfig, agent, capability};

/// It goes by the name of the program whose verb it is.
const HOLDER: Process = Process { name: "skep-balancer", libraries: "chitchat=warn" };

/// From the process's arguments to its exit status.
pub fn run() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(config) => hold(config),
        Err(error) => HOLDER.refuse(&error),
    }
}

/// The same for a program that has read its arguments.
pub fn hold(config: AgentConfig) -> ExitCode {
    match check(&config.vrrp) {
        Ok(()) => {
            capability::drop_others();
            HOLDER.serve(&config.log.clone(), agent::run(config))
        }
        Err(refused) => refused,
    }
}

/// What the configuration says of this host, held against the host: a bad one binds nothing.
pub fn check(config: &VrrpConfig) -> Result<(), ExitCode> {
    const BAD_CONFIGURATION: u8 = 2;
    let Err(error) = crate::check(config) else { return Ok(()) };
    eprintln!("error: {error}");
    Err(ExitCode::from(BAD_CONFIGURATION))
}
