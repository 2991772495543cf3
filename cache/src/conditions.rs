//! Whether a client has a stored answer already (RFC 9110, 13; RFC 9111, 4.3.2).

use crate::asked::Asked;
use crate::date;
use crate::list::{Item, items, trim};

/// What a stored answer can be told by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validators<'a> {
    pub etag: Option<&'a [u8]>,
    pub last_modified: Option<&'a [u8]>,
    pub date: Option<&'a [u8]>,
}

impl Validators<'_> {
    /// Whether the client has it: 304.
    pub fn are_had(&self, asked: &Asked<'_>, now_s: u64) -> bool {
        if !asked.if_none_match.is_empty() {
            let lines = asked.if_none_match.iter();
            return lines.flat_map(|line| items(line)).any(|item| match item {
                Item::Is(b"*") => true,
                Item::Is(tag) => self.etag.is_some_and(|own| is_same(own, tag)),
                Item::Unended => false,
            });
        }
        let Some(since) = asked.if_modified_since else { return false };
        let at = self.last_modified.or(self.date).and_then(|it| date::read(it, now_s));
        !asked.is_ambiguous && at.zip(date::read(since, now_s)).is_some_and(|(at, since)| at <= since)
    }

    /// Whether a part may be sent by `If-Range`: it is of this very answer.
    pub fn have_part(&self, if_range: &[u8], now_s: u64) -> bool {
        let if_range = trim(if_range);
        if if_range.first() == Some(&b'"') {
            return self.etag.is_some_and(|own| trim(own) == if_range && if_range.len() > 1);
        }
        // A date says so where it is a strong validator: of what had not changed for a minute (RFC 9110, 8.8.2.2).
        let read = |text: Option<&[u8]>| text.and_then(|text| date::read(text, now_s));
        let (at, made) = (read(self.last_modified), read(self.date));
        let is_strong = at.zip(made).is_some_and(|(at, made)| made.saturating_sub(at) >= 60);
        is_strong && at == date::read(if_range, now_s)
    }

    /// Whether a 304 with these fields is about this answer (RFC 9111, 4.3.4).
    pub fn are_of(&self, etag: Option<&[u8]>, last_modified: Option<&[u8]>) -> bool {
        match (self.etag, etag) {
            (Some(own), Some(other)) => is_same(own, other),
            (None, Some(_)) => false,
            (_, None) => match (self.last_modified, last_modified) {
                (Some(own), Some(other)) => trim(own) == trim(other) || self.etag.is_some(),
                _ => true,
            },
        }
    }
}

/// By the weak comparison (RFC 9110, 8.8.3.2).
fn is_same(one: &[u8], other: &[u8]) -> bool {
    opaque(one) == opaque(other)
}

fn opaque(tag: &[u8]) -> &[u8] {
    let tag = trim(tag);
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 784_200_000;
    const AT: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &[u8] = b"Sun, 06 Nov 1994 08:50:37 GMT";

    fn had(own: Validators<'_>, fields: &[(&str, &[u8])]) -> bool {
        own.are_had(&Asked::read(fields.iter().map(|(name, value)| (name.as_bytes(), *value))), NOW)
    }

    #[test]
    fn tags_stand_over_dates_and_weak_ones_are_as_good() {
        let own = Validators { etag: Some(b"W/\"a,b\""), last_modified: Some(AT), date: None };
        for (value, expected) in [
            (&b"\"a,b\""[..], true),
            (b"\"x\", W/\"a,b\", \"y\"", true),
            (b"*", true),
            (b"\"A,B\"", false),
            (b"a,b", false),
            (b"\"a,b", false),
        ] {
            assert_eq!(had(own, &[("if-none-match", value)]), expected, "{value:?}");
        }
        assert!(!had(own, &[("if-none-match", &b"\"x\""[..]), ("if-modified-since", LATER)]));
    }

    #[test]
    fn what_is_not_newer_is_had_and_where_it_says_no_date_of_its_own_its_answers_counts() {
        let own = Validators { last_modified: Some(AT), ..Default::default() };
        assert!(had(own, &[("if-modified-since", AT)]) && had(own, &[("if-modified-since", LATER)]));
        let own = Validators { date: Some(LATER), ..Default::default() };
        assert!(had(own, &[("if-modified-since", LATER)]) && !had(own, &[("if-modified-since", AT)]));
        assert!(!had(own, &[("if-modified-since", &b"yesterday"[..])]) && !had(Validators::default(), &[]));
        assert!(!had(own, &[("if-modified-since", LATER), ("if-modified-since", LATER)]));
    }

    #[test]
    fn a_part_is_of_this_very_answer() {
        let own = Validators { etag: Some(b"\"a\""), last_modified: Some(AT), date: Some(LATER) };
        assert!(own.have_part(b"\"a\"", NOW) && !own.have_part(b"\"b\"", NOW) && own.have_part(AT, NOW));
        assert!(!own.have_part(LATER, NOW) && !own.have_part(b"x", NOW));
        let weak = Validators { etag: Some(b"W/\"a\""), last_modified: Some(AT), date: Some(AT) };
        assert!(
            !weak.have_part(b"\"a\"", NOW) && !weak.have_part(b"W/\"a\"", NOW) && !weak.have_part(AT, NOW)
        );
    }

    #[test]
    fn a_304_is_about_what_has_its_tag() {
        let own = Validators { etag: Some(b"\"a\""), last_modified: Some(AT), date: None };
        assert!(
            own.are_of(None, None) && own.are_of(Some(b"\"a\""), None) && own.are_of(Some(b"W/\"a\""), None)
        );
        assert!(!own.are_of(Some(b"\"b\""), Some(AT)));
        let dated = Validators { last_modified: Some(AT), ..Default::default() };
        assert!(
            dated.are_of(None, Some(AT))
                && !dated.are_of(None, Some(LATER))
                && !dated.are_of(Some(b"\"a\""), None)
        );
    }
}
