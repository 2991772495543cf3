//! Counts what is allocated, so that a target can say how much is too much.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Allocated whatever the input is: serde reserves up to 1 MiB for a sequence on the word of its
/// length, and sequences nest.
const FIXED_BYTES: usize = 4 * 1024 * 1024;

/// Allocated for each byte of input: the smallest encodings are one byte for a value that takes
/// dozens in memory, and a growing vector is up to three times its content while it moves.
const BYTES_PER_INPUT_BYTE: usize = 512;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call goes to the system's allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `decode` and panics where it held more memory at once than `input_bytes` can excuse.
pub fn bounded<T>(input_bytes: usize, decode: impl FnOnce() -> T) -> T {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let value = decode();
    let held = PEAK.load(Relaxed).saturating_sub(before);
    let limit = FIXED_BYTES + BYTES_PER_INPUT_BYTE * input_bytes;
    assert!(held <= limit, "{held} bytes were allocated for {input_bytes} bytes of input");
    value
}
