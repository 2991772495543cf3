//! `skep-balancer`; all of it is in the library, of which the image makes one program with the node's.

use std::process::ExitCode;

/// HTTP/2 and TLS make many small allocations on each request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    skep_balancer::program::run()
}
