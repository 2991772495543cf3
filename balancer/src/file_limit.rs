//! The limit of open files: each connection is one, and each to a backend another.

/// Raises the soft limit to the hard one; what it is then.
#[allow(unsafe_code)] // getrlimit and setrlimit have no safe form in the standard library.
pub fn raise() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local of the type that the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return None;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is to a local that is filled in.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0;
    Some(if done { raised.rlim_cur } else { limit.rlim_cur })
}
