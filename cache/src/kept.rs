//! What of a stored answer may be used, and when (RFC 9111, 4.2; RFC 5861).

use crate::asked::Asked;

/// What is kept with a stored answer. Times in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    pub lifetime_s: u64,
    /// When it was received.
    pub initial_age_s: u64,
    /// When it was sent, by its own word.
    pub sent_age_s: u64,
    /// `no-cache`: it is validated before each use.
    pub always_validate: bool,
    /// `must-revalidate`, `proxy-revalidate`.
    pub never_stale: bool,
    /// With which it is stale only where it says for how long.
    pub says_s_maxage: bool,
    /// It is for all, also for who proves who it is.
    pub is_shared: bool,
    pub stale_while_revalidate_s: u64,
    pub stale_if_error_s: u64,
}

/// What becomes of a request for which there is a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Fresh,
    /// It is used, and asked for beside.
    WhileRevalidating,
    /// The origin is asked whether it still holds.
    Validate,
}

impl Kept {
    /// `resident_s` after it was received.
    pub fn age_s(&self, resident_s: u64) -> u64 {
        self.initial_age_s.saturating_add(resident_s).min(crate::SECONDS_MAX)
    }

    /// Seconds for which it is fresh still; negative where it is stale.
    pub fn left_s(&self, resident_s: u64) -> i64 {
        // Neither is larger than `SECONDS_MAX`.
        self.lifetime_s as i64 - self.age_s(resident_s) as i64
    }

    /// `grace_s` is how long what says nothing of it may be stale.
    pub fn judge(&self, asked: &Asked<'_>, resident_s: u64, grace_s: u64) -> Use {
        let (age, left) = (self.age_s(resident_s), self.left_s(resident_s));
        let said = &asked.directives;
        if self.always_validate || said.no_cache {
            return Use::Validate;
        }
        if left <= 0 && self.never_stale {
            return Use::Validate;
        }
        let stale_s = left.min(0).unsigned_abs();
        let slack_s =
            if said.any_stale { crate::SECONDS_MAX } else { said.max_stale.known().unwrap_or_default() };
        // `s-maxage` forbids it to a shared cache as `proxy-revalidate` does (RFC 9111, 5.2.2.10).
        let takes_stale = !self.says_s_maxage
            && (said.any_stale || said.max_stale.known().is_some_and(|most| stale_s <= most));
        // One that takes what is stale takes it also beyond its own `max-age`.
        let is_too_old = said.max_age.or_none().is_some_and(|most| age > most.saturating_add(slack_s));
        let ends_too_soon = said.min_fresh.or_none().is_some_and(|least| left < least as i64);
        if is_too_old || ends_too_soon {
            return Use::Validate;
        }
        if left > 0 || takes_stale {
            return Use::Fresh;
        }
        match stale_s < self.stale_s(self.stale_while_revalidate_s, grace_s) {
            true => Use::WhileRevalidating,
            false => Use::Validate,
        }
    }

    /// Whether others who waited for it may have it, without the origin's word for each: what is to be validated before
    /// each use may differ for each who asks, whatever it is told apart by. What took longer to come than it is fresh is for
    /// them all the same: else many would ask a slow origin for it, one by one, and have none that is newer.
    pub fn is_for_several(&self, grace_s: u64) -> bool {
        let sent = Self { initial_age_s: self.sent_age_s, ..*self };
        sent.judge(&Asked::default(), 0, grace_s) != Use::Validate
    }

    /// Whether it may be used where the origin fails.
    pub fn serves_on_error(&self, resident_s: u64, grace_s: u64) -> bool {
        let left = self.left_s(resident_s);
        if self.always_validate || (left <= 0 && self.never_stale) {
            return false;
        }
        left > 0 || left.unsigned_abs() < self.stale_s(self.stale_if_error_s, grace_s)
    }

    fn stale_s(&self, said_s: u64, grace_s: u64) -> u64 {
        if self.says_s_maxage { said_s } else { said_s.max(grace_s) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Kept = Kept {
        lifetime_s: 60,
        initial_age_s: 10,
        sent_age_s: 10,
        always_validate: false,
        never_stale: false,
        says_s_maxage: false,
        is_shared: false,
        stale_while_revalidate_s: 0,
        stale_if_error_s: 0,
    };

    fn asking(control: &'static str) -> Asked<'static> {
        Asked::read([(&b"cache-control"[..], control.as_bytes())])
    }

    #[test]
    fn it_is_fresh_while_it_is_younger_than_its_lifetime() {
        let plain = Asked::default();
        assert_eq!(KEPT.judge(&plain, 49, 0), Use::Fresh);
        assert_eq!(KEPT.judge(&plain, 50, 0), Use::Validate);
        assert_eq!(Kept { always_validate: true, ..KEPT }.judge(&plain, 0, 99), Use::Validate);
        assert_eq!(KEPT.age_s(u64::MAX), crate::SECONDS_MAX);
    }

    #[test]
    fn it_is_stale_for_as_long_as_it_says_or_the_route_does() {
        let plain = Asked::default();
        let said = Kept { stale_while_revalidate_s: 5, stale_if_error_s: 7, ..KEPT };
        assert_eq!(said.judge(&plain, 54, 0), Use::WhileRevalidating);
        assert_eq!(said.judge(&plain, 55, 0), Use::Validate);
        assert!(said.serves_on_error(56, 0) && !said.serves_on_error(57, 0));
        assert_eq!(KEPT.judge(&plain, 54, 5), Use::WhileRevalidating);
        assert!(KEPT.serves_on_error(54, 5) && !KEPT.serves_on_error(50, 0));
        let shared = Kept { says_s_maxage: true, ..KEPT };
        assert_eq!(shared.judge(&plain, 54, 5), Use::Validate, "it would have to say so");
        assert_eq!(shared.judge(&asking("max-stale"), 54, 0), Use::Validate, "whatever a client takes");
        assert_eq!(shared.judge(&asking("max-stale=99"), 54, 0), Use::Validate);
        for firm in [Kept { never_stale: true, ..said }, Kept { always_validate: true, ..said }] {
            assert_eq!(firm.judge(&plain, 50, 99), Use::Validate);
            assert_eq!(firm.judge(&asking("max-stale"), 50, 99), Use::Validate);
            assert!(!firm.serves_on_error(50, 99));
        }
    }

    #[test]
    fn what_is_validated_before_each_use_is_for_one_alone() {
        assert!(KEPT.is_for_several(0));
        let over = Kept { lifetime_s: 10, ..KEPT };
        assert!(!over.is_for_several(0) && over.is_for_several(5));
        assert!(Kept { stale_while_revalidate_s: 5, ..over }.is_for_several(0));
        assert!(!Kept { always_validate: true, ..KEPT }.is_for_several(5));
    }

    #[test]
    fn a_request_may_ask_for_more_or_take_less() {
        for (control, resident, expected) in [
            ("no-cache", 0, Use::Validate),
            ("max-age=0", 0, Use::Validate),
            ("max-age=10", 0, Use::Fresh),
            ("max-age=10", 1, Use::Validate),
            ("max-age=x", 0, Use::Validate),
            ("min-fresh=50", 0, Use::Fresh),
            ("min-fresh=50", 1, Use::Validate),
            ("max-stale", 999, Use::Fresh),
            ("max-stale=5", 55, Use::Fresh),
            ("max-stale=5", 56, Use::Validate),
            ("max-stale=x", 56, Use::Validate),
            ("max-age=60, max-stale=5", 55, Use::Fresh),
            ("max-age=10, max-stale=5", 6, Use::Validate),
        ] {
            assert_eq!(KEPT.judge(&asking(control), resident, 0), expected, "{control} {resident}");
        }
    }
}
