//! `skep-balancer vrrp` and nothing else. A holder of addresses is idle for most of its life, and its
//! memory is what the kernel maps of its program's file: in one without the proxy and the store that
//! is half of it. libc's allocator, for the same reason.

mod names;

use std::process::ExitCode;

fn main() -> ExitCode {
    names::keep();
    skep_vrrp::program::run()
}
