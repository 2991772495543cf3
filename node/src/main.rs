//! The program: what was asked for, a log, a runtime, and an exit status.
//! 0: an orderly end. 1: it failed while running. 2: bad flags or configuration; nothing bound.

use std::process::ExitCode;

use skep_node::config::{self, Invocation, ServeConfig};
use skep_node::{server, telemetry, verbs};

/// A request makes dozens of small allocations, and glibc's allocator showed in every profile.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Serve(config)) => serve(*config),
        Ok(Invocation::Verb(verb)) => block_on(verbs::run(verb)),
        Err(error) => {
            error.print();
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(config: ServeConfig) -> ExitCode {
    if let Err(error) = telemetry::init(&config.log) {
        eprintln!("skep-node: {error}");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    block_on(async {
        match server::run(config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::from(FAILED)
            }
        }
    })
}

/// One thread carries a node: consensus is a chain of short steps, and handing them between
/// threads costs more than it gains. What blocks has threads of its own.
fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(future);
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("skep-node: the runtime does not start: {error}");
            ExitCode::from(FAILED)
        }
    }
}
