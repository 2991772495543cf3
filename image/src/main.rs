//! All programs in one file: `skep-node`, `skep-balancer` and `skep-worker` are names of it. They share the
//! most of their code (TLS, gossip, HTTP, the runtime), so the image is smaller than with a file for each.

mod holder;
#[path = "../../balancer/vrrp/src/names.rs"]
mod names;

use std::path::Path;
use std::process::ExitCode;

/// As in the programs of their own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BAD_USE: u8 = 2;

fn main() -> ExitCode {
    names::keep();
    let called = std::env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some("skep-node") => skep_node::program::run(),
        Some("skep-balancer") => {
            holder::become_it();
            skep_balancer::program::run()
        }
        Some("skep-worker") => skep_worker::program::run(),
        _ => {
            eprintln!("error: this is three programs: call it as skep-node, skep-balancer or skep-worker");
            ExitCode::from(BAD_USE)
        }
    }
}
