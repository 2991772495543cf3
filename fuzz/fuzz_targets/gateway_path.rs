//! Paths as the gateway reads them: one form, which is read the same again, or a refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::seeds;
use skep_gateway::{host, path};

fuzz_target!(init: seeds::write(seeds::gateway_paths), |bytes: &[u8]| {
    let folded = host::canonical(bytes);
    assert!(!folded.bytes().any(|b| b.is_ascii_uppercase()));
    let Ok(read) = path::canonical(bytes) else { return };
    assert_eq!(path::canonical(read.as_bytes()).as_deref(), Ok(&*read), "read again, it is another");
    let mut segments: Vec<&str> = path::segments(&read).collect();
    // A slash at the end is no empty segment.
    segments.pop_if(|it| it.is_empty());
    for segment in segments {
        assert!(!segment.is_empty() && segment != "." && segment != ".." && !segment.contains('\\'));
        let upper = segment.to_ascii_uppercase();
        assert!(!["%2F", "%5C", "%00", "%2E"].iter().any(|it| upper.contains(it)), "{segment}");
    }
    if let Some(below) = path::without(&read, "/a") {
        assert!(below.starts_with('/'));
    }
});
