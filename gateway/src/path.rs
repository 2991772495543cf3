//! Paths: read once, in one form, which is matched and then sent. What has two readings is refused.
//!
//! Who matches one form and sends another is got round: `/api../`, `/%2e%2e/`, `/a%2fb`, `/x//y` and `/..;/` each
//! were, in proxies of renown. Here unreserved bytes are decoded (RFC 3986, 6.2.2), hexadecimal digits are in
//! upper case, and what servers behind read differently is answered with 400.

use std::borrow::Cow;

/// Longest path that a document may name, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;

/// Why a path has more than one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

/// What a route is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// This one alone.
    Exact(String),
    /// This one and all below it, by whole segments, without a slash at its end; empty: all there are.
    Prefix(String),
}

impl PathPattern {
    pub fn read_exact(text: &str) -> Result<Self, String> {
        pattern(text).map(Self::Exact)
    }

    pub fn read_prefix(text: &str) -> Result<Self, String> {
        let mut path = pattern(text)?;
        if path.ends_with('/') {
            path.pop();
        }
        Ok(Self::Prefix(path))
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "={path}"),
            Self::Prefix(path) => write!(f, "{path}/"),
        }
    }
}

fn pattern(text: &str) -> Result<String, String> {
    if text.len() > PATH_BYTES_MAX {
        return Err(format!("this is longer than a path may be: {PATH_BYTES_MAX} bytes"));
    }
    if text.contains(['?', '#']) {
        return Err(format!("{text:?} is more than a path: no query, no fragment"));
    }
    if text.contains(';') || text.to_ascii_lowercase().contains("%3b") {
        return Err(format!("{text:?} has parameters: segments are matched without theirs"));
    }
    let path =
        canonical(text.as_bytes()).map_err(|why| format!("{text:?} is no path to match: {}", why.0))?;
    Ok(path.into_owned())
}

/// A request's path as it is read where routes may be raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<'a> {
    /// In the form that is matched. Where it has encoded slashes, each is one here: whoever reads it so is led where no
    /// other reading leads.
    matched: Cow<'a, str>,
    came: &'a str,
    /// Why it can be sent as it came alone.
    ambiguous: Option<Ambiguous>,
}

impl<'a> Read<'a> {
    /// One that has one form.
    pub fn in_form(path: &'a [u8]) -> Result<Self, Ambiguous> {
        let matched = canonical(path)?;
        let came = match matched {
            Cow::Borrowed(it) => it,
            // A path that can be read is ASCII.
            Cow::Owned(_) => std::str::from_utf8(path).map_err(|_| Ambiguous(NO_TEXT))?,
        };
        Ok(Self { matched, came, ambiguous: None })
    }

    /// The same of one that may have encoded slashes.
    pub fn raw(path: &'a [u8]) -> Result<Self, Ambiguous> {
        let why = match Self::in_form(path) {
            Ok(read) => return Ok(read),
            Err(why) => why,
        };
        let matched = read(path, true).map_err(|_| why)?;
        let came = std::str::from_utf8(path).map_err(|_| why)?;
        Ok(Self { matched, came, ambiguous: Some(why) })
    }

    pub fn matched(&self) -> &str {
        &self.matched
    }

    /// In its one form, where it has one.
    pub fn form(&self) -> Result<&str, Ambiguous> {
        self.ambiguous.map_or(Ok(&self.matched), Err)
    }

    /// As it came, where it is what the pattern says to the letter, and not only once it is decoded.
    pub fn as_it_came(&self, pattern: &PathPattern) -> Result<&'a str, Ambiguous> {
        let is_it = match pattern {
            PathPattern::Exact(path) => self.came == path,
            PathPattern::Prefix(path) => self
                .came
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        is_it
            .then_some(self.came)
            .ok_or(Ambiguous("it is another to the letter than the route's, which is raw"))
    }
}

/// A path, without its query, in the form that is matched and sent.
pub fn canonical(path: &[u8]) -> Result<Cow<'_, str>, Ambiguous> {
    read(path, false)
}

const NO_TEXT: &str = "it has a byte that must be encoded";

/// `has_slashes`: those that are encoded are slashes, which part segments as others do.
fn read(path: &[u8], has_slashes: bool) -> Result<Cow<'_, str>, Ambiguous> {
    if path.first() != Some(&b'/') {
        return Err(Ambiguous("it does not begin with a slash"));
    }
    if is_plain(path)
        && let Ok(text) = std::str::from_utf8(path)
    {
        return Ok(Cow::Borrowed(text));
    }
    if !path.iter().all(u8::is_ascii_graphic) {
        return Err(Ambiguous(NO_TEXT));
    }
    if path.contains(&b'\\') {
        return Err(Ambiguous("it has a backslash"));
    }
    let read =
        if path.contains(&b'%') { Cow::Owned(decoded(path, has_slashes)?) } else { Cow::Borrowed(path) };
    let mut segments = read[1..].split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        // Also one that is empty once its parameters are cut: some servers then make one slash of two.
        let is_empty = segment.is_empty() || segment.starts_with(b";") || segment.starts_with(b"%3B");
        if is_empty && segments.peek().is_some() {
            return Err(Ambiguous("it has an empty segment"));
        }
        if is_dots(segment) {
            return Err(Ambiguous("it has a dot segment"));
        }
    }
    let text = match read {
        Cow::Borrowed(read) => std::str::from_utf8(read).ok().map(Cow::Borrowed),
        Cow::Owned(read) => String::from_utf8(read).ok().map(Cow::Owned),
    };
    text.ok_or(Ambiguous(NO_TEXT))
}

/// Whether it is in its form by one look at each byte, as most are: nothing in it is encoded, no segment has parameters,
/// and none is empty or begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut begins = false;
    for b in path {
        match PLAIN[usize::from(*b)] {
            Plain::Always => begins = false,
            Plain::NotFirst if begins => return false,
            Plain::NotFirst => begins = *b == b'/',
            Plain::Never => return false,
        }
    }
    true
}

/// Where a byte stands in a path that is in its form.
#[derive(Clone, Copy)]
enum Plain {
    Never,
    Always,
    /// Not as the first of a segment.
    NotFirst,
}

static PLAIN: [Plain; 256] = {
    let mut all = [Plain::Never; 256];
    let mut b = 0;
    while b < all.len() {
        all[b] = match b as u8 {
            b'%' | b'\\' | b';' => Plain::Never,
            b'/' | b'.' => Plain::NotFirst,
            b if b.is_ascii_graphic() => Plain::Always,
            _ => Plain::Never,
        };
        b += 1;
    }
    all
};

/// `.` or `..`, also with parameters, which some servers cut before they look, and some after they decode.
fn is_dots(segment: &[u8]) -> bool {
    let Some(rest) = segment.strip_prefix(b"..").or_else(|| segment.strip_prefix(b".")) else { return false };
    rest.is_empty() || rest.starts_with(b";") || rest.starts_with(b"%3B")
}

fn decoded(path: &[u8], has_slashes: bool) -> Result<Vec<u8>, Ambiguous> {
    let mut read = Vec::with_capacity(path.len());
    let mut left = path.iter();
    while let Some(b) = left.next() {
        if *b != b'%' {
            read.push(*b);
            continue;
        }
        let mut digit = || left.next().and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(Ambiguous("it has a % without two hexadecimal digits"));
        };
        match (high * 16 + low) as u8 {
            b'/' if has_slashes => read.push(b'/'),
            b'/' => return Err(Ambiguous("it has an encoded slash")),
            b'\\' => return Err(Ambiguous("it has an encoded backslash")),
            0 => return Err(Ambiguous("it has an encoded zero byte")),
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => read.push(b),
            _ => {
                let hex = |digit: u32| b"0123456789ABCDEF"[digit as usize & 15];
                read.extend([b'%', hex(high), hex(low)]);
            }
        }
    }
    Ok(read)
}

/// The segments of a path, without its first slash: `/` has one, which is empty.
pub fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut left = Some(path.strip_prefix('/').unwrap_or(path));
    // They are short: to look at each byte is sooner done than to begin a search.
    std::iter::from_fn(move || {
        let all = left?;
        let end = all.bytes().position(|b| b == b'/');
        left = end.and_then(|end| all.get(end + 1..));
        all.get(..end.unwrap_or(all.len()))
    })
}

/// Whether it may have parameters, or what is encoded: of each request it is asked, and hardly any has.
pub fn has_params(path: &str) -> bool {
    path.bytes().any(|b| matches!(b, b';' | b'%'))
}

/// A segment as it is matched: some servers cut what comes behind a `;` before they look, also where it is encoded.
pub fn bare(segment: &str) -> &str {
    if !has_params(segment) {
        return segment;
    }
    let encoded = segment.find("%3B").unwrap_or(segment.len());
    let end = segment.find(';').unwrap_or(segment.len()).min(encoded);
    segment.get(..end).unwrap_or(segment)
}

/// What is left of a path that a prefix is cut from, by whole segments; None where it does not begin so.
pub fn without<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let mut left = path;
    for wanted in segments(prefix).filter(|_| !prefix.is_empty()) {
        let behind = left.strip_prefix('/')?;
        let (segment, rest) = behind.split_at(behind.find('/').unwrap_or(behind.len()));
        if bare(segment) != wanted {
            return None;
        }
        left = rest;
    }
    Some(if left.is_empty() { "/" } else { left })
}

#[cfg(test)]
mod tests;
