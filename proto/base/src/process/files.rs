//! The limit of open files: each connection is one, and each of a store's segments.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one; what it is then. Shells and container engines give a soft limit of
/// 1,024, which is for programs that use `select`.
pub fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = if raised.is_ok() { limit.maximum } else { limit.current };
    // None: without a limit.
    now.unwrap_or(u64::MAX)
}
