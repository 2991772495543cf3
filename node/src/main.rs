//! `skep-node`; all of it is in the library, of which the image makes one program with the balancer's.

use std::process::ExitCode;

/// A request makes dozens of small allocations, and glibc's allocator showed in every profile.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    skep_node::program::run()
}
