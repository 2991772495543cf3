//! `robots.txt` (RFC 9309): which paths of a site a crawler may fetch.
//!
//! Read as Google's reader does where the RFC leaves it open: a colon may be missing, names may be misspelt
//! in a few ways, and a rule for `index.html` is one for its folder, too. Pure; `memory` keeps what sites said.

mod memory;

pub use memory::{Memory, Said};

/// How much of a file is read (RFC 9309, 2.5, asks for 500 KiB at least).
pub const FILE_BYTES_MAX: usize = 500 * 1024;
/// What is behind this in a line is not read.
const LINE_BYTES_MAX: usize = 2083 * 8 - 1;
/// Most rules of one file; what is behind them is not read.
const RULES_MAX: usize = 2_000;

/// What a file says to one crawler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allows: bool,
    /// Escaped, with `*` and `$`.
    pattern: Box<str>,
}

impl Rules {
    /// Reads a file for the crawler of a name.
    pub fn parse(file: &[u8], agent: &str) -> Self {
        let file = &file[..file.len().min(FILE_BYTES_MAX)];
        let (mut for_agent, mut for_all) = (Vec::new(), Vec::new());
        // Whether the group that is read is for the agent, for all, and has begun to have rules.
        let (mut is_for_agent, mut is_for_all, mut has_rules) = (false, false, false);
        let mut was_named = false;
        let mut left = RULES_MAX;
        for line in without_mark(file).split(|b| matches!(b, b'\n' | b'\r')) {
            let Some((key, value)) = key_and_value(&line[..line.len().min(LINE_BYTES_MAX)]) else { continue };
            match key {
                Key::UserAgent => {
                    if has_rules {
                        (is_for_agent, is_for_all, has_rules) = (false, false, false);
                    }
                    match value {
                        [b'*'] => is_for_all = true,
                        [b'*', next, ..] if next.is_ascii_whitespace() => is_for_all = true,
                        _ if product(value).eq_ignore_ascii_case(agent.as_bytes()) => {
                            (is_for_agent, was_named) = (true, true);
                        }
                        _ => {}
                    }
                }
                Key::Allow | Key::Disallow => {
                    if !is_for_agent && !is_for_all {
                        continue;
                    }
                    has_rules = true;
                    if value.is_empty() || left == 0 {
                        continue;
                    }
                    left -= 1;
                    let rule = Rule { allows: key == Key::Allow, pattern: escaped(value).into() };
                    match is_for_agent {
                        true => for_agent.push(rule),
                        false => for_all.push(rule),
                    }
                }
            }
        }
        // A group of its own counts, though it says nothing.
        Self { rules: if was_named { for_agent } else { for_all } }
    }

    /// Whether a path with its query may be fetched: the longest pattern counts, and of two the one that allows.
    pub fn allow(&self, path: &str) -> bool {
        let (mut allowed, mut disallowed) = (0, 0);
        for rule in &self.rules {
            let longest = if rule.allows { &mut allowed } else { &mut disallowed };
            if rule.pattern.len() > *longest && matches(path, &rule.pattern) {
                *longest = rule.pattern.len();
            } else if rule.allows {
                let Some(folder) = folder_of_index(&rule.pattern) else { continue };
                // One byte more is its `$`.
                if folder.len() + 1 > *longest && matches(path, &format!("{folder}$")) {
                    *longest = folder.len() + 1;
                }
            }
        }
        disallowed <= allowed
    }

    /// How many bytes it takes, about.
    fn bytes(&self) -> usize {
        self.rules.iter().map(|rule| rule.pattern.len() + size_of::<Rule>()).sum()
    }
}

/// The path and the query of a URL, as they are compared.
pub fn path_of(url: &url::Url) -> &str {
    match &url[url::Position::BeforePath..url::Position::AfterQuery] {
        "" => "/",
        path => path,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    UserAgent,
    Allow,
    Disallow,
}

/// How each key begins, with what it is often written for it.
const KEYS: [(Key, &[&str]); 3] = [
    (Key::UserAgent, &["user-agent", "useragent", "user agent"]),
    (Key::Allow, &["allow"]),
    (Key::Disallow, &["disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"]),
];

fn without_mark(file: &[u8]) -> &[u8] {
    // Part of a byte order mark is skipped, too.
    let mark = file.iter().zip(b"\xef\xbb\xbf").take_while(|(a, b)| a == b).count();
    &file[mark..]
}

/// What a line says, where it says one of what counts.
fn key_and_value(line: &[u8]) -> Option<(Key, &[u8])> {
    let end = line.iter().position(|b| *b == b'#').unwrap_or(line.len());
    let line = line[..end].trim_ascii();
    let (name, value) = match line.iter().position(|b| *b == b':') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => {
            let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
            let at = line.iter().position(is_blank)?;
            let value = line[at..].trim_ascii_start();
            // Of more than two words nobody knows which is which.
            if value.iter().any(is_blank) {
                return None;
            }
            (&line[..at], value)
        }
    };
    let name = name.trim_ascii();
    let begins =
        |known: &&str| name.get(..known.len()).is_some_and(|it| it.eq_ignore_ascii_case(known.as_bytes()));
    let key = KEYS.iter().find(|(_, names)| names.iter().any(&begins))?.0;
    Some((key, value.trim_ascii()))
}

/// The name that a `User-agent` line begins with.
fn product(value: &[u8]) -> &[u8] {
    let is_of_it = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_');
    let end = value.iter().position(|b| !is_of_it(b)).unwrap_or(value.len());
    &value[..end]
}

/// A pattern as URLs are written: escapes in upper case, and no byte beyond ASCII.
fn escaped(pattern: &[u8]) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    loop {
        match rest {
            [] => return out,
            [b'%', a, b, behind @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                out.extend(['%', char::from(*a).to_ascii_uppercase(), char::from(*b).to_ascii_uppercase()]);
                rest = behind;
            }
            [b, behind @ ..] => {
                match b.is_ascii() {
                    true => out.push(char::from(*b)),
                    false => out += &format!("%{b:02X}"),
                }
                rest = behind;
            }
        }
    }
}

/// The folder, where a pattern names its `index.htm` or `index.html`.
fn folder_of_index(pattern: &str) -> Option<&str> {
    let slash = pattern.rfind('/')?;
    pattern[slash..].starts_with("/index.htm").then(|| &pattern[..=slash])
}

/// Whether a pattern matches a path from its beginning. In a time that grows with both alone: what is between
/// two stars is taken where it comes first, for then most is left for the rest.
fn matches(path: &str, pattern: &str) -> bool {
    let (pattern, to_end) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut parts = pattern.split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return !to_end || rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    if to_end { rest.ends_with(last) } else { rest.contains(last) }
}

#[cfg(test)]
mod tests;
