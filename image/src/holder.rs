//! `skep-balancer vrrp` has a file of its own, which takes less memory: `skep-vrrp`, beside this one.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Goes on as that program, if that is what was asked for. Comes back otherwise, and where there is no
/// such file: this one can do the same.
pub fn become_it() {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let args: Vec<_> = args.collect();
    if args.first().is_none_or(|verb| verb != skep_vrrp::config::VERB) {
        return;
    }
    let Ok(own) = std::env::current_exe() else { return };
    let failed = Command::new(own.with_file_name("skep-vrrp")).arg0(called).args(args).exec();
    if failed.kind() != std::io::ErrorKind::NotFound {
        eprintln!("skep-balancer: skep-vrrp does not run ({failed}); going on without it");
    }
}
