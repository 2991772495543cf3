//! The images of a page: every place in HTML, in its CSS and in the head of its answer that names one, in
//! the document's order, as absolute URLs, each once.
//!
//! The bytes are read once, as they are decoded, and nothing of them is kept but names: no tree is built. So
//! what a browser's tree would show (an `image` outside of SVG, a `source` outside of a `picture`) counts by
//! itself. Scripts do not run: what `noscript` and `template` have counts, what only a script would name does
//! not, but for the attributes by which libraries load late.
//!
//! Pure: hostile bytes in, names out. Bounds are constants here and in `names`.

mod charset;
mod css;
mod forms;
mod link;
mod names;
pub mod refresh;
pub mod srcset;

use std::convert::Infallible;
use std::io::{self, Read};

use html5gum::emitters::ForwardingEmitter;
use html5gum::emitters::callback::{Callback, CallbackEmitter, CallbackEvent};
use html5gum::{Emitter, IoReader, Span, State, Tokenizer};
use url::Url;

use charset::Text;
use forms::Tag;
use names::Candidates;
pub use names::{IMAGES_MAX, NAMES_BYTES_MAX};
use refresh::Refresh;

/// Most bytes of a page that are read, decoded; what is behind them is left out.
pub const PAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most attributes of one tag.
const ATTRIBUTES_MAX: usize = 256;
/// As much of an attribute's value is read.
const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Longest URL that others are resolved against, and that a browser is sent to.
const BASE_BYTES_MAX: usize = 8 * 1024;
/// Attributes that are kept: what `forms` knows, and what pages say of themselves.
const ATTRIBUTES: [&[u8]; 21] = [
    b"as",
    b"background",
    b"content",
    b"data",
    b"data-bg",
    b"data-lazy-src",
    b"data-original",
    b"data-src",
    b"data-srcset",
    b"href",
    b"http-equiv",
    b"imagesrcset",
    b"name",
    b"poster",
    b"property",
    b"rel",
    b"src",
    b"srcset",
    b"style",
    b"type",
    b"xlink:href",
];

/// What an answer's head says of its page.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    pub url: &'a Url,
    pub content_type: Option<&'a str>,
    pub links: Vec<&'a str>,
    pub refresh: Option<&'a str>,
}

/// Why not all images of a page are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The page is longer than is read.
    Bytes,
    /// It has more images than are kept.
    Images,
    /// Their names are longer than a result may be.
    Names,
}

impl Cut {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Images => "images",
            Self::Names => "names",
        }
    }
}

/// What a page has.
#[derive(Debug)]
pub struct Extracted {
    pub images: Vec<String>,
    pub cut: Option<Cut>,
    /// Where it sends a browser, and after how many seconds; none where that is itself.
    pub refresh: Option<(Url, u64)>,
    /// What stopped it from being read to its end.
    pub error: Option<io::Error>,
}

/// Reads a page.
pub fn extract(source: impl Read, head: &Head<'_>) -> Extracted {
    let mut scan = Scan { refresh: head.refresh.and_then(refresh::parse), ..Scan::default() };
    for link in head.links.iter().flat_map(|text| link::parse(text)) {
        let is_preload = forms::is_preload_of_image(Some(&link.rel), Some(&link.kind));
        if forms::is_icon(Some(&link.rel)) || is_preload {
            scan.candidates.push(&link.target, true);
        }
        if is_preload {
            srcset::urls(&link.srcset).for_each(|url| scan.candidates.push(url, true));
        }
    }
    let tld = head.url.domain().and_then(|host| host.rsplit('.').next());
    let source = Capped { source, left: PAGE_BYTES_MAX, is_cut: false };
    let (text, mut error) = match Text::new(source, head.content_type, tld) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(error)),
    };
    let mut encoding = encoding_rs::UTF_8;
    if let Some(mut text) = text {
        encoding = text.encoding();
        let emitter = Emit(CallbackEmitter::new(&mut scan));
        let read = Tokenizer::new_with_emitter(IoReader::new(&mut text), emitter).finish();
        error = read.err();
        if text.source().is_cut {
            scan.candidates.cut = Some(Cut::Bytes);
        }
    }
    let document = head.url;
    let base = scan.base.filter(|it| it.len() <= BASE_BYTES_MAX).and_then(|it| document.join(&it).ok());
    // Against any other scheme nothing resolves that is fetched, but what is absolute by itself.
    let base = base.filter(|it| matches!(it.scheme(), "http" | "https"));
    let base = base.as_ref().unwrap_or(document);
    let (images, cut) = scan.candidates.resolve(document, base, encoding);
    let refresh = scan.refresh.and_then(|it| {
        let url = it.url.filter(|url| url.len() <= BASE_BYTES_MAX)?;
        Some((base.join(&url).ok()?, it.seconds))
    });
    let is_same =
        |it: &(Url, u64)| it.0[..url::Position::AfterQuery] == document[..url::Position::AfterQuery];
    Extracted { images, cut, refresh: refresh.filter(|it| !is_same(it)), error }
}

/// A source of which no more than so many bytes are read.
struct Capped<R> {
    source: R,
    left: u64,
    is_cut: bool,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !out.is_empty() {
            self.is_cut |= self.source.read(&mut [0])? > 0;
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let read = self.source.read(&mut out[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What is known of a page so far.
#[derive(Default)]
struct Scan {
    candidates: Candidates,
    base: Option<String>,
    refresh: Option<Refresh>,
    tag: Tag,
    /// The attribute whose value comes next; none where it does not count.
    attribute: Option<Vec<u8>>,
    in_style: bool,
    in_noscript: bool,
    /// How what comes behind the tag that just ended is read.
    next: Option<State>,
}

impl Callback<Infallible, ()> for &mut Scan {
    fn handle_event(&mut self, event: CallbackEvent<'_>, _: Span<()>) -> Option<Infallible> {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                self.tag.name.clear();
                self.tag.name.extend_from_slice(name);
                self.tag.attributes.clear();
                self.attribute = None;
            }
            CallbackEvent::AttributeName { name } => {
                let is_kept = ATTRIBUTES.contains(&name) && self.tag.attributes.len() < ATTRIBUTES_MAX;
                // The first of a name counts.
                let is_new = || self.tag.get(name).is_none();
                self.attribute = (is_kept && is_new()).then(|| name.to_vec());
            }
            CallbackEvent::AttributeValue { value } => {
                if let Some(name) = self.attribute.take() {
                    if value.len() > VALUE_BYTES_MAX {
                        self.candidates.cut.get_or_insert(Cut::Names);
                    }
                    let value = &value[..value.len().min(VALUE_BYTES_MAX)];
                    self.tag.attributes.push((name, String::from_utf8_lossy(value).into_owned()));
                }
            }
            CallbackEvent::CloseStartTag { .. } => self.close(),
            CallbackEvent::EndTag { name } => match name {
                b"style" => self.in_style = false,
                b"noscript" => self.in_noscript = false,
                _ => {}
            },
            CallbackEvent::String { value } if self.in_style => {
                let candidates = &mut self.candidates;
                css::urls(&String::from_utf8_lossy(value), &mut |url| candidates.push(url, false));
            }
            _ => {}
        }
        None
    }
}

impl Scan {
    /// A start tag is whole.
    fn close(&mut self) {
        let Self { tag, candidates, .. } = self;
        forms::images(tag, &mut |url| candidates.push(url, false));
        let tag = &self.tag;
        match tag.name.as_slice() {
            b"base" if self.base.is_none() => self.base = tag.get(b"href").map(str::to_owned),
            // Who has no scripts is often sent away, and the page itself has the images.
            b"meta" if self.refresh.is_none() && !self.in_noscript => {
                let is_refresh = tag.get(b"http-equiv").is_some_and(|it| it.eq_ignore_ascii_case("refresh"));
                let content = tag.get(b"content").filter(|_| is_refresh);
                self.refresh = content.and_then(refresh::parse);
            }
            b"noscript" => self.in_noscript = true,
            _ => {}
        }
        self.in_style = tag.name == b"style";
        self.next = match tag.name.as_slice() {
            b"textarea" | b"title" => Some(State::RcData),
            b"plaintext" => Some(State::PlainText),
            b"script" => Some(State::ScriptData),
            b"style" | b"iframe" | b"xmp" | b"noembed" | b"noframes" => Some(State::RawText),
            _ => None,
        };
    }
}

/// Tells the tokenizer how to read what is behind a tag, as a browser without scripts does.
struct Emit<'a>(CallbackEmitter<&'a mut Scan>);

impl ForwardingEmitter for Emit<'_> {
    type Token = Infallible;

    fn inner(&mut self) -> &mut impl Emitter<Token = Infallible> {
        &mut self.0
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        let _ = self.0.emit_current_tag();
        self.0.callback_mut().next.take()
    }
}

/// White space as HTML has it.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

#[cfg(test)]
mod tests;
