//! Whether an answer is stored (RFC 9111, 3).

use crate::asked::Asked;
use crate::directives::Seconds;
use crate::kept::Kept;
use crate::told::Told;

/// Statuses for which a lifetime may be guessed (RFC 9110, 15.1), but for 206.
const GUESSED: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
/// A guess is this part of the time for which the answer has not changed, and no more than a day.
const GUESSED_PART: u64 = 10;
const GUESSED_S_MAX: u64 = 24 * 3600;

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Not {
    /// It is of this request alone: another may have one that is stored.
    Asked,
    /// It says so, or what it is says so.
    Told,
}

/// Who asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asker {
    /// It proved who it is, here or to the origin.
    pub is_known: bool,
}

/// What is kept with the answer to a GET; `delay_s` passed between the request and it, `now_s` is the second of Unix
/// time.
pub fn judge(asked: &Asked<'_>, asker: Asker, told: &Told, now_s: u64, delay_s: u64) -> Result<Kept, Not> {
    let said = &told.directives;
    if asked.directives.no_store {
        return Err(Not::Asked);
    }
    let is_final = (200..600).contains(&told.status) && !matches!(told.status, 206 | 304 | 416 | 426);
    let is_understood = GUESSED.contains(&told.status) || matches!(told.status, 302 | 303 | 307);
    let forbids = match said.must_understand {
        true => !is_understood,
        false => said.no_store,
    };
    if !is_final || forbids || said.private || said.is_ambiguous || told.sets_cookie || told.vary.is_any() {
        return Err(Not::Told);
    }
    let is_shared = said.public || said.s_maxage.known().is_some();
    if (asked.has_authorization || asker.is_known) && !is_shared {
        return Err(Not::Asked);
    }
    let explicit = told.lifetime_s(now_s);
    let lifetime_s = match explicit {
        Some(lifetime) => lifetime,
        // What is told to who has a cookie may be for that one.
        None if asked.has_cookie && !said.public => return Err(Not::Asked),
        None if GUESSED.contains(&told.status) || said.public => guess(told, now_s),
        None => 0,
    };
    let is_some = |it: Seconds| it.known().is_some_and(|it| it > 0);
    let may_be_stale = is_some(said.stale_while_revalidate) || is_some(said.stale_if_error);
    // Nor is what is over at once: no grace is to bring it to another.
    if lifetime_s == 0 && asked.has_cookie && !said.public && !said.no_cache && !may_be_stale {
        return Err(Not::Asked);
    }
    let validates = told.status == 200 && (told.has_etag || told.last_modified.is_some());
    let is_usable = !said.no_cache && (lifetime_s > 0 || may_be_stale);
    if !is_usable && !validates {
        return Err(Not::Told);
    }
    let apparent_s = told.date.map_or(0, |date| now_s.saturating_sub(date));
    let initial_age_s = apparent_s.max(told.age_s.saturating_add(delay_s)).min(crate::SECONDS_MAX);
    Ok(Kept {
        lifetime_s,
        initial_age_s,
        sent_age_s: apparent_s.saturating_sub(delay_s).max(told.age_s).min(crate::SECONDS_MAX),
        always_validate: said.no_cache,
        never_stale: said.must_revalidate || said.proxy_revalidate,
        says_s_maxage: said.s_maxage != Seconds::Unsaid,
        is_shared,
        stale_while_revalidate_s: said.stale_while_revalidate.known().unwrap_or_default(),
        stale_if_error_s: said.stale_if_error.known().unwrap_or_default(),
    })
}

fn guess(told: &Told, now_s: u64) -> u64 {
    let unchanged = told.last_modified.map(|at| told.date.unwrap_or(now_s).saturating_sub(at));
    unchanged.map_or(0, |unchanged| (unchanged / GUESSED_PART).min(GUESSED_S_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 784_111_777;
    const DATE: (&str, &str) = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    const OLD: (&str, &str) = ("Last-Modified", "Sat, 05 Nov 1994 08:49:37 GMT");

    fn bytes<'a>(fields: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = crate::Field<'a>> {
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    fn judged(asked: &[(&str, &str)], status: u16, told: &[(&str, &str)]) -> Result<Kept, Not> {
        let told = Told::read(status, bytes(told), NOW);
        judge(&Asked::read(bytes(asked)), Asker::default(), &told, NOW, 0)
    }

    fn control(value: &str) -> Result<Kept, Not> {
        judged(&[], 200, &[("Cache-Control", value), DATE])
    }

    #[test]
    fn what_says_that_it_is_not_stored_is_not() {
        for value in [
            "no-store, max-age=60",
            "private, max-age=60",
            "private=\"x\", max-age=60",
            "max-age=0",
            "max-age=60, foo=\"bar",
            "max-age=60, max-age=61",
            "no-cache, max-age=60",
            "",
        ] {
            assert_eq!(control(value), Err(Not::Told), "{value}");
        }
        assert_eq!(control("max-age=60").unwrap().lifetime_s, 60);
        for field in [("Set-Cookie", "a=b"), ("Set-Cookie2", "a=b"), ("Vary", "*"), ("Vary", "a, *")] {
            assert_eq!(judged(&[], 200, &[("Cache-Control", "public, max-age=60"), field]), Err(Not::Told));
        }
    }

    #[test]
    fn what_must_be_understood_is_stored_where_its_status_is() {
        let value = ("Cache-Control", "no-store, must-understand, max-age=60");
        assert!(judged(&[], 200, &[value]).is_ok());
        assert_eq!(judged(&[], 599, &[value]), Err(Not::Told));
        assert!(judged(&[], 599, &[("Cache-Control", "max-age=60")]).is_ok());
        for status in [100, 206, 304, 416, 426, 600] {
            assert_eq!(judged(&[], status, &[("Cache-Control", "max-age=60")]), Err(Not::Told), "{status}");
        }
    }

    #[test]
    fn answers_to_who_proved_who_it_is_are_stored_where_they_are_for_all() {
        let proof = [("Authorization", "Basic x")];
        for (value, is_stored) in [
            ("max-age=60", false),
            ("max-age=60, public", true),
            ("s-maxage=60", true),
            ("s-maxage=x", false),
        ] {
            let kept = judged(&proof, 200, &[("Cache-Control", value)]);
            assert_eq!(kept.is_ok_and(|it| it.is_shared), is_stored, "{value}");
            let told = Told::read(200, bytes(&[("Cache-Control", value)]), NOW);
            let kept = judge(&Asked::default(), Asker { is_known: true }, &told, NOW, 0);
            assert_eq!(kept.is_ok(), is_stored, "{value}");
        }
    }

    #[test]
    fn a_lifetime_is_guessed_where_the_status_allows_and_no_cookie_asks() {
        assert_eq!(judged(&[], 200, &[DATE, OLD]).unwrap().lifetime_s, 8640);
        assert_eq!(judged(&[], 404, &[DATE, OLD]).unwrap().lifetime_s, 8640);
        assert_eq!(judged(&[], 500, &[DATE, OLD]), Err(Not::Told));
        assert_eq!(judged(&[("Cookie", "a=b")], 200, &[DATE, OLD]), Err(Not::Asked));
        assert!(judged(&[("Cookie", "a=b")], 200, &[DATE, ("Cache-Control", "max-age=60")]).is_ok());
        let long = ("Last-Modified", "Sun, 06 Nov 1983 08:49:37 GMT");
        assert_eq!(judged(&[], 200, &[DATE, long]).unwrap().lifetime_s, GUESSED_S_MAX);
        assert_eq!(judged(&[], 200, &[DATE]), Err(Not::Told), "nothing to guess by");
    }

    #[test]
    fn what_is_over_at_once_is_not_stored_of_who_has_a_cookie() {
        let of = |control| {
            judged(&[("Cookie", "a=b")], 200, &[("Cache-Control", control), ("ETag", "\"a\""), DATE])
        };
        for alone in ["max-age=0", "max-age=0, must-revalidate", "s-maxage=x, max-age=60"] {
            assert_eq!(of(alone), Err(Not::Asked), "{alone}");
        }
        for all in
            ["public, max-age=0", "no-cache, max-age=60", "max-age=0, stale-while-revalidate=9", "max-age=1"]
        {
            assert!(of(all).is_ok(), "{all}");
        }
    }

    #[test]
    fn what_took_long_to_come_is_as_old_as_it_was_when_it_was_sent_for_who_waited() {
        let of = |date: &str| {
            let told = Told::read(200, bytes(&[("Cache-Control", "max-age=1"), ("Date", date)]), NOW);
            judge(&Asked::default(), Asker::default(), &told, NOW, 3).unwrap()
        };
        let new = of("Sun, 06 Nov 1994 08:49:34 GMT");
        assert_eq!((new.initial_age_s, new.sent_age_s, new.is_for_several(0)), (3, 0, true));
        let old = of("Sun, 06 Nov 1994 08:49:33 GMT");
        assert_eq!((old.initial_age_s, old.sent_age_s, old.is_for_several(0)), (4, 1, false));
    }

    #[test]
    fn what_can_be_validated_is_stored_although_it_is_over() {
        let etag = ("ETag", "\"a\"");
        let kept = judged(&[], 200, &[("Cache-Control", "no-cache, max-age=60"), etag]).unwrap();
        assert!(kept.always_validate);
        assert_eq!(judged(&[], 200, &[("Cache-Control", "max-age=0"), etag]).unwrap().lifetime_s, 0);
        assert_eq!(judged(&[], 404, &[("Cache-Control", "max-age=0"), etag]), Err(Not::Told));
        assert_eq!(judged(&[("Cache-Control", "no-store")], 200, &[etag]), Err(Not::Asked));
    }

    #[test]
    fn the_age_at_first_is_the_larger_of_two_and_never_overflows() {
        let told = |fields: &[(&str, &str)]| Told::read(200, bytes(fields), NOW);
        let life = ("Cache-Control", "max-age=9999");
        let age = |told: &Told, delay| {
            judge(&Asked::default(), Asker::default(), told, NOW, delay).unwrap().initial_age_s
        };
        assert_eq!(age(&told(&[life, ("Date", "Sun, 06 Nov 1994 08:49:07 GMT"), ("Age", "5")]), 1), 30);
        assert_eq!(age(&told(&[life, DATE, ("Age", "50")]), 1), 51);
        assert_eq!(age(&told(&[life, ("Date", "Sun, 06 Nov 2094 08:49:07 GMT")]), 1), 1, "of the future");
        assert_eq!(age(&told(&[life, ("Age", "99999999999")]), u64::MAX), crate::SECONDS_MAX);
    }
}
