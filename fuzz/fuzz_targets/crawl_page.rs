//! Pages: their images are URLs, each once, however the bytes come, and no more than there is room for.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use skep_crawl::extract::{Extracted, Head, IMAGES_MAX, NAMES_BYTES_MAX, extract};
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use url::Url;

/// Gives no more than so many bytes at once.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = out.len().min(self.1);
        self.0.read(&mut out[..most])
    }
}

fuzz_target!(init: seeds::write(seeds::pages), |bytes: &[u8]| {
    // What stands before the first line's end is of the answer's head.
    let (first, page) = bytes.split_at(bytes.iter().position(|b| *b == b'\n').unwrap_or(0));
    let text = String::from_utf8_lossy(first);
    let url = Url::parse("http://example.org/dir/page?q").expect("it is a URL");
    let head = Head { url: &url, content_type: Some(&text), links: vec![&text], refresh: Some(&text) };
    let Extracted { images, cut, refresh, error } = bounded(bytes.len(), || extract(page, &head));
    assert!(error.is_none(), "bytes that are there can be read");
    assert!(images.len() <= IMAGES_MAX);
    let mut length = 0;
    for (at, image) in images.iter().enumerate() {
        length += image.len() + 3;
        assert!(!images[..at.min(64)].contains(image), "{image} is there twice");
        let again = Url::parse(image).expect("an image is a URL");
        assert!(matches!(again.scheme(), "http" | "https") && again.fragment().is_none());
        assert_eq!(again.as_str(), image, "it is written as it is read");
    }
    assert!(length <= NAMES_BYTES_MAX);
    let slow = extract(Slow(page, 3), &head);
    assert_eq!((slow.images, slow.cut, slow.refresh), (images, cut, refresh), "by three bytes");
});
