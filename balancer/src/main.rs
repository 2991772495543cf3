//! The program: what was asked for, a log, a runtime, and an exit status.
//! 0: an orderly end. 1: it failed while running. 2: bad flags or configuration; nothing bound.

use std::process::ExitCode;

use skep_balancer::config::{self, Invocation, ServeConfig};
use skep_balancer::{control, log, verbs};

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Invocation::Serve(config)) => serve(*config),
        Ok(Invocation::Backends { admin, json }) => ask(verbs::backends(admin, json)),
        Ok(Invocation::Health { admin, live, json }) => ask(verbs::health(admin, live, json)),
        Err(error) => {
            error.print();
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(config: ServeConfig) -> ExitCode {
    if let Err(error) = log::init(&config.log) {
        eprintln!("skep-balancer: {error}");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    block_on(async {
        match control::run(config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::from(FAILED)
            }
        }
    })
}

fn ask(verb: impl Future<Output = bool>) -> ExitCode {
    block_on(async { if verb.await { ExitCode::SUCCESS } else { ExitCode::from(FAILED) } })
}

fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(future);
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("skep-balancer: the runtime does not start: {error}");
            ExitCode::from(FAILED)
        }
    }
}
