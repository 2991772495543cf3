//! The table that is built in: what is known of requests with no configuration. Pure.
//!
//! `/-/ready` is the balancer's own, and what nodes tell balancers is for no client; all else is the skep node's
//! API, as far as it matters on the way there.

use crate::wire::request_head::Method;

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It asks whether this balancer is ready.
    Ready,
    /// It asks for what nodes tell balancers alone: the nodes would take it for the balancer's own question.
    Private,
    /// It stores a message, whose name is its content: storing it again is the same.
    NamedByContent,
    /// It says what it is a repeat of: a task's end by its fence, a worker's beat.
    Repeatable,
    /// The same, or it reads; and it may wait for something to happen: a claim, which has a number, a reader of a
    /// task, or a worker's stream.
    Waits,
    /// It asks for a message by its digest, whose begin this is.
    Digest(u64),
    Nothing,
}

/// What a row's target is.
enum Target {
    /// This, with no query.
    Whole(&'static [u8]),
    /// This, with any query.
    Path(&'static [u8]),
    /// What is below this.
    Below(&'static [u8]),
    /// This and a digest, with any query.
    DigestAfter(&'static [u8]),
    /// What is below the one and ends with the other, with any query.
    Between(&'static [u8], &'static [u8]),
    /// One thing below this, with a query that has this in it.
    Asked(&'static [u8], &'static [u8]),
}

struct Row {
    method: fn(Method) -> bool,
    target: Target,
    known: fn(u64) -> Known,
}

const TABLE: [Row; 15] = [
    Row { method: Method::is_safe, target: Target::Whole(b"/-/ready"), known: |_| Known::Ready },
    Row { method: |_| true, target: Target::Below(b"/-/gateway/"), known: |_| Known::Private },
    Row { method: is_post, target: Target::Path(b"/messages"), known: |_| Known::NamedByContent },
    Row { method: is_post, target: Target::Path(b"/endpoint/"), known: |_| Known::NamedByContent },
    Row { method: is_post, target: Target::Path(b"/endpoint"), known: |_| Known::NamedByContent },
    Row { method: Method::is_safe, target: Target::DigestAfter(b"/messages/"), known: Known::Digest },
    Row { method: is_post, target: Target::Path(b"/claim"), known: |_| Known::Waits },
    Row { method: Method::is_safe, target: Target::Asked(b"/tasks/", b"wait="), known: |_| Known::Waits },
    Row {
        method: Method::is_safe,
        target: Target::Between(b"/workers/", b"/stream"),
        known: |_| Known::Waits,
    },
    Row { method: is_post, target: Target::Between(b"/workers/", b"/beat"), known: |_| Known::Repeatable },
    Row { method: is_post, target: Target::Between(b"/tasks/", b"/complete"), known: |_| Known::Repeatable },
    Row { method: is_post, target: Target::Between(b"/tasks/", b"/fail"), known: |_| Known::Repeatable },
    Row { method: is_post, target: Target::Between(b"/tasks/", b"/release"), known: |_| Known::Repeatable },
    Row { method: is_post, target: Target::Between(b"/tasks/", b"/snooze"), known: |_| Known::Repeatable },
    Row { method: is_post, target: Target::Between(b"/tasks/", b"/progress"), known: |_| Known::Repeatable },
];

/// The letters behind the first slash that rows begin with: for what begins otherwise, no row is looked at.
const BEGINS: [bool; 256] = {
    let mut begins = [false; 256];
    let mut at = 0;
    while at < TABLE.len() {
        begins[TABLE[at].target.text()[1] as usize] = true;
        at += 1;
    }
    begins
};

impl Target {
    /// What it begins with.
    const fn text(&self) -> &'static [u8] {
        match self {
            Self::Whole(text)
            | Self::Path(text)
            | Self::Below(text)
            | Self::DigestAfter(text)
            | Self::Between(text, _)
            | Self::Asked(text, _) => text,
        }
    }

    /// Whether it is this one: with a digest's begin, where it has one. `path` is the target's.
    fn matches(&self, target: &[u8], path: &[u8]) -> Option<u64> {
        match self {
            Self::Whole(whole) => (target == *whole).then_some(0),
            Self::Path(whole) => (path == *whole).then_some(0),
            Self::Below(prefix) => target.starts_with(prefix).then_some(0),
            Self::Between(prefix, end) => {
                let name = path.strip_prefix(*prefix)?.strip_suffix(*end)?;
                (!name.is_empty() && !name.contains(&b'/')).then_some(0)
            }
            Self::Asked(prefix, word) => {
                let name = path.strip_prefix(*prefix)?;
                let query = target.get(path.len()..).unwrap_or_default();
                let asks = query.windows(word.len()).any(|part| part == *word);
                (asks && !name.is_empty() && !name.contains(&b'/')).then_some(0)
            }
            Self::DigestAfter(prefix) => path.strip_prefix(*prefix).and_then(digest_begin),
        }
    }
}

pub(super) fn known(method: Method, target: &[u8]) -> Known {
    if !target.get(1).is_some_and(|letter| BEGINS[usize::from(*letter)]) {
        return Known::Nothing;
    }
    let path = path_of(target);
    let rows = TABLE.iter().filter(|row| (row.method)(method));
    let mut known = rows.filter_map(|row| row.target.matches(target, path).map(row.known));
    known.next().unwrap_or(Known::Nothing)
}

fn is_post(method: Method) -> bool {
    method == Method::Post
}

fn path_of(target: &[u8]) -> &[u8] {
    target.split(|b| *b == b'?').next().unwrap_or_default()
}

/// A digest is as good as random already: its first 64 bits are a key.
fn digest_begin(digest: &[u8]) -> Option<u64> {
    if digest.len() != 64 || !digest.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&digest[..16]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_that_is_read_is_a_key() {
        let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let key = Known::Digest(0x2c26_b46b_68ff_c68f);
        for target in [format!("/messages/{digest}"), format!("/messages/{digest}?x")] {
            assert_eq!(known(Method::Get, target.as_bytes()), key);
            assert_eq!(known(Method::Delete, target.as_bytes()), Known::Nothing);
        }
        for target in ["/messages", "/messages/", "/messages/2c26", "/read", "/messages/live"] {
            assert_eq!(known(Method::Get, target.as_bytes()), Known::Nothing, "{target}");
        }
    }

    #[test]
    fn messages_are_named_by_their_content_wherever_they_are_posted() {
        for target in ["/messages", "/messages?x", "/endpoint/", "/endpoint"] {
            assert_eq!(known(Method::Post, target.as_bytes()), Known::NamedByContent, "{target}");
            assert_eq!(known(Method::Get, target.as_bytes()), Known::Nothing, "{target}");
        }
        for target in ["/write", "/messages/", "/endpoint/x", "/"] {
            assert_eq!(known(Method::Post, target.as_bytes()), Known::Nothing, "{target}");
        }
    }

    #[test]
    fn of_tasks_claims_ends_and_beats_may_be_repeated_and_what_waits_is_known() {
        for (method, target, expected) in [
            (Method::Post, "/claim", Known::Waits),
            (Method::Get, "/tasks/1?wait=30s", Known::Waits),
            (Method::Get, "/tasks/1", Known::Nothing),
            (Method::Post, "/tasks", Known::Nothing),
            (Method::Post, "/tasks/1/complete", Known::Repeatable),
            (Method::Post, "/tasks/1/fail?x", Known::Repeatable),
            (Method::Post, "/workers/w/beat", Known::Repeatable),
            (Method::Get, "/workers/w/stream", Known::Waits),
            (Method::Post, "/workers/w/stream", Known::Nothing),
            (Method::Post, "/tasks/1/retry", Known::Nothing),
            (Method::Post, "/tasks//complete", Known::Nothing),
            (Method::Post, "/tasks/1/2/complete", Known::Nothing),
            (Method::Post, "/queues/q", Known::Nothing),
            (Method::Post, "/batches", Known::Nothing),
            (Method::Post, "/", Known::Nothing),
            (Method::Get, "/status/1", Known::Nothing),
            (Method::Get, "/result/1", Known::Nothing),
        ] {
            assert_eq!(known(method, target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn readiness_is_asked_for_by_a_safe_method_and_with_no_query() {
        for method in [Method::Get, Method::Head] {
            assert_eq!(known(method, b"/-/ready"), Known::Ready);
        }
        assert_eq!(known(Method::Post, b"/-/ready"), Known::Nothing);
        assert_eq!(known(Method::Post, b"/-/gateway/watch"), Known::Private);
        assert_eq!(known(Method::Get, b"/-/ready?x"), Known::Nothing);
    }
}
