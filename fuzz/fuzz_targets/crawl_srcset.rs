//! `srcset` and refreshes: what is found stands there, in its order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_crawl::extract::{refresh, srcset};
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;

fuzz_target!(init: seeds::write(seeds::srcsets), |bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let urls = bounded(bytes.len(), || srcset::urls(text).collect::<Vec<&str>>());
    let mut rest = text;
    for url in &urls {
        assert!(!url.is_empty() && !url.starts_with(',') && !url.ends_with(','));
        let at = rest.find(url).expect("a URL stands in the text, behind those before it");
        rest = &rest[at + url.len()..];
    }
    // Those that have no descriptors are read the same again.
    assert_eq!(srcset::urls(&urls.join(" , ")).collect::<Vec<&str>>(), urls);
    if let Some(refresh) = bounded(bytes.len(), || refresh::parse(text)) {
        assert!(refresh.url.is_none_or(|url| text.contains(&url)));
    }
});
