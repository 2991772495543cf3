//! The program: what was asked for, and who does it. Exit statuses are `skep_base::process`'s.

use std::process::ExitCode;

use skep_base::process::Process;

use crate::config::{self, Invocation};
use crate::{server, verbs};

const NODE: Process = Process { name: "skep-node", libraries: "openraft=error,chitchat=warn" };

/// From the process's arguments to its exit status.
pub fn run() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Serve(config)) => NODE.serve(&config.log.clone(), server::run(*config)),
        Ok(Invocation::Verb(verb)) => NODE.block_on(verbs::run(NODE.name, verb)),
        Err(error) => NODE.refuse(&error),
    }
}
