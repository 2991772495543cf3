//! `skep-worker`.

use std::process::ExitCode;

fn main() -> ExitCode {
    skep_worker::program::run()
}
