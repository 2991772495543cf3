//! The program: what was asked for, and who does it. Exit statuses are `skep_proto::process`'s.

use std::process::ExitCode;

use skep_node::config::{self, Invocation};
use skep_node::{server, verbs};
use skep_proto::process::Process;

/// A request makes dozens of small allocations, and glibc's allocator showed in every profile.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODE: Process = Process { name: "skep-node", libraries: "openraft=error,chitchat=warn" };

fn main() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Serve(config)) => NODE.serve(&config.log.clone(), server::run(*config)),
        Ok(Invocation::Verb(verb)) => NODE.block_on(verbs::run(verb)),
        Err(error) => NODE.refuse(&error),
    }
}
