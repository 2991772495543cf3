//! GCRA against a bucket that is filled step by step, and the bound that it is there for.

use super::*;

const fn limit(rate: u32, per: Per, burst: u32) -> Limit {
    Limit { rate, per, burst, by: By::Route, scope: Scope::Cluster, is_shared: false }
}

const ALL: [Limit; 7] = [
    limit(1, Per::Second, 1),
    limit(3, Per::Second, 1),
    limit(7, Per::Second, 20),
    limit(100, Per::Minute, 2),
    limit(1, Per::Hour, 24),
    limit(999_999, Per::Second, 5),
    limit(RATE_MAX, Per::Second, BURST_MAX),
];

/// Numbers that are as good as random (splitmix64).
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |n| {
        let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A bucket that holds so many requests, of which one comes in each step: what GCRA says in one number.
struct Bucket {
    /// In parts of a request, of which a step has as many as it has ticks.
    parts: u64,
    at: u64,
}

impl Bucket {
    fn take(&mut self, limit: &Limit, now: u64) -> bool {
        let most = limit.step() * u64::from(limit.burst);
        self.parts = most.min(self.parts + (now - self.at));
        self.at = now;
        let fits = self.parts >= limit.step();
        if fits {
            self.parts -= limit.step();
        }
        fits
    }
}

#[test]
fn it_lets_in_what_a_bucket_that_is_filled_step_by_step_does() {
    for (seed, limit) in ALL.iter().enumerate() {
        let mut bucket = Bucket { parts: limit.depth(), at: 0 };
        let (mut tat, mut now, mut refused) = (0, 0, 0);
        for number in numbers(seed as u64).take(20_000) {
            // Of each kind some: at once, about a step later, and after a rest.
            now += match number % 16 {
                0..8 => 0,
                8..15 => number / 16 % (2 * limit.step()),
                _ => number / 16 % (limit.depth() + limit.step()),
            };
            let taken = limit.take(tat, now);
            assert_eq!(taken.is_ok(), bucket.take(limit, now), "{limit} at {now}");
            match taken {
                Ok(taken) => {
                    assert_eq!(u64::from(taken.left), bucket.parts / limit.step(), "{limit} at {now}");
                    assert_eq!(taken.full_in, limit.depth() - bucket.parts, "{limit} at {now}");
                    tat = taken.tat;
                }
                Err(wait) => {
                    refused += 1;
                    assert_eq!(wait, limit.step() - bucket.parts, "{limit} at {now}");
                    assert!(limit.take(tat, now + wait).is_ok(), "who comes back in time is let in");
                    assert!(limit.take(tat, now + wait - 1).is_err(), "and not before");
                }
            }
        }
        assert!(limit.burst == BURST_MAX || refused > 0, "{limit}");
    }
}

#[test]
fn who_asks_all_the_time_gets_the_burst_and_then_the_rate_and_no_more() {
    for limit in ALL.iter().filter(|it| it.rate <= 100) {
        let second = TICKS_PER_S;
        let span = limit.per.seconds() * 40;
        let (mut tat, mut now, mut count) = (0, 0, 0u64);
        while now < span * second {
            match limit.take(tat, now) {
                Ok(taken) => (tat, count) = (taken.tat, count + 1),
                // As soon as it may.
                Err(wait) => now += wait,
            }
        }
        let most = u64::from(limit.burst) + u64::from(limit.rate) * 40;
        assert!(count <= most && count + 1 >= most, "{limit}: {count} of {most}");
    }
}

#[test]
fn at_the_highest_rates_it_is_exact_to_a_part_in_ten_thousand() {
    for rate in [RATE_MAX, 999_999, 700_001, 333_333] {
        let limit = limit(rate, Per::Second, 1);
        let in_a_second = TICKS_PER_S as f64 / limit.step() as f64;
        let part = in_a_second / f64::from(rate);
        assert!((0.9999..=1.0).contains(&part), "{rate}: {part}");
    }
}

#[test]
fn a_time_that_is_past_says_the_same_as_none() {
    for limit in ALL {
        let now = 1 << 60;
        for tat in [0, 1, now - 1, now] {
            assert_eq!(limit.take(tat, now), limit.take(0, now), "{limit}");
        }
    }
}

#[test]
fn what_is_given_back_was_never_taken() {
    let limit = limit(1, Per::Minute, 2);
    let first = limit.take(0, 1000).unwrap();
    let second = limit.take(first.tat, 1000).unwrap();
    assert_eq!(limit.give_back(second.tat), first.tat);
    assert_eq!(limit.take(limit.give_back(first.tat), 1000), Ok(first));
    assert_eq!(limit.give_back(0), 0);
}

#[test]
fn no_time_makes_it_fail() {
    for limit in ALL {
        for now in [0, u64::MAX / 2, u64::MAX] {
            for tat in [0, now, u64::MAX] {
                let _ = limit.take(tat, now);
            }
        }
    }
    assert_eq!(seconds(ticks(Duration::MAX)), u64::MAX.div_ceil(TICKS_PER_S));
    assert_eq!([0, 1, TICKS_PER_S, TICKS_PER_S + 1].map(seconds), [0, 1, 1, 2]);
}

#[test]
fn a_client_has_all_of_an_ipv6_network_of_64_bits() {
    let of = |text: &str| Neighbours::of(text.parse().unwrap());
    assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_ne!(of("0.0.0.1"), of("0:0:0:1::"));
}

#[test]
fn what_others_let_in_is_owed_and_no_more_than_can_be() {
    let limit = limit(10, Per::Second, 5);
    let own = limit.take(0, 1000).unwrap();
    // As if it had been let in here.
    let second = limit.take(own.tat, 1000).unwrap();
    assert_eq!(limit.owe(own.tat, 1000, 1), second.tat);
    assert_eq!(limit.owe(0, 1000, 2), second.tat);
    assert_eq!(limit.owe(7, 1000, 0), 1000);
    let most = limit.owe(0, 1000, u32::MAX);
    assert!(seconds(most - 1000) <= 5 + 16, "{most}");
    assert_eq!(limit.owe(most, 1000, 1), most);
    assert_eq!(limit.owe(u64::MAX, 1000, 1), u64::MAX, "what is owed is never less");
    assert_eq!(limit.owe(u64::MAX, u64::MAX, u32::MAX), u64::MAX);
}

#[test]
fn limits_of_a_route_are_told_apart_over_balancers_and_each_is_the_same_whatever_it_says() {
    let one = limit(10, Per::Second, 5);
    assert_eq!(one.id("r"), 0x5a7a_62bd_e9fe_b7a3, "all versions call it so");
    assert_eq!(Limit { rate: 11, burst: 6, scope: Scope::Balancer, ..one }.id("r"), one.id("r"));
    for other in [Limit { per: Per::Minute, ..one }, Limit { by: By::Address, ..one }] {
        assert_ne!(other.id("r"), one.id("r"), "{other}");
    }
    assert_ne!(one.id("s"), one.id("r"));
}

#[test]
fn who_owes_by_what_a_limit_said_before_owes_as_many_requests_by_what_it_says() {
    let (slow, fast) = (limit(1, Per::Hour, 24), limit(10, Per::Second, 5));
    let spent = |it: Limit| (0..it.burst).fold(9, |tat, _| it.take(tat, 9).unwrap().tat);
    // 24 of them, of which the last but four are over after two seconds.
    let tat = fast.rescaled(spent(slow), 9, slow.step());
    let wait = fast.take(tat, 9).unwrap_err();
    assert_eq!(seconds(wait), 2);
    assert_eq!(fast.take(tat, 9 + wait - 1), Err(1));
    assert_eq!(fast.take(tat, 9 + wait).unwrap().left, 0);
    // And five of 24 the other way.
    let tat = slow.rescaled(spent(fast), 9, fast.step());
    assert_eq!(slow.take(tat, 9).unwrap().left, 24 - 5 - 1);
    // No more than anybody may owe.
    assert!(seconds(fast.rescaled(u64::MAX, 9, 1)) <= 5 + 16);
    assert_eq!(fast.rescaled(3, 9, slow.step()), 9);
}

#[test]
fn what_another_run_says_is_owed_is_owed_once_however_often_it_says_so() {
    let limit = limit(1, Per::Hour, 24);
    let step = limit.step();
    let tat = limit.owe_at_least(0, 9, 24 * step, step);
    assert_eq!(limit.take(tat, 9), Err(step));
    assert_eq!(limit.owe_at_least(tat, 9, 24 * step, step), tat);
    assert_eq!(limit.owe_at_least(tat, 9, 3 * step, step), tat, "the more of both");
    // As many requests, by a limit that said something else.
    assert_eq!(limit.owe_at_least(0, 9, 3, 1), 9 + 3 * step);
    // No more than anybody may owe, whoever says so.
    let most = limit.owe(0, 9, u32::MAX);
    for (owed, step) in [(u64::MAX, 1), (u64::MAX, 0), (u64::MAX, step), (limit.depth() * 17, step)] {
        assert_eq!(limit.owe_at_least(0, 9, owed, step), most, "{owed} {step}");
    }
    assert_eq!(limit.owe_at_least(0, u64::MAX, u64::MAX, 1), u64::MAX);
    assert_eq!(limit.owe_at_least(0, 9, 1, u64::MAX), 9);
}

#[test]
fn it_says_what_it_is() {
    let it = Limit { by: By::Address, ..limit(100, Per::Minute, 2) };
    assert_eq!(it.to_string(), "100 per minute, 2 at once, by address");
    assert_eq!(it.policy(), "\"address-minute\";q=2;w=2;skep-rate=100");
    assert_eq!(limit(1000, Per::Second, 10).policy(), "\"route-second\";q=10;skep-rate=1000");
    let bursts = [(1, Per::Hour, 1), (100, Per::Second, 100), (100, Per::Minute, 2), (7200, Per::Hour, 2)];
    for (rate, per, burst) in bursts {
        assert_eq!(Limit::usual_burst(rate, per), burst);
    }
}
