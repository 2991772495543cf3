//! Header fields: which a route may look at, and how heads are edited.

/// Longest name and value of a field that a document names, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
pub const VALUE_BYTES_MAX: usize = 4096;

/// What says how a message is framed, where it goes, and which hop it is about: the balancer's own to write.
const FRAMING: [&str; 20] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "skep-unprocessed",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// What the balancer says of who was authenticated. Nobody else says so, in whatever spelling.
pub const OF_CONSUMERS: [&str; 2] = ["x-consumer-id", "x-consumer-groups"];

/// A field's name, in lower case, that a document may match or edit.
pub fn name(text: &str) -> Result<String, String> {
    let folded = text.to_ascii_lowercase();
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if folded.is_empty() || folded.len() > NAME_BYTES_MAX || !folded.bytes().all(is_letter) {
        return Err(format!("{text:?} is no name of a header field"));
    }
    if FRAMING.iter().any(|it| is_same(folded.as_bytes(), it)) {
        return Err(format!("{text:?} is about the connection or the way: it is not for a document to say"));
    }
    Ok(folded)
}

/// A field's value: one line, in ASCII, with no space around it.
pub fn value(text: &str) -> Result<String, String> {
    let is_part = |b: u8| matches!(b, b' '..=b'~' | b'\t');
    if text.len() > VALUE_BYTES_MAX {
        return Err(format!("this is longer than a value may be: {VALUE_BYTES_MAX} bytes"));
    }
    if !text.bytes().all(is_part) || text.trim_ascii() != text {
        return Err(format!("{text:?} is no value of a header field: one line of ASCII, no space around it"));
    }
    Ok(text.to_owned())
}

/// Whether a field has this name, which is in lower case, once all that is no letter or digit is read as one, as CGI and
/// what came of it do: most with `_` and `-` alone, some with any other sign.
pub fn is_same(name: &[u8], other: &str) -> bool {
    let plain = |b: u8| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.iter().zip(other.bytes()).all(|(a, b)| plain(*a) == plain(b))
}

/// Whether a field of that name says who was authenticated.
pub fn is_of_consumers(name: &[u8]) -> bool {
    OF_CONSUMERS.iter().any(|it| is_same(name, it))
}

/// How the fields of a head are edited: some fall, then some are added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Names that fall.
    pub remove: Vec<String>,
    /// What stands in the place of all of that name.
    pub set: Vec<(String, String)>,
    /// What stands beside those of that name.
    pub add: Vec<(String, String)>,
}

impl Edits {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether a field of that name falls, in whatever spelling: else it would stand beside what was set.
    pub fn drops(&self, name: &[u8]) -> bool {
        self.remove.iter().chain(self.set.iter().map(|(name, _)| name)).any(|it| is_same(name, it))
    }

    /// What comes in.
    pub fn added(&self) -> impl Iterator<Item = &(String, String)> {
        self.set.iter().chain(&self.add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_a_message_is_not_for_a_document_to_say() {
        for text in FRAMING.into_iter().chain(["Content_Length", "TRANSFER-ENCODING", "", "a b", "a:b", "ä"])
        {
            assert!(name(text).is_err(), "{text}");
        }
        assert_eq!(name("X-Api"), Ok("x-api".into()));
    }

    #[test]
    fn a_value_is_one_line() {
        for text in ["a\r\nb", "a\nb", "a\0", " a", "a ", "ä", &"a".repeat(VALUE_BYTES_MAX + 1)] {
            assert!(value(text).is_err(), "{text:?}");
        }
        assert_eq!(value("max-age=60, \"x\"").as_deref(), Ok("max-age=60, \"x\""));
        assert_eq!(value("").as_deref(), Ok(""));
    }

    #[test]
    fn what_is_set_falls_in_either_spelling() {
        let edits = Edits { set: vec![("x-user".into(), "1".into())], remove: vec!["a".into()], add: vec![] };
        for (name, drops) in [
            ("X-User", true),
            ("x_user", true),
            ("x.user", true),
            ("A", true),
            ("x-users", false),
            ("b", false),
        ] {
            assert_eq!(edits.drops(name.as_bytes()), drops, "{name}");
        }
    }
}
