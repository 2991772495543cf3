//! What was found, made absolute, each once, and no more than there is room for. Pure.

use std::borrow::Cow;
use std::collections::HashSet;

use encoding_rs::Encoding;
use url::Url;

use super::{Cut, is_space};

/// Most names that are kept as they stand in a page, before they are resolved.
const CANDIDATES_MAX: usize = 20_000;
/// Most bytes of these.
const CANDIDATES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A name that is longer is left out.
const NAME_BYTES_MAX: usize = 16 * 1024;
/// Most images of one page.
pub const IMAGES_MAX: usize = 10_000;
/// Room for the names of a page as JSON: what a task's result may have, but for what is around them.
pub const NAMES_BYTES_MAX: usize = 256 * 1024 - 256;

/// What stands in a page, in its order.
#[derive(Debug, Default)]
pub struct Candidates {
    names: Vec<(Box<str>, bool)>,
    seen: HashSet<Box<str>>,
    bytes: usize,
    pub cut: Option<Cut>,
}

impl Candidates {
    /// One more; `of_head` where it came with the answer's head, and is not of the document's base.
    pub fn push(&mut self, name: &str, of_head: bool) {
        let name = name.trim_matches(|c| is_space(c) || c.is_ascii_control());
        if name.is_empty() || is_inline(name) || self.seen.contains(name) {
            return;
        }
        let too_many = self.names.len() >= CANDIDATES_MAX || self.bytes + name.len() > CANDIDATES_BYTES_MAX;
        if too_many || name.len() > NAME_BYTES_MAX {
            self.cut.get_or_insert(if too_many { Cut::Images } else { Cut::Names });
            return;
        }
        self.bytes += name.len();
        self.names.push((name.into(), of_head));
        self.seen.insert(name.into());
    }

    /// Their URLs against the document's, and against its base.
    pub fn resolve(
        self,
        document: &Url,
        base: &Url,
        encoding: &'static Encoding,
    ) -> (Vec<String>, Option<Cut>) {
        let encode: &dyn Fn(&str) -> Cow<'_, [u8]> = &|text| encoding.encode(text).0;
        let (mut images, mut seen, mut bytes) = (Vec::new(), HashSet::new(), 0);
        let mut cut = self.cut;
        for (name, of_head) in &self.names {
            let base = if *of_head { document } else { base };
            let parsed = Url::options().base_url(Some(base)).encoding_override(Some(encode)).parse(name);
            let Ok(mut url) = parsed else { continue };
            if !matches!(url.scheme(), "http" | "https") {
                continue;
            }
            url.set_fragment(None);
            let url = String::from(url);
            if !seen.insert(url.clone()) {
                continue;
            }
            // With quotes and a comma, and what JSON escapes.
            bytes += url.len() + 3 + url.bytes().filter(|b| matches!(b, b'\\' | b'"')).count();
            if images.len() == IMAGES_MAX || bytes > NAMES_BYTES_MAX {
                cut = Some(if bytes > NAMES_BYTES_MAX { Cut::Names } else { Cut::Images });
                break;
            }
            images.push(url);
        }
        (images, cut)
    }
}

/// What carries its image in itself, and may be long.
fn is_inline(name: &str) -> bool {
    let begins = |scheme: &str| name.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme));
    begins("data:") || begins("blob:")
}
