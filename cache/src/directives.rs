//! Cache-Control (RFC 9111, 5.2; RFC 5861; RFC 8246), of requests and of answers.

use crate::list::{Item, items, seconds, trim};

/// A number of seconds that a directive says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seconds {
    #[default]
    Unsaid,
    Is(u64),
    /// It is malformed, or stands there with two values.
    Bad,
}

impl Seconds {
    /// What is malformed says nothing.
    pub fn known(self) -> Option<u64> {
        match self {
            Self::Is(seconds) => Some(seconds),
            Self::Unsaid | Self::Bad => None,
        }
    }

    /// What is malformed is over at once.
    pub fn or_none(self) -> Option<u64> {
        match self {
            Self::Is(seconds) => Some(seconds),
            Self::Bad => Some(0),
            Self::Unsaid => None,
        }
    }

    pub(crate) fn say(&mut self, value: Option<u64>) {
        *self = match (*self, value) {
            (Self::Unsaid, Some(seconds)) => Self::Is(seconds),
            (Self::Is(before), Some(seconds)) if before == seconds => Self::Is(before),
            _ => Self::Bad,
        };
    }
}

/// What Cache-Control says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Directives {
    /// Something is said, whatever it is.
    pub is_said: bool,
    /// It has more than one reading.
    pub is_ambiguous: bool,
    pub no_store: bool,
    /// With fields or without: no answer is told apart by them.
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub only_if_cached: bool,
    pub max_age: Seconds,
    pub s_maxage: Seconds,
    pub min_fresh: Seconds,
    pub max_stale: Seconds,
    /// However stale it is.
    pub any_stale: bool,
    pub stale_while_revalidate: Seconds,
    pub stale_if_error: Seconds,
}

impl Directives {
    /// Reads one field line more.
    pub fn read(&mut self, value: &[u8]) {
        for item in items(value) {
            self.is_said = true;
            match item {
                Item::Is(item) => self.directive(item),
                Item::Unended => self.is_ambiguous = true,
            }
        }
    }

    fn directive(&mut self, item: &[u8]) {
        let (name, value) = match item.iter().position(|b| *b == b'=') {
            Some(at) => (&item[..at], Some(&item[at + 1..])),
            None => (item, None),
        };
        // White space around the sign is none of the grammar.
        let is_plain = trim(name) == name && value.is_none_or(|value| trim(value) == value);
        let number = value.filter(|_| is_plain).and_then(|value| seconds(unquoted(value)));
        let is = |other: &str| trim(name).eq_ignore_ascii_case(other.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("private") {
            self.private = true;
        } else if is("public") {
            // What opens is taken at its plain word alone.
            self.public |= value.is_none();
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand |= value.is_none();
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            self.max_age.say(number);
        } else if is("s-maxage") {
            self.s_maxage.say(number);
        } else if is("min-fresh") {
            self.min_fresh.say(number);
        } else if is("max-stale") {
            match value {
                None => self.any_stale = true,
                Some(_) => self.max_stale.say(number),
            }
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate.say(number);
        } else if is("stale-if-error") {
            self.stale_if_error.say(number);
        }
    }
}

/// A quoted string's content, where it has no quoted pair.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') && !inner.contains(&b'"') => inner,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Directives {
        let mut read = Directives::default();
        lines.iter().for_each(|line| read.read(line.as_bytes()));
        read
    }

    #[test]
    fn directives_are_read_in_any_case_and_over_several_lines() {
        let read = of(&["MaX-AgE=3600, nO-StOrE", "private=\"a, b\", foo=\"max-age=1\", must-understand"]);
        assert_eq!(read.max_age, Seconds::Is(3600));
        assert!(
            read.no_store && read.private && read.must_understand && !read.no_cache && !read.is_ambiguous
        );
    }

    #[test]
    fn a_number_that_is_malformed_or_said_twice_is_over_at_once() {
        for line in [
            "max-age=-1",
            "max-age=1.5",
            "max-age='1'",
            "max-age",
            "max-age=",
            "max-age =1",
            "max-age= 1",
            "max-age=1a",
            "max-age=5, max-age=6",
        ] {
            let read = of(&[line]);
            assert_eq!((read.max_age, read.max_age.or_none()), (Seconds::Bad, Some(0)), "{line}");
        }
        assert_eq!(of(&["max-age=5", "max-age=5"]).max_age, Seconds::Is(5));
        assert_eq!(of(&["max-age=\"5\""]).max_age, Seconds::Is(5));
        assert_eq!(of(&["max-age=99999999999"]).max_age, Seconds::Is(crate::SECONDS_MAX));
    }

    #[test]
    fn quotes_that_do_not_end_are_ambiguous() {
        assert!(of(&["max-age=3600, foo=\"bar, no-store"]).is_ambiguous);
    }

    #[test]
    fn what_opens_is_taken_at_its_plain_word_alone() {
        assert!(!of(&["public=\"x\""]).public && of(&["public"]).public);
        assert!(of(&["no-cache=\"x\""]).no_cache && of(&["no-store=1"]).no_store);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut read = Directives::default();
            read.read(&value);
        }

        #[test]
        fn what_forbids_is_found_wherever_it_stands(before in "[a-z]{1,8}(=[a-z0-9]{1,5}|=\"[a-z,]{0,5}\")?", after in "[a-z]{1,8}") {
            let line = format!("{before} ,no-store\t, {after}");
            prop_assert!(of(&[&line]).no_store, "{}", line);
        }
    }
}
