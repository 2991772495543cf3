//! How a process begins and ends: a log, a runtime, and an exit status.
//! 0: an orderly end. 1: it failed while running. 2: bad flags or configuration; nothing bound.

pub mod files;
pub mod memory;
pub mod usage;

use std::process::ExitCode;

use crate::log::{self, LogConfig};
use crate::settings::ConfigError;

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

/// A program's name, for what it says before it logs, and the log filter of its libraries.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pub name: &'static str,
    /// See [`log::init`].
    pub libraries: &'static str,
}

impl Process {
    /// Says what is wrong with the configuration, or prints the help that was asked for.
    pub fn refuse(self, error: &ConfigError) -> ExitCode {
        error.print();
        ExitCode::from(error.exit_code())
    }

    /// Logs, and runs `service` to its end.
    pub fn serve(self, log: &LogConfig, service: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
        if let Err(error) = log::init(log, self.libraries) {
            eprintln!("{}: {error}", self.name);
            return ExitCode::from(BAD_CONFIGURATION);
        }
        self.block_on(async {
            match service.await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{error:#}");
                    ExitCode::from(FAILED)
                }
            }
        })
    }

    /// Runs a future on this thread. One thread carries a node's consensus: it is a chain of short
    /// steps, and handing them between threads costs more than it gains. What blocks, what forwards
    /// traffic, and where there are cores for them what clients ask, has threads of its own.
    pub fn block_on(self, future: impl Future<Output = ExitCode>) -> ExitCode {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let code = runtime.block_on(future);
                runtime.shutdown_background();
                code
            }
            Err(error) => {
                eprintln!("{}: the runtime does not start: {error}", self.name);
                ExitCode::from(FAILED)
            }
        }
    }
}
