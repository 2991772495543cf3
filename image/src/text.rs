//! Gives back the pages of code that only the start needed: parsing of the command line, keys, the
//! opening of everything. They lie in the kernel's cache of the file all the same, and what runs on
//! faults its own pages in again; an idle address holder is the half of it smaller.
//!
//! One thread, which ends after that.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs;
use std::time::Duration;

/// By then a process has started, or has ended.
const AFTER: Duration = Duration::from_secs(10);

/// Does so once the process has started.
pub fn give_back_later() {
    let thread = std::thread::Builder::new().name("text".into()).spawn(|| {
        std::thread::park_timeout(AFTER);
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let own = fs::read_link("/proc/self/exe").unwrap_or_default();
        for (start, end) in own.to_str().map(|own| text(&maps, own)).unwrap_or_default() {
            // SAFETY: the kernel lists this range as the program's own code, mapped privately and not
            // writable: what is dropped was never changed, and is read from the file where it is used.
            unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
        }
    });
    // It was only to save memory.
    drop(thread);
}

/// The ranges of a file's code in a list like `/proc/self/maps`.
fn text(maps: &str, file: &str) -> Vec<(usize, usize)> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        let path = words.nth(3)?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        (rights == "r-xp" && path == file && start < end).then_some((start, end))
    };
    maps.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_given_back() {
        let maps = "7f00-7fa0 r--p 00000000 fe:00 1 /bin/skep\n\
                    7fa0-8000 r-xp 00003000 fe:00 1 /bin/skep\n\
                    8000-8100 rw-p 00009000 fe:00 1 /bin/skep\n\
                    9000-9100 r-xp 00000000 fe:00 2 /lib/other.so\n\
                    a000-a100 r-xp 00000000 00:00 0 [vdso]\nnonsense\n";
        assert_eq!(text(maps, "/bin/skep"), [(0x7fa0, 0x8000)]);
        assert_eq!(text("", "/bin/skep"), []);
    }
}
