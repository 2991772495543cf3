//! Descriptors that this process was given and that programs shall not have: what it opens itself is closed in
//! them already.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

/// The last of stdin, stdout and stderr, which each program gets anew.
const STDERR: RawFd = 2;

/// Has all that is open closed in programs that are started from now on.
pub fn keep() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number: Option<RawFd> = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number > STDERR) else { continue };
        // SAFETY: nothing is read, written or closed by it; of one that was closed meanwhile the kernel says EBADF.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let kept =
            fcntl_getfd(descriptor).and_then(|flags| fcntl_setfd(descriptor, flags | FdFlags::CLOEXEC));
        match kept {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_without_the_flag_has_it() {
        let file = std::fs::File::open("/dev/null").unwrap();
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        keep().unwrap();
        assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
    }
}
