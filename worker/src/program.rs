//! The program: what was asked for, and who does it. Exit statuses are `skep_base::process`'s.

use std::process::ExitCode;

use skep_base::process::Process;
use skep_console::verbs::{exit, health};

use crate::config::{self, Invocation};
use crate::run;

const WORKER: Process = Process { name: "skep-worker", libraries: "hyper=warn" };

/// From the process's arguments to its exit status.
pub fn run() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Work(config)) => WORKER.serve(&config.log.clone(), run::run(*config)),
        Ok(Invocation::Health { admin, of, json }) => WORKER
            .block_on(async { exit(WORKER.name, health(admin, of, json, &mut std::io::stdout()).await) }),
        Err(error) => WORKER.refuse(&error),
    }
}
