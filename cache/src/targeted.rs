//! CDN-Cache-Control (RFC 9213): a dictionary of structured fields (RFC 9651) that stands over Cache-Control and Expires
//! for caches like this one. One that is no such dictionary is passed over.

use crate::directives::{Directives, Seconds};
use crate::list::seconds;

/// Most bytes of it that are read.
const BYTES_MAX: usize = 4096;

/// What its lines say together; None where that is nothing, or malformed.
pub(crate) fn read(lines: &[&[u8]]) -> Option<Directives> {
    let text = lines.join(&b", "[..]);
    if text.len() > BYTES_MAX {
        return None;
    }
    let mut directives = Directives::default();
    let mut rest = Reader { text: &text };
    rest.skip(b" ");
    while !rest.text.is_empty() {
        let key = rest.key()?;
        let value = if rest.take(b'=') { rest.value()? } else { Value::Is(true) };
        rest.parameters()?;
        say(&mut directives, key, value)?;
        rest.skip(b" \t");
        if rest.text.is_empty() {
            break;
        }
        if !rest.take(b',') {
            return None;
        }
        rest.skip(b" \t");
        if rest.text.is_empty() {
            return None;
        }
    }
    directives.is_said.then_some(directives)
}

/// None where a directive that is known has a value of another type.
fn say(directives: &mut Directives, key: &[u8], value: Value<'_>) -> Option<()> {
    directives.is_said = true;
    let switch = match key {
        b"no-store" => &mut directives.no_store,
        b"no-cache" => &mut directives.no_cache,
        b"private" => &mut directives.private,
        b"public" => &mut directives.public,
        b"must-revalidate" => &mut directives.must_revalidate,
        b"proxy-revalidate" => &mut directives.proxy_revalidate,
        b"must-understand" => &mut directives.must_understand,
        _ => {
            let number = match key {
                b"max-age" => &mut directives.max_age,
                b"s-maxage" => &mut directives.s_maxage,
                b"stale-while-revalidate" => &mut directives.stale_while_revalidate,
                b"stale-if-error" => &mut directives.stale_if_error,
                _ => return Some(()),
            };
            let Value::Number(digits) = value else { return None };
            // The last of a key is the one that counts (RFC 9651, 3.2).
            *number = Seconds::Is(seconds(digits)?);
            return Some(());
        }
    };
    *switch = match value {
        Value::Is(is) => is,
        // As Cache-Control has it with fields, this forbids.
        _ if key == b"no-cache" || key == b"private" => true,
        _ => return None,
    };
    Some(())
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Is(bool),
    /// An integer that is not negative.
    Number(&'a [u8]),
    Other,
}

pub(crate) struct Reader<'a> {
    pub text: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn skip(&mut self, among: &[u8]) {
        let end = self.text.iter().position(|b| !among.contains(b)).unwrap_or(self.text.len());
        self.text = &self.text[end..];
    }

    pub fn take(&mut self, b: u8) -> bool {
        let found = self.text.first() == Some(&b);
        if found {
            self.text = &self.text[1..];
        }
        found
    }

    fn run(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.text.iter().position(|b| !is_part(*b)).unwrap_or(self.text.len());
        let (run, rest) = self.text.split_at(end);
        self.text = rest;
        run
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        if !matches!(self.text.first()?, b'a'..=b'z' | b'*') {
            return None;
        }
        Some(self.run(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')))
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match *self.text.first()? {
            b'(' => {
                self.take(b'(');
                loop {
                    self.skip(b" ");
                    if self.take(b')') {
                        return Some(Value::Other);
                    }
                    self.bare()?;
                    self.parameters()?;
                    if !matches!(self.text.first()?, b' ' | b')') {
                        return None;
                    }
                }
            }
            _ => self.bare(),
        }
    }

    fn bare(&mut self) -> Option<Value<'a>> {
        match *self.text.first()? {
            b'?' => {
                self.take(b'?');
                let is = self.take(b'1');
                (is || self.take(b'0')).then_some(Value::Is(is))
            }
            b'-' | b'0'..=b'9' | b'@' => {
                let is_date = self.take(b'@');
                let is_negative = self.take(b'-');
                let digits = self.run(|b| b.is_ascii_digit());
                let is_decimal = self.take(b'.');
                if digits.is_empty() || digits.len() > 15 {
                    return None;
                }
                if is_decimal {
                    let fraction = self.run(|b| b.is_ascii_digit());
                    let fits = !is_date && digits.len() <= 12 && (1..=3).contains(&fraction.len());
                    return fits.then_some(Value::Other);
                }
                Some(if is_negative || is_date { Value::Other } else { Value::Number(digits) })
            }
            b'"' => {
                self.take(b'"');
                loop {
                    match *self.text.first()? {
                        b'"' => {
                            self.take(b'"');
                            return Some(Value::Other);
                        }
                        b'\\' => {
                            self.take(b'\\');
                            if !self.take(b'"') && !self.take(b'\\') {
                                return None;
                            }
                        }
                        0x20..=0x7e => self.text = &self.text[1..],
                        _ => return None,
                    }
                }
            }
            b':' => {
                self.take(b':');
                self.run(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
                self.take(b':').then_some(Value::Other)
            }
            b if b.is_ascii_alphabetic() || b == b'*' => {
                self.run(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b));
                Some(Value::Other)
            }
            _ => None,
        }
    }

    pub fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.bare()?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Option<Directives> {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        read(&lines)
    }

    #[test]
    fn a_dictionary_is_read() {
        let read = of(&["max-age=60;x=\"1\", private, foo=(a \"b\" ?1);y", "no-cache=?0"]).unwrap();
        assert!(read.private && !read.no_cache && !read.no_store);
        assert_eq!(read.max_age, Seconds::Is(60));
        assert_eq!(of(&["max-age=1, max-age=2"]).unwrap().max_age, Seconds::Is(2));
        assert_eq!(of(&["max-age=99999999999"]).unwrap().max_age, Seconds::Is(crate::SECONDS_MAX));
    }

    #[test]
    fn what_is_no_dictionary_is_passed_over() {
        for line in [
            "",
            " ",
            "Max-Age=60",
            "max-age=\"60\"",
            "max-age=60.5",
            "max-age=-1",
            "max-age = 60",
            "max-age=60,",
            "max-age=60 no-store",
            "max-age=&&&&&",
            "max-age=1234567890123456",
            "a=\"b",
        ] {
            assert_eq!(of(&[line]), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&value]);
        }

        #[test]
        fn almost_dictionaries_are_read(value in "[a-z=\\-0-9;,\"() ?@:.]{0,60}") {
            let _ = of(&[&value]);
        }
    }
}
