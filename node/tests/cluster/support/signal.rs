//! Signals to processes that a test started.
//!
//! The standard library sends SIGKILL alone; the rest is one system call.
#![allow(unsafe_code)]

use std::process::Child;

pub const TERM: i32 = libc::SIGTERM;
pub const STOP: i32 = libc::SIGSTOP;
pub const CONT: i32 = libc::SIGCONT;

/// Sends `signal` to a child that has not been waited for, so that its id is still its own.
pub fn send(child: &Child, signal: i32) {
    // SAFETY: kill(2) touches no memory of this process; the id is that of an unreaped child.
    let result = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    assert_eq!(result, 0, "kill({}, {signal}): {}", child.id(), std::io::Error::last_os_error());
}

/// Whether tests may mount file systems here.
pub fn is_root() -> bool {
    // SAFETY: geteuid(2) has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
