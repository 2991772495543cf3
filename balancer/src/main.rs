//! The program: what was asked for, and who does it. Exit statuses are `skep_proto::process`'s.

use std::process::ExitCode;

use skep_balancer::config::{self, Invocation};
use skep_balancer::{control, verbs};
use skep_proto::process::Process;

const BALANCER: Process = Process { name: "skep-balancer", libraries: "chitchat=warn" };

fn main() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Serve(config)) => BALANCER.serve(&config.log.clone(), control::run(*config)),
        Ok(Invocation::Backends { admin, json }) => ask(verbs::backends(admin, json)),
        Ok(Invocation::Health { admin, live, json }) => ask(verbs::health(admin, live, json)),
        Err(error) => BALANCER.refuse(&error),
    }
}

fn ask(verb: impl Future<Output = bool>) -> ExitCode {
    BALANCER.block_on(async { if verb.await { ExitCode::SUCCESS } else { ExitCode::FAILURE } })
}
