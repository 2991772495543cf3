//! Paths as the gateway reads them: one form, which is read the same again, or a refusal; and queries without keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::seeds;
use skep_gateway::{host, path, query};

fuzz_target!(init: seeds::write(seeds::gateway_paths), |bytes: &[u8]| {
    let folded = host::canonical(bytes);
    assert!(!folded.bytes().any(|b| b.is_ascii_uppercase()));
    if let Some(left) = query::without(bytes, &["key"]) {
        assert!(query::values(bytes, "key").next().is_some());
        assert!(query::values(&left, "key").next().is_none());
        assert_eq!(query::without(&left, &["key"]), None);
    }
    if let Ok(raw) = path::Read::raw(bytes) {
        // Whoever reads an encoded slash as one is led nowhere else by it.
        assert_eq!(path::canonical(raw.matched().as_bytes()).as_deref(), Ok(raw.matched()));
        assert_eq!(raw.form().is_ok(), path::canonical(bytes).is_ok());
        let all = path::PathPattern::Prefix(String::new());
        assert_eq!(raw.as_it_came(&all).map(str::as_bytes), Ok(bytes));
    }
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
