//! Queries: what a parameter says, and what is left without it. Pure.
//!
//! `&` and `;` both end a parameter, for servers take either; names are decoded, and compared without case: what only
//! looks like a secret is cut, too.

use std::borrow::Cow;

/// Longest name of a parameter that a document says, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A parameter's name, as a document says it: of letters that are never encoded.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name of a parameter: 1 to {NAME_BYTES_MAX} letters, digits, '-', '.', '_' and '~'"
    ))
}

/// What the parameters of that name say, each decoded. A query begins with its `?`, or is nothing.
pub fn values<'a>(query: &'a [u8], name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    let parts = query.split(|b| matches!(b, b'&' | b';')).map(name_and_value);
    parts
        .filter(|(its, _)| decoded(its).eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| decoded(value))
}

/// The same query without the parameters that have one of these names; None where there are none.
pub fn without<S: AsRef<str>>(query: &[u8], names: &[S]) -> Option<Vec<u8>> {
    let parts = query.strip_prefix(b"?")?;
    let falls = |part: &[u8]| {
        let its = decoded(name_and_value(part).0);
        names.iter().any(|name| its.eq_ignore_ascii_case(name.as_ref().as_bytes()))
    };
    let (mut left, mut cut, mut from) = (Vec::with_capacity(query.len()), false, 0);
    loop {
        let rest = &parts[from..];
        let end = rest.iter().position(|b| matches!(b, b'&' | b';')).unwrap_or(rest.len());
        let part = &rest[..end];
        if falls(part) {
            cut = true;
        } else {
            // What stood before it, of which the first is the query's own.
            let sign = if left.is_empty() { b'?' } else { parts[from - 1] };
            left.push(sign);
            left.extend_from_slice(part);
        }
        if end == rest.len() {
            return cut.then_some(left);
        }
        from += end + 1;
    }
}

fn name_and_value(part: &[u8]) -> (&[u8], &[u8]) {
    match part.iter().position(|b| *b == b'=') {
        Some(at) => (&part[..at], &part[at + 1..]),
        None => (part, b""),
    }
}

/// With what was encoded read once; a `%` that begins nothing stays.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return text.into();
    }
    let digit = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(b) = text.get(at) {
        match (b, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(((high << 4) | low) as u8);
                at += 3;
            }
            _ => {
                out.push(*b);
                at += 1;
            }
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use skep_base::random::Random;

    use super::*;

    #[test]
    fn a_parameter_is_found_and_cut_however_its_name_is_written() {
        for (query, found, left) in [
            ("", vec![], None),
            ("?", vec![], None),
            ("?a=1&b=2", vec![], None),
            ("?key=k", vec!["k"], Some("")),
            ("?key=k&a=1", vec!["k"], Some("?a=1")),
            ("?a=1&key=k", vec!["k"], Some("?a=1")),
            ("?a=1&key=k&b=2", vec!["k"], Some("?a=1&b=2")),
            ("?a=1;key=k;b=2&c=3", vec!["k"], Some("?a=1;b=2&c=3")),
            ("?KEY=k&%6bey=l&k%65%79=m", vec!["k", "l", "m"], Some("")),
            ("?key=%6b%2F%zz%", vec!["k/%zz%"], Some("")),
            ("?key&a&key=", vec!["", ""], Some("?a")),
            ("?key=a=b", vec!["a=b"], Some("")),
            ("?keys=k&a=key=k&xkey=1", vec![], None),
            ("?&&key=k&&", vec!["k"], Some("?&&&")),
        ] {
            let values: Vec<_> = values(query.as_bytes(), "key").map(|it| it.into_owned()).collect();
            let expected: Vec<_> = found.iter().map(|it| it.as_bytes()).collect();
            assert_eq!(values, expected, "{query}");
            let cut = without(query.as_bytes(), &["key"]);
            assert_eq!(cut.as_deref(), left.map(str::as_bytes), "{query}");
        }
    }

    /// Whatever the query is: nothing of the name is left, the rest is there as it was and in its order, and who cuts
    /// again cuts nothing.
    #[test]
    fn what_is_left_has_all_the_others_and_none_of_that_name() {
        const PARTS: [&str; 12] = ["key", "a", "%6b", "ey", "=", "&", ";", "%", "%2", "K", "?", "=SECRET"];
        let mut random = Random::new(7);
        for _ in 0..20_000 {
            let count = random.below(9);
            let query: String = (0..count).map(|_| PARTS[random.below(PARTS.len())]).collect();
            let query = format!("?{query}");
            let of_name = values(query.as_bytes(), "key").count();
            let Some(left) = without(query.as_bytes(), &["key"]) else {
                assert_eq!(of_name, 0, "{query}");
                continue;
            };
            assert!(of_name > 0 && values(&left, "key").next().is_none(), "{query}");
            let parts = |of: &[u8]| -> Vec<Vec<u8>> {
                let of = of.strip_prefix(b"?").unwrap_or(of);
                of.split(|b| matches!(b, b'&' | b';')).map(<[u8]>::to_vec).collect()
            };
            let mut others = parts(query.as_bytes());
            others.retain(|it| !decoded(name_and_value(it).0).eq_ignore_ascii_case(b"key"));
            let mut kept = parts(&left);
            // Nothing has one part, which is empty.
            kept.retain(|_| !left.is_empty());
            assert_eq!(kept, others, "{query}");
            assert_eq!(without(&left, &["key"]), None, "{query}");
        }
    }
}
