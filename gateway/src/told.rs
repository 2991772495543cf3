//! What a node tells a balancer of the gateway: lines, each a value of JSON.
//!
//! ```text
//! {"lineage":"32 hex digits","revision":7,"document":{...}}   the state that the node has; null: nothing is configured
//! {"beat":7}                                                  it is there, and has no other state
//! {"purges":{"cluster":"32 hex digits","since":3,"last":5,"list":[{"number":4,"purge":{...}}]}}
//!                                                             all purges behind one number, up to another
//! {"shifts":[{...}],"at":5}                                   all shifts that are open, after so many changes of them
//! ```
//!
//! A state once at the begin and after each change, a beat each second; purges where they are asked for ([`asking`]);
//! shifts behind the state, where there ever were some. Members that are not known are passed over,
//! and so are objects that are neither: a later version may add some. What is in the document is `document`'s to read.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::document::DOCUMENT_BYTES_MAX;

/// What is asked of a node's HTTP port, inside the TLS of members and edges.
pub const WATCH_PATH: &str = "/-/gateway/watch";
/// The parameter of its query that asks for purges, too.
const PURGES: &str = "purges";
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
#[derive(Clone, Copy)]
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
    /// What is not to be answered with any more, of what is stored.
    Purges {
        /// Whose numbers these are.
        cluster: u128,
        /// All behind this one are told.
        since: u64,
        /// Up to this one.
        last: u64,
        /// JSON: see [`crate::purge::listed`].
        list: &'a str,
    },
    /// All shifts that are open.
    Shifts {
        /// Rises with each change of them.
        at: u64,
        /// A list, for [`shift::read_told`](crate::shift::read_told).
        shifts: &'a RawValue,
    },
    /// A line of a later version's: whoever says it is there, and it says nothing of this.
    Other,
}

impl PartialEq for Told<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

/// Without what is in the document: secrets may be.
impl fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { lineage, revision, document } => f
                .debug_struct("State")
                .field("lineage", &format_args!("{lineage:032x}"))
                .field("revision", revision)
                .field("document_bytes", &document.map(str::len))
                .finish(),
            Self::Purges { cluster, since, last, list } => f
                .debug_struct("Purges")
                .field("cluster", &format_args!("{cluster:032x}"))
                .field("since", since)
                .field("last", last)
                .field("list_bytes", &list.len())
                .finish(),
            Self::Beat { revision } => f.debug_struct("Beat").field("revision", revision).finish(),
            Self::Shifts { at, shifts } => {
                f.debug_struct("Shifts").field("at", at).field("shifts", shifts).finish()
            }
            Self::Other => f.write_str("Other"),
        }
    }
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
    #[error("the shifts are no list, or it is not said of when")]
    Shifts,
    #[error("the line is no object")]
    Object,
    #[error("purges end before they begin")]
    Purges,
    #[error("the line is half a state, or a state and a beat")]
    Mixed,
}

#[derive(Deserialize)]
struct Line<'a> {
    lineage: Option<&'a str>,
    revision: Option<u64>,
    #[serde(borrow)]
    document: Option<&'a RawValue>,
    beat: Option<u64>,
    #[serde(borrow)]
    purges: Option<Purges<'a>>,
    #[serde(borrow)]
    shifts: Option<&'a RawValue>,
    at: Option<u64>,
}

#[derive(Deserialize)]
struct Purges<'a> {
    cluster: &'a str,
    since: u64,
    last: u64,
    #[serde(borrow)]
    list: &'a RawValue,
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
            Self::Purges { cluster, since, last, list } => {
                let list = list.replace(['\r', '\n'], " ");
                format!(
                    "{{\"purges\":{{\"cluster\":\"{cluster:032x}\",\"since\":{since},\"last\":{last},\"list\":{list}}}}}\n"
                )
            }
            Self::Beat { revision } => format!("{{\"beat\":{revision}}}\n"),
            Self::Shifts { at, shifts } => {
                let shifts = shifts.get().replace(['\r', '\n'], " ");
                format!("{{\"shifts\":{shifts},\"at\":{at}}}\n")
            }
            Self::Other => "{}\n".to_owned(),
        };
        line.into_bytes()
    }

    /// Reads a line, with its end or without. Any bytes: what is no such line is an error, and nothing is copied.
    pub fn decode(line: &'a [u8]) -> Result<Self, Untold> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > LINE_MAX {
            return Err(Untold::TooLong);
        }
        // A list could be read as a line, too, by the order of its values.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err(Untold::Object);
        }
        let Line { lineage, revision, document, beat, purges, shifts, at } = serde_json::from_slice(line)?;
        if let Some(Purges { cluster, since, last, list }) = purges {
            if lineage.is_some() || revision.or(beat).is_some() || document.is_some() || shifts.is_some() {
                return Err(Untold::Mixed);
            }
            let cluster = lineage_of(cluster).ok_or(Untold::Lineage)?;
            return match since <= last {
                true => Ok(Self::Purges { cluster, since, last, list: list.get() }),
                false => Err(Untold::Purges),
            };
        }
        match (lineage, revision, beat) {
            (None, None, None) if document.is_none() && shifts.is_some() => {
                let told = shifts.zip(at).filter(|(shifts, _)| shifts.get().starts_with('['));
                told.map(|(shifts, at)| Self::Shifts { at, shifts }).ok_or(Untold::Shifts)
            }
            _ if shifts.is_some() => Err(Untold::Mixed),
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
            (None, None, None) if document.is_none() => Ok(Self::Other),
            _ => Err(Untold::Mixed),
        }
    }
}

/// What is asked of a node's HTTP port by who wants to hear of purges, too: of those behind that number of that cluster.
pub fn asking((cluster, number): (u128, u64)) -> String {
    format!("{WATCH_PATH}?{PURGES}={cluster:032x}.{number}")
}

/// Where who listens wants to hear of purges: the cluster and the number behind which it does.
pub fn asked(query: &str) -> Option<(u128, u64)> {
    let value = |part: &'_ str| Some(part.strip_prefix(PURGES)?.strip_prefix('=')?.to_owned());
    let value = query.split('&').find_map(value)?;
    let (cluster, number) = value.split_once('.').unwrap_or_default();
    let number = if number.bytes().all(|b| b.is_ascii_digit()) { number } else { "" };
    // Who says it otherwise than it is meant wants them all the same, and knows none.
    Some(lineage_of(cluster).zip(number.parse().ok()).unwrap_or_default())
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
            (
                Told::Purges { cluster: LINEAGE, since: 3, last: 5, list: "[{\"number\":4,\"purge\":{}}]" },
                format!(
                    "{{\"purges\":{{\"cluster\":\"{digits}\",\"since\":3,\"last\":5,\"list\":[{{\"number\":4,\"purge\":{{}}}}]}}}}\n"
                ),
            ),
            (Told::Other, "{}\n".to_owned()),
        ] {
            assert_eq!(String::from_utf8(told.encode()).unwrap(), line);
            assert_eq!(Told::decode(line.as_bytes()).unwrap(), told, "{line}");
        }
    }

    #[test]
    fn shifts_are_told_in_a_line_that_the_version_before_passes_over() {
        let line = br#"{"shifts":[{"id":18446744073709551615,"route":"web","from":"blue","to":"green","share":99999,"abort":""}],"at":5}"#;
        let told = Told::decode(line).unwrap();
        assert_eq!(told.encode(), [&line[..], b"\n"].concat());
        let Told::Shifts { at: 5, shifts } = told else { panic!("{told:?}") };
        let read = crate::shift::read_told(shifts).unwrap();
        assert_eq!((read[0].id, &*read[0].to, read[0].share), (u64::MAX, "green", 10_000));
        let Told::Shifts { shifts, .. } = Told::decode(br#"{"shifts":[{"id":1}],"at":5}"#).unwrap() else {
            panic!("no shifts")
        };
        assert!(crate::shift::read_told(shifts).is_err());
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
        assert_eq!(Told::decode(b" {\"later\":{\"beat\":2}}").unwrap(), Told::Other);
    }

    #[test]
    fn who_wants_purges_says_behind_which_and_who_does_not_says_nothing() {
        let path = asking((LINEAGE, 7));
        assert_eq!(
            path.strip_prefix(WATCH_PATH).and_then(|it| asked(it.strip_prefix('?')?)),
            Some((LINEAGE, 7))
        );
        let more = format!("x=y&purges={LINEAGE:032x}.7&z");
        assert_eq!(asked(&more), Some((LINEAGE, 7)), "whatever else is asked");
        for none in ["", "purges", "x=1", "xpurges=1"] {
            assert_eq!(asked(none), None, "{none}");
        }
        for bad in [
            "purges=",
            "purges=1.7",
            &format!("purges={LINEAGE:032x}."),
            &format!("purges={LINEAGE:032x}.+7"),
        ] {
            assert_eq!(asked(bad), Some((0, 0)), "{bad}");
        }
    }

    #[test]
    fn what_is_in_a_document_is_not_in_what_is_shown_of_a_line() {
        let told = Told::State { lineage: LINEAGE, revision: 7, document: Some("{\"secret\":1}") };
        let shown = format!("{told:?}");
        assert!(shown.contains("document_bytes: Some(12)") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        let lineage = format!("\"lineage\":\"{LINEAGE:032x}\"");
        for line in [
            "{\"shifts\":{},\"at\":1}".to_owned(),
            "{\"shifts\":[]}".to_owned(),
            "{\"shifts\":[],\"at\":-1}".to_owned(),
            "{\"shifts\":[],\"at\":1,\"beat\":1}".to_owned(),
            "".to_owned(),
            "[]".to_owned(),
            "[null,null,null,null]".to_owned(),
            format!("[\"{LINEAGE:032x}\",1,{{}},null]"),
            "{\"document\":{}}".to_owned(),
            format!("{{{lineage}}}"),
            "{\"revision\":1}".to_owned(),
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
            format!(
                "{{\"beat\":1,\"purges\":{{\"cluster\":\"{LINEAGE:032x}\",\"since\":1,\"last\":1,\"list\":[]}}}}"
            ),
            format!("{{\"purges\":{{\"cluster\":\"{LINEAGE:032x}\",\"since\":2,\"last\":1,\"list\":[]}}}}"),
            "{\"purges\":{\"cluster\":\"1\",\"since\":1,\"last\":1,\"list\":[]}}".to_owned(),
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
