//! `robots.txt`: what is read of a file is bounded, and a path is judged the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_crawl::robots::Rules;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;

fuzz_target!(init: seeds::write(seeds::robots), |bytes: &[u8]| {
    // The first line is the path, in ASCII as in a URL.
    let (path, file) = bytes.split_at(bytes.iter().position(|b| *b == b'\n').unwrap_or(0));
    let path: String = path.iter().map(|b| char::from(b & 0x7f)).collect();
    let path = format!("/{path}");
    let rules = bounded(bytes.len(), || Rules::parse(file, "skep-worker"));
    let allows = rules.allow(&path);
    assert_eq!(Rules::parse(file, "SKEP-WORKER").allow(&path), allows, "a name has no case");
    // More of nobody's lines says nothing more.
    let more = [file, b"\nsitemap: http://example.org/x\n"].concat();
    assert_eq!(Rules::parse(&more, "skep-worker"), rules);
    assert!(Rules::default().allow(&path));
});
