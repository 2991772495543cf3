//! Whether the answer to a request whose route wants it may be compressed, as far as the request says.

use skep_gateway::compress::accepted;

use super::Asked;
use crate::forward::plan::Squeeze;
use crate::wire::fields::has_token;
use crate::wire::request_head::Method;

/// `is_known`: who asks proved who that is, here or to a service that was asked. A secret in an answer, beside what
/// others can have it say, is told by its length once it is compressed (BREACH): so not theirs.
pub(super) fn want(asked: &Asked<'_>, is_known: bool) -> Option<Squeeze> {
    let (head, buf) = (asked.head, asked.buf);
    let is_read = matches!(head.method, Method::Get | Method::Head);
    if is_known || !is_read || head.old || head.upgrade.is_some() {
        return None;
    }
    let lines = |name: &'static str| {
        let named = move |it: &[u8]| it.eq_ignore_ascii_case(name.as_bytes());
        head.fields.iter().filter(move |it| named(it.name.of(buf))).map(|it| it.value.of(buf))
    };
    let is_said = |name| lines(name).next().is_some();
    // Who that is may be a trusted proxy's to say.
    let is_told = || head.forwarded.iter().any(|it| tells_who(it.name.of(buf)));
    if asked.came.is_some_and(|(client, _)| client.trusted) && is_told() {
        return None;
    }
    // A part is one of the bytes that the service has.
    if ["authorization", "proxy-authorization", "range"].into_iter().any(is_said)
        || lines("cache-control").any(|it| has_token(it, b"no-transform"))
    {
        return None;
    }
    Some(Squeeze { coding: accepted(lines("accept-encoding")), has_cookie: is_said("cookie") })
}

/// Whether a field that proxies say is about who asks, and not about the way.
fn tells_who(name: &[u8]) -> bool {
    let folded = name.to_ascii_lowercase();
    let words: [&[u8]; 5] = [b"user", b"email", b"group", b"token", b"cert"];
    words.iter().any(|word| folded.windows(word.len()).any(|it| it == *word))
}
