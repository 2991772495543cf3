//! Lists of a field's value (RFC 9110, 5.6.1), whose items may have quoted strings.

/// An item of a list, without the white space around it; or the sign that its quotes do not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Is(&'a [u8]),
    Unended,
}

/// The items of a value but for empty ones.
pub(crate) fn items(value: &[u8]) -> Items<'_> {
    Items { rest: value, is_over: false }
}

#[derive(Debug, Clone)]
pub(crate) struct Items<'a> {
    rest: &'a [u8],
    is_over: bool,
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        while !self.is_over {
            let (mut quoted, mut escaped) = (false, false);
            let end = self.rest.iter().position(|b| {
                match b {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    b',' => return !quoted,
                    _ => {}
                }
                false
            });
            let item = match end {
                Some(end) => {
                    let item = &self.rest[..end];
                    self.rest = &self.rest[end + 1..];
                    item
                }
                None => {
                    self.is_over = true;
                    if quoted {
                        return Some(Item::Unended);
                    }
                    self.rest
                }
            };
            let item = trim(item);
            if !item.is_empty() {
                return Some(Item::Is(item));
            }
        }
        None
    }
}

/// Without white space of HTTP at either end.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Digits alone, at most [`crate::SECONDS_MAX`]: what is larger is as good as that.
pub(crate) fn seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, b: &u8| (sum * 10 + u64::from(b - b'0')).min(crate::SECONDS_MAX);
    Some(text.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(value: &str) -> Vec<&str> {
        let text = |it| match it {
            Item::Is(it) => std::str::from_utf8(it).unwrap(),
            Item::Unended => "UNENDED",
        };
        items(value.as_bytes()).map(text).collect()
    }

    #[test]
    fn items_end_at_commas_outside_of_quotes() {
        assert_eq!(all(" a ,, b=\"c, \\\", d\",\te "), ["a", "b=\"c, \\\", d\"", "e"]);
        assert_eq!(all("a, b=\"c, d"), ["a", "UNENDED"]);
        assert_eq!(all(" , "), [""; 0]);
    }

    #[test]
    fn seconds_are_digits_and_never_overflow() {
        for (text, expected) in [
            ("0", Some(0)),
            ("003600", Some(3600)),
            ("99999999999999999999999999", Some(crate::SECONDS_MAX)),
            ("", None),
            ("-1", None),
            ("1.0", None),
            ("+1", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let read: usize = items(&value).map(|it| match it { Item::Is(it) => it.len(), Item::Unended => 0 }).sum();
            prop_assert!(read <= value.len());
        }
    }
}
