//! Forward auth: a service of the document is asked whether a request may go on, before it does. What it is asked, and
//! what its answer comes to. Pure.

use std::fmt;
use std::time::Duration;

use crate::fields::is_same;

/// How long that service has where nothing is said; and the longest that may be said.
pub const TIMEOUT: Duration = Duration::from_secs(2);
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// Most fields of the client's that it is sent, and of its answer that the request takes over.
pub const FIELDS_MAX: usize = 32;
/// What it is sent of the client's fields where nothing is said: who asks, and what tells a page from a program.
pub const SENT: [&str; 5] = ["accept", "authorization", "cookie", "user-agent", "x-requested-with"];
/// What it is told beside that, by the balancer alone.
pub const METHOD: &str = "x-forwarded-method";
pub const URI: &str = "x-forwarded-uri";
/// Says that a request is such a question: who gets one and would ask in turn refuses it, for it could be his own.
pub const IS_QUESTION: &str = "x-skep-ask";

/// What a route asks, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub service: String,
    /// With a query, where it has one.
    pub path: String,
    /// Names of the client's fields that are sent.
    pub send: Vec<String>,
    /// Names of fields that the request has from the answer, and from nobody else.
    pub take: Vec<String>,
    /// From the question to the begin of the answer, whatever is waited for.
    pub timeout: Duration,
}

/// What a status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The request goes on.
    Yes,
    /// The client gets the answer.
    No,
    /// Nothing that is understood: the request does not go on.
    None,
}

impl Ask {
    /// Whether a field of a request is this answer's alone to say, in whatever spelling.
    pub fn takes(&self, name: &[u8]) -> bool {
        self.take.iter().any(|it| is_same(name, it))
    }

    /// Whether a field of the client's is sent.
    pub fn sends(&self, name: &[u8]) -> bool {
        self.send.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
    }
}

impl Word {
    /// A redirect leads to where who asks can prove who it is; 304 and the like lead nowhere.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Yes,
            301 | 302 | 303 | 307 | 308 | 401 | 403 => Self::No,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, path, send, take, timeout } = self;
        let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        write!(f, "{service} is asked by GET {path} within {timeout:?}, with {}", list(send))?;
        write!(f, "; {} is taken over", list(take))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_2xx_lets_a_request_go_on() {
        for status in 0..1000 {
            let expected = match status {
                200..=299 => Word::Yes,
                301 | 302 | 303 | 307 | 308 | 401 | 403 => Word::No,
                _ => Word::None,
            };
            assert_eq!(Word::of(status), expected, "{status}");
        }
    }

    #[test]
    fn what_is_taken_over_falls_in_either_spelling_and_what_is_sent_is_sent_in_one() {
        let names = || vec!["x-user".to_owned()];
        let ask =
            Ask { service: "login".into(), path: "/".into(), send: names(), take: names(), timeout: TIMEOUT };
        for (name, takes, sends) in [
            ("X-User", true, true),
            ("x_user", true, false),
            ("x.user", true, false),
            ("x-users", false, false),
        ] {
            assert_eq!((ask.takes(name.as_bytes()), ask.sends(name.as_bytes())), (takes, sends), "{name}");
        }
    }
}
