//! What a node tells a balancer of the gateway: lines, each a value of JSON.
//!
//! ```text
//! {"lineage":"32 hex digits","revision":7,"document":{...}}   the state that the node has; null: nothing is configured
//! {"beat":7}                                                  it is there, and has no other state
//! ```
//!
//! A state once at the begin and after each change, a beat each second. Members that are not known are passed over:
//! a later version may add some. What is in the document is `document`'s to read.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::document::DOCUMENT_BYTES_MAX;

/// What is asked of a node's HTTP port, inside the TLS of members and edges.
pub const WATCH_PATH: &str = "/-/gateway/watch";
/// What its answer is.
pub const CONTENT_TYPE: &str = "application/x-ndjson";
/// How often a node says that it is there.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may say nothing.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Longest line, in bytes, without its end.
pub const LINE_MAX: usize = 9 * 1024 * 1024;

const _: () = assert!(LINE_MAX > DOCUMENT_BYTES_MAX + 1024, "the largest document fits into a line");

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    State {
        /// Which history `revision` is of: 0 before its first document.
        lineage: u128,
        /// 0 where there never was a document.
        revision: u64,
        /// JSON; None where nothing is configured.
        document: Option<&'a str>,
    },
    Beat {
        revision: u64,
    },
}

/// A line that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum Untold {
    #[error("the line has more than {LINE_MAX} bytes")]
    TooLong,
    #[error("the line is no JSON of that form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the lineage is not 32 hex digits")]
    Lineage,
    #[error("the document is no object")]
    Document,
    #[error("there is a document, and revision 0 has none")]
    Revision,
    #[error("the line is neither a state nor a beat")]
    Neither,
}

#[derive(Deserialize)]
struct Line<'a> {
    lineage: Option<&'a str>,
    revision: Option<u64>,
    #[serde(borrow)]
    document: Option<&'a RawValue>,
    beat: Option<u64>,
}

impl<'a> Told<'a> {
    /// The line with its end. A document is JSON: what breaks its lines lies between its tokens, and becomes spaces.
    pub fn encode(&self) -> Vec<u8> {
        let line = match self {
            Self::State { lineage, revision, document } => {
                let document = document.unwrap_or("null").replace(['\r', '\n'], " ");
                format!(
                    "{{\"lineage\":\"{lineage:032x}\",\"revision\":{revision},\"document\":{document}}}\n"
                )
            }
            Self::Beat { revision } => format!("{{\"beat\":{revision}}}\n"),
        };
        line.into_bytes()
    }

    /// Reads a line, with its end or without. Any bytes: what is no such line is an error, and nothing is copied.
    pub fn decode(line: &'a [u8]) -> Result<Self, Untold> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > LINE_MAX {
            return Err(Untold::TooLong);
        }
        let Line { lineage, revision, document, beat } = serde_json::from_slice(line)?;
        match (lineage, revision, beat) {
            (Some(digits), Some(revision), None) => {
                let lineage = lineage_of(digits).ok_or(Untold::Lineage)?;
                let document = document.map(RawValue::get);
                if document.is_some_and(|it| !it.starts_with('{')) {
                    return Err(Untold::Document);
                }
                if revision == 0 && document.is_some() {
                    return Err(Untold::Revision);
                }
                Ok(Self::State { lineage, revision, document })
            }
            (None, None, Some(revision)) if document.is_none() => Ok(Self::Beat { revision }),
            _ => Err(Untold::Neither),
        }
    }
}

/// The lineage that 32 hex digits are.
pub fn lineage_of(digits: &str) -> Option<u128> {
    let are_digits = digits.len() == 32 && digits.bytes().all(|it| it.is_ascii_hexdigit());
    are_digits.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAGE: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;

    #[test]
    fn each_line_is_pinned_and_read_back() {
        let digits = "0123456789abcdef0011223344556677";
        let state = |revision, document| Told::State { lineage: LINEAGE, revision, document };
        for (told, line) in [
            (
                state(7, Some("{\"routes\":{}}")),
                format!("{{\"lineage\":\"{digits}\",\"revision\":7,\"document\":{{\"routes\":{{}}}}}}\n"),
            ),
            (state(8, None), format!("{{\"lineage\":\"{digits}\",\"revision\":8,\"document\":null}}\n")),
            (
                Told::State { lineage: 0, revision: 0, document: None },
                format!("{{\"lineage\":\"{}\",\"revision\":0,\"document\":null}}\n", "0".repeat(32)),
            ),
            (Told::Beat { revision: u64::MAX }, "{\"beat\":18446744073709551615}\n".to_owned()),
        ] {
            assert_eq!(String::from_utf8(told.encode()).unwrap(), line);
            assert_eq!(Told::decode(line.as_bytes()).unwrap(), told, "{line}");
        }
    }

    #[test]
    fn a_document_of_many_lines_is_told_in_one_and_says_the_same() {
        let document = "{\r\n  \"routes\": {\n    \"a\": {\"match\": {\"path\": \"/a\\nb\"}}\n  }\n}";
        let line = Told::State { lineage: 1, revision: 1, document: Some(document) }.encode();
        assert_eq!(line.iter().filter(|it| **it == b'\n').count(), 1);
        let Ok(Told::State { document: Some(told), .. }) = Told::decode(&line) else { panic!("no state") };
        let value = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(told), value(document));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let line =
            format!("{{\"lineage\":\"{LINEAGE:032x}\",\"later\":[{{}}],\"revision\":2,\"document\":{{}}}}");
        let told = Told::State { lineage: LINEAGE, revision: 2, document: Some("{}") };
        assert_eq!(Told::decode(line.as_bytes()).unwrap(), told);
        assert_eq!(Told::decode(b"{\"beat\":2,\"later\":1}").unwrap(), Told::Beat { revision: 2 });
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        let lineage = format!("\"lineage\":\"{LINEAGE:032x}\"");
        for line in [
            "".to_owned(),
            "{}".to_owned(),
            "null".to_owned(),
            "7".to_owned(),
            "{\"beat\":-1}".to_owned(),
            "{\"beat\":1.5}".to_owned(),
            "{\"beat\":1,\"beat\":1}".to_owned(),
            "{\"beat\":1,\"document\":{}}".to_owned(),
            "{\"beat\":1}{\"beat\":1}".to_owned(),
            format!("{{{lineage},\"document\":{{}}}}"),
            format!("{{{lineage},\"revision\":1,\"beat\":1,\"document\":{{}}}}"),
            format!("{{{lineage},\"revision\":1,\"document\":[]}}"),
            format!("{{{lineage},\"revision\":1,\"document\":\"[routes]\"}}"),
            format!("{{{lineage},\"revision\":0,\"document\":{{}}}}"),
            format!("{{{lineage},\"revision\":1,\"document\":{{}}"),
            "{\"lineage\":\"1\",\"revision\":1,\"document\":{}}".to_owned(),
            format!("{{\"lineage\":\"+{}\",\"revision\":1,\"document\":{{}}}}", "0".repeat(31)),
            format!("{{\"lineage\":\"{}\",\"revision\":1,\"document\":{{}}}}", "é".repeat(16)),
            format!("{{{lineage},\"revision\":1,\"document\":{}", "[".repeat(100_000)),
        ] {
            assert!(Told::decode(line.as_bytes()).is_err(), "{line}");
        }
        assert!(Told::decode(b"{\"beat\":1,\"\xff\":1}").is_err());
        let long = format!("{{\"beat\":1}}{}", " ".repeat(LINE_MAX));
        assert!(matches!(Told::decode(long.as_bytes()), Err(Untold::TooLong)));
    }
}
