//! What an answer tells a cache (RFC 9111, 5.2.2; RFC 9213).

use crate::directives::Directives;
use crate::list::{seconds, trim};
use crate::vary::Vary;
use crate::{Field, date, targeted};

/// Most lines of a targeted field that are read.
const TARGETED_LINES_MAX: usize = 16;

/// An answer, as far as a cache goes by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub status: u16,
    pub directives: Directives,
    /// When it is over; `Some(None)` where that is malformed, or stands there twice: it is over then.
    pub expires: Option<Option<u64>>,
    pub date: Option<u64>,
    /// Seconds since it was made or validated, as caches before this one have it.
    pub age_s: u64,
    pub last_modified: Option<u64>,
    pub has_etag: bool,
    pub sets_cookie: bool,
    pub vary: Vary,
}

impl Told {
    /// `now_s` is the second of Unix time.
    pub fn read<'a>(status: u16, fields: impl IntoIterator<Item = Field<'a>>, now_s: u64) -> Self {
        let mut told = Self { status, ..Self::default() };
        let mut lines: Vec<&[u8]> = Vec::new();
        let (mut age, mut has_many) = (None, false);
        for (name, value) in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            match name.len() {
                3 if is("age") => {
                    age.get_or_insert(value);
                }
                4 if is("date") => told.date = date::read(value, now_s),
                4 if is("etag") => told.has_etag = true,
                4 if is("vary") => told.vary.read(value),
                7 if is("expires") => {
                    let read = date::read(value, now_s);
                    told.expires = Some(read.filter(|_| told.expires.is_none()));
                }
                10 if is("set-cookie") => told.sets_cookie = true,
                11 if is("set-cookie2") => told.sets_cookie = true,
                13 if is("cache-control") => told.directives.read(value),
                13 if is("last-modified") => told.last_modified = date::read(value, now_s),
                17 if is("cdn-cache-control") => {
                    has_many |= lines.len() == TARGETED_LINES_MAX;
                    lines.push(value);
                    lines.truncate(TARGETED_LINES_MAX);
                }
                _ => {}
            }
        }
        // The first counts, the rest are passed over (RFC 9111, 5.1).
        let first = age.and_then(|age| age.split(|b| *b == b',').next());
        told.age_s = first.and_then(|first| seconds(trim(first))).unwrap_or_default();
        if let Some(targeted) = targeted::read(&lines) {
            (told.directives, told.expires) = (targeted, None);
        }
        told.directives.is_ambiguous |= has_many;
        told
    }

    /// How long it is fresh, where it says so; in seconds.
    pub(crate) fn lifetime_s(&self, now_s: u64) -> Option<u64> {
        let directives = &self.directives;
        let said = directives.s_maxage.or_none().or(directives.max_age.or_none());
        said.or_else(|| {
            let date = self.date.unwrap_or(now_s);
            self.expires.map(|at| at.map_or(0, |at| at.saturating_sub(date).min(crate::SECONDS_MAX)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 784_111_777;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 09:49:37 GMT";

    fn of(fields: &[(&str, &str)]) -> Told {
        Told::read(200, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), NOW)
    }

    #[test]
    fn s_maxage_stands_over_max_age_and_that_over_expires() {
        let life = |fields: &[(&str, &str)]| of(fields).lifetime_s(NOW);
        assert_eq!(life(&[]), None);
        assert_eq!(life(&[("Date", DATE), ("Expires", LATER)]), Some(3600));
        assert_eq!(life(&[("Expires", LATER), ("Cache-Control", "max-age=5")]), Some(5));
        assert_eq!(life(&[("Cache-Control", "max-age=5, s-maxage=7")]), Some(7));
        assert_eq!(life(&[("Cache-Control", "max-age=5, s-maxage=x")]), Some(0));
        assert_eq!(life(&[("Expires", "0")]), Some(0));
        assert_eq!(life(&[("Expires", LATER), ("Expires", LATER)]), Some(0), "two of them");
    }

    #[test]
    fn what_is_for_caches_like_this_one_stands_over_all_of_it() {
        let told = of(&[
            ("CDN-Cache-Control", "max-age=9"),
            ("Cache-Control", "no-store, max-age=5"),
            ("Expires", LATER),
        ]);
        assert_eq!((told.lifetime_s(NOW), told.directives.no_store), (Some(9), false));
        let told =
            of(&[("CDN-Cache-Control", "private"), ("Cache-Control", "max-age=5"), ("Expires", LATER)]);
        assert_eq!((told.lifetime_s(NOW), told.directives.private), (None, true));
        let told = of(&[("CDN-Cache-Control", "max-age=\"9\""), ("Cache-Control", "max-age=5")]);
        assert_eq!(told.lifetime_s(NOW), Some(5));
    }

    #[test]
    fn of_several_ages_the_first_counts() {
        for (lines, age) in [
            (&["7200"][..], 7200),
            (&["7200, 0"], 7200),
            (&["0, 7200"], 0),
            (&["7200", "0"], 7200),
            (&["abc"], 0),
            (&["-7200"], 0),
            (&["7200.0"], 0),
            (&["99999999999999999999"], crate::SECONDS_MAX),
        ] {
            let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("Age", *line)).collect();
            assert_eq!(of(&fields).age_s, age, "{lines:?}");
        }
    }
}
