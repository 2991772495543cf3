//! In place of libc's resolver: in a static program glibc's `getaddrinfo` loads libraries that are
//! not there, and crashes. Nothing of ours calls it (clippy.toml forbids it, proto's `seeds` asks name
//! servers itself), but a library has code that would; here that comes to an error.
#![allow(unsafe_code)]

use libc::{EAI_FAIL, addrinfo, c_char, c_int};

/// Has the linker take these for libc's.
pub fn keep() {
    std::hint::black_box((getaddrinfo as *const (), freeaddrinfo as *const ()));
}

// SAFETY: of C's signature, and touches nothing: a caller that obeys its contract reads `res` only
// after 0.
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    _node: *const c_char,
    _service: *const c_char,
    _hints: *const addrinfo,
    _res: *mut *mut addrinfo,
) -> c_int {
    EAI_FAIL
}

// SAFETY: of C's signature. There is never anything to free.
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(_res: *mut addrinfo) {}
