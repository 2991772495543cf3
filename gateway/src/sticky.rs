//! Which of a route's services who asks has, again and again: by a key of who that is. Pure.
//!
//! Weighted rendezvous hashing: each service has a score for a key, and the highest has it. A service that comes, goes
//! or weighs something else moves as few keys as that share of all has to; all balancers come to the same. Of a shift a
//! second number of the same key says whether it goes over: who has gone over stays there while the share rises.
//!
//! A cookie has a place among [`PLACES`] and nothing else: it says where its owner is led, and is shared by whoever drew
//! the same.

use crate::limit::Neighbours;

/// Places that a cookie can have: so few that it names nobody, so many that a weight of a hundredth is one.
pub const PLACES: u64 = 10_000;
/// The cookie's name where the route gives none.
pub const COOKIE: &str = "skep-place";
/// Longest name of a cookie.
pub const COOKIE_BYTES_MAX: usize = 64;

/// By what who asks is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// The consumer: the route has `auth`.
    Consumer,
    /// The address; of IPv6 the first 64 bits.
    Address,
    /// A cookie of that name, which the balancer sets.
    Cookie(String),
}

/// A key of who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    pub fn of_consumer(id: u64) -> Self {
        Self(mixed(id ^ 0x636f_6e73_756d_6572))
    }

    pub fn of_address(address: Neighbours) -> Self {
        Self(match address {
            Neighbours::V4(bits) => mixed(u64::from(bits) ^ 0x6970_7634),
            Neighbours::V6(bits) => mixed(bits ^ 0x6970_7636),
        })
    }

    /// Of a place, which is less than [`PLACES`].
    pub fn of_place(place: u64) -> Self {
        Self(mixed(place ^ 0x0070_6c61_6365))
    }

    /// A number of this key for a shift.
    pub fn drawn(self) -> u64 {
        mixed(self.0 ^ 0x0073_6869_6674) >> 16
    }

    /// The index of the service that the key belongs to, of these with what each weighs.
    pub fn choose<'a>(self, services: impl Iterator<Item = (&'a str, u32)>) -> Option<usize> {
        let score = |(at, (name, weight)): (usize, (&str, u32))| {
            // From above 0 to below 1.
            let unit = ((mixed(self.0 ^ hashed(name)) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
            (at, f64::from(weight) / -unit.ln())
        };
        let weighing = services.enumerate().filter(|(_, (_, weight))| *weight > 0);
        weighing.map(score).max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
    }
}

/// SplitMix64's end: all bits of a number count in each of what comes of it. The same in each version, for balancers of
/// two versions lead alike.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a.
fn hashed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The place that a field `Cookie` has under that name; none where it is no place.
pub fn place_in(cookies: &[u8], name: &str) -> Option<u64> {
    let of = |pair: &[u8]| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|b| *b == b'=')?;
        (&pair[..at] == name.as_bytes()).then(|| pair[at + 1..].to_vec())
    };
    let value = cookies.split(|b| *b == b';').find_map(of)?;
    let is_place = (1..=4).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(&value).ok().filter(|_| is_place)?.parse().ok()
}

/// The value of `Set-Cookie` for a place, which lasts as long as the client's session.
pub fn cookie(name: &str, place: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={place}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

/// The name of a cookie (RFC 6265, 4.1.1: a token), short.
pub fn read_cookie_name(text: &str) -> Result<String, String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    // Browsers hold these to rules that a route cannot know to keep.
    let is_kept = text.starts_with("__");
    if (1..=COOKIE_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_token) && !is_kept {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name of a cookie: 1 to {COOKIE_BYTES_MAX} letters, digits and -._, not __ first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shift::is_over;

    fn chosen(key: Key, services: &[(&str, u32)]) -> usize {
        key.choose(services.iter().copied()).unwrap()
    }

    fn count(services: &[(&str, u32)], of: usize) -> usize {
        (0..PLACES).filter(|place| chosen(Key::of_place(*place), services) == of).count()
    }

    #[test]
    fn each_service_has_the_share_of_keys_that_it_weighs() {
        let services = [("a", 50), ("b", 30), ("c", 20), ("d", 0)];
        for (at, expected) in [(0, 5_000usize), (1, 3_000), (2, 2_000), (3, 0)] {
            assert!(count(&services, at).abs_diff(expected) < 200, "{at}: {}", count(&services, at));
        }
        assert_eq!(Key::of_place(1).choose([("a", 0)].into_iter()), None);
    }

    #[test]
    fn no_more_keys_move_than_have_to() {
        let before = [("a", 50), ("b", 50)];
        for after in [&[("a", 50), ("b", 40)][..], &[("a", 50), ("b", 50), ("c", 10)]] {
            for place in 0..PLACES {
                let (was, is) = (chosen(Key::of_place(place), &before), chosen(Key::of_place(place), after));
                let to_a = was == 1 && is == 0 && after.len() == 2;
                assert!(was == is || to_a || is == 2, "{place}: {was} {is}");
            }
        }
    }

    #[test]
    fn in_a_shift_as_many_keys_go_over_as_its_share_says_and_none_comes_back() {
        let over = |share| (0..PLACES).filter(|it| is_over(Key::of_place(*it).drawn(), share)).count();
        for share in [0, 100, 2_500, 5_000, 10_000] {
            assert!(over(share).abs_diff(share as usize) < 200, "{share}: {}", over(share));
        }
        let clients = |at: u64| Key::of_address(Neighbours::V4(at as u32));
        assert!(
            (0..PLACES).all(|it| !is_over(clients(it).drawn(), 3_000) || is_over(clients(it).drawn(), 3_001))
        );
    }

    /// Pinned: balancers of two versions lead who asks to the same service.
    #[test]
    fn keys_are_what_they_were() {
        let services = [("blue", 50), ("green", 50)];
        let lead = |key: Key| (chosen(key, &services), key.drawn() % 10_000);
        let keys = [Key::of_consumer(7), Key::of_place(7), Key::of_address(Neighbours::V4(0x0a00_0001))];
        assert_eq!(keys.map(lead), [(0, 9_160), (0, 3_445), (1, 5_026)]);
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn a_cookie_has_a_place_or_none_whatever_is_sent() {
        for (cookies, place) in [
            ("skep-place=0", Some(0)),
            ("a=1; skep-place=9999; skep-place=1", Some(9_999)),
            ("a=1;skep-place=12 ", Some(12)),
            ("skep-place=", None),
            ("skep-place=10000", None),
            ("skep-place=-1", None),
            ("skep-place=+1", None),
            ("skep-place=\"1\"", None),
            ("skep-place=1a", None),
            ("Skep-place=1", None),
            ("xskep-place=1", None),
            ("skep-place", None),
            ("", None),
            (";;;=;", None),
        ] {
            assert_eq!(place_in(cookies.as_bytes(), COOKIE), place, "{cookies}");
        }
        assert_eq!(place_in(b"skep-place=\xff", COOKIE), None);
        assert_eq!(cookie("a", 7, false), "a=7; Path=/; HttpOnly; SameSite=Lax");
        assert!(cookie("a", 7, true).ends_with("; SameSite=Lax; Secure"));
        assert!(read_cookie_name("app.place-1").is_ok());
        for bad in ["", "a b", "a=b", "a;b", "é", "__Host-a", "__secure-a", &"a".repeat(65)] {
            assert!(read_cookie_name(bad).is_err(), "{bad}");
        }
    }
}
