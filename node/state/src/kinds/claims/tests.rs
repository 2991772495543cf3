use bytes::Bytes;
use skep_base::id::RequestId;

use super::records::InMemory;
use super::*;
use crate::clock::Clock;
use crate::laws::{self, World};
use crate::rolling::Rolling;

/// Room for two spans, and a minute for each.
const LIMITS: &Limits =
    &Limits { claims_max: 2 * SPAN_CLAIMS as usize, claim_age_ms_min: 60_000, ..Limits::WIDEST };
const TTL_MS: u64 = 600_000;

/// Claims alone.
#[derive(Debug)]
struct Alone {
    claims: Claims<InMemory>,
    clock: Clock,
    rolling: Rolling,
}

impl Default for Alone {
    fn default() -> Self {
        let claims = Claims::open(ClaimsRecord::default(), InMemory::default()).unwrap();
        Self { claims, clock: Clock::default(), rolling: Rolling::default() }
    }
}

impl Alone {
    /// What a claim of the request of the same number comes to.
    fn claim(&mut self, key: u128, time_ms: u64) -> OpOutcome {
        let (time, ttl_ms) = (Stamp(time_ms), TTL_MS);
        let claim = Claim { key: ClaimKey(key), fingerprint: key, nonce: 0, time, ttl_ms };
        let (clock, rolling) = (&mut self.clock, &mut self.rolling);
        let mut at = At { index: 1, clock, level: Level::NEWEST, limits: LIMITS, rolling };
        let guard = self.claims.apply(claim, &mut at).unwrap();
        let outcome = guard.outcome();
        if let Guard::Remember { claim, instead_of } = guard {
            at.clock.note(time);
            self.claims.remember(claim, instead_of, OpOutcome::Text { version: 1 }, &mut at).unwrap();
        }
        outcome
    }
}

#[test]
fn beyond_the_bound_the_oldest_go_before_their_time_but_none_that_is_young() {
    let mut alone = Alone::default();
    for key in 0..2 * SPAN_CLAIMS {
        assert_eq!(alone.claim(key.into(), 1_000 + key), OpOutcome::Claimed);
    }
    let newest_of_oldest = 1_000 + SPAN_CLAIMS - 1;
    let full_until = newest_of_oldest + 60_000;
    let full_for = |alone: &Alone, now| alone.claims.full_for_ms(Stamp(now), Stamp(now), LIMITS);
    assert_eq!(full_for(&alone, full_until - 10_000), Some(10_000));
    assert_eq!(full_for(&alone, full_until - 1), Some(1));
    assert_eq!(full_for(&alone, full_until), None);
    assert_eq!(alone.claim(10_000, full_until - 1), OpOutcome::TooManyClaims);
    assert_eq!(alone.claim(0, full_until - 1), OpOutcome::Repeated, "what is remembered is answered");
    assert_eq!(alone.claim(10_000, full_until), OpOutcome::Claimed);
    assert_eq!(alone.claims.len(), SPAN_CLAIMS + 1);
    assert_eq!(alone.claim(u128::from(SPAN_CLAIMS), full_until), OpOutcome::Repeated);
    assert_eq!(alone.claim(0, full_until), OpOutcome::Claimed, "forgotten");
}

#[test]
fn at_the_bound_the_oldest_go_while_the_clock_stands_still() {
    let mut alone = Alone::default();
    let ahead = 90_000_000;
    for key in 0..2 * SPAN_CLAIMS {
        assert_eq!(alone.claim(key.into(), ahead), OpOutcome::Claimed);
    }
    assert_eq!(alone.claim(10_000, ahead - 60_000), OpOutcome::TooManyClaims, "clocks differ by a little");
    let full_for = |told| alone.claims.full_for_ms(Stamp(told), Stamp(ahead), LIMITS);
    assert_eq!((full_for(ahead - 60_000), full_for(ahead - 60_001)), (Some(60_000), None));
    assert_eq!(alone.claim(0, ahead - 60_001), OpOutcome::Repeated);
    assert_eq!(alone.claim(10_000, ahead - 60_001), OpOutcome::Claimed);
    assert_eq!(alone.claims.len(), SPAN_CLAIMS + 1);
    assert_eq!(alone.claim(10_000, ahead - 60_001), OpOutcome::Repeated);
}

#[test]
fn a_claim_ends_with_its_time_and_its_key_can_be_claimed_again() {
    let mut alone = Alone::default();
    assert_eq!(alone.claim(1, 1_000), OpOutcome::Claimed);
    assert_eq!(alone.claim(1, 1_000 + TTL_MS - 1), OpOutcome::Repeated);
    assert_eq!(alone.claim(1, 1_000 + TTL_MS), OpOutcome::Claimed);
    assert_eq!(alone.claim(1, 1_000 + TTL_MS), OpOutcome::Repeated);
}

#[test]
fn claims_whose_time_is_over_take_no_room() {
    let mut alone = Alone::default();
    for key in 0..2 * SPAN_CLAIMS {
        alone.claim(key.into(), 1_000);
    }
    assert_eq!(alone.claims.full_for_ms(Stamp(1_000), Stamp(1_000 + TTL_MS), LIMITS), None);
    assert_eq!(alone.claim(10_000, 1_000 + TTL_MS), OpOutcome::Claimed);
    assert_eq!(alone.claims.len(), 1);
}

#[test]
fn claims_whose_time_is_over_go_also_where_no_other_comes() {
    let mut world = World::default();
    raise(&mut world);
    for key in 0..SPAN_CLAIMS {
        world.apply([claim(key, 1, 1), write(key.into())]);
    }
    let late = |request| Proposed::WriteText {
        request: RequestId(request),
        text: Bytes::from_static(b"a"),
        time_ms: 1_000,
    };
    world.apply([late(u128::MAX)]);
    assert_eq!(world.kinds.claims.len(), SPAN_CLAIMS);
    world.apply([late(u128::MAX - 1)]);
    assert!(world.kinds.claims.is_empty());
}

#[test]
fn a_record_that_no_state_has_is_refused() {
    let most = Limits::WIDEST.claims_max as u64;
    for (first, next, is_one) in
        [(0, most, true), (0, most + 1, false), (1, 2, false), (2 * SPAN_CLAIMS, SPAN_CLAIMS, false)]
    {
        let record = ClaimsRecord { early: Vec::new(), first, next };
        assert_eq!(record.check().is_ok(), is_one, "{record:?}");
    }
}

fn claim(key: u64, fingerprint: u64, time_ms: u64) -> Proposed {
    let (key, fingerprint) = (ClaimKey(key.into()), fingerprint.into());
    Proposed::Claim { key, fingerprint, time_ms, ttl_ms: 50 }
}

fn write(request: u128) -> Proposed {
    Proposed::WriteText { request: RequestId(request), text: Bytes::from_static(b"a"), time_ms: 1 }
}

fn raise(world: &mut World) {
    world.apply([Proposed::Level { level: Level::NEWEST }]);
}

#[test]
fn a_request_that_was_carried_twice_by_the_node_is_not_answered_as_a_repeat() {
    let mut world = World::default();
    raise(&mut world);
    let first = world.apply([claim(1, 1, 1), write(7)]);
    assert_eq!(first[0], OpOutcome::Claimed);
    let mut world = world.reopened();
    assert_eq!(world.apply([claim(1, 1, 2), write(7)]), first, "carried again");
    let repeated = world.apply([claim(1, 1, 3), write(8)]);
    assert_eq!(repeated, [OpOutcome::Repeated, first[1].clone()], "sent again");
    assert_eq!(world.apply([claim(1, 2, 4), write(9)]), [OpOutcome::KeyTaken, OpOutcome::Skipped]);
}

#[test]
fn what_was_claimed_before_the_level_rose_is_remembered_behind_it() {
    let mut world = World::default();
    let first = world.apply([claim(1, 1, 1), write(7)]);
    world.apply([claim(2, 1, 20), write(8)]);
    assert_eq!(world.kinds.record().claims.early.len(), 2);
    raise(&mut world);
    let mut world = world.reopened();
    let record = world.kinds.record().claims;
    assert_eq!((record.early.len(), record.first, record.next), (0, 0, 2));
    assert_eq!(world.apply([claim(1, 1, 50), write(9)]), [OpOutcome::Repeated, first[1].clone()]);
    assert_eq!(world.apply([claim(1, 1, 51), write(9)])[0], OpOutcome::Claimed, "it keeps its time");
    assert_eq!(world.apply([claim(2, 1, 51), write(9)])[0], OpOutcome::Repeated);
}

#[test]
fn a_claim_without_an_operation_behind_it_remembers_nothing() {
    for is_raised in [false, true] {
        let mut world = World::default();
        if is_raised {
            raise(&mut world);
        }
        assert_eq!(world.apply([claim(1, 1, 1)]), [OpOutcome::Claimed]);
        assert!(world.kinds.claims.is_empty());
    }
}

#[test]
fn the_laws_hold_of_claims() {
    laws::hold(|draw| match draw.within(0..3) {
        0 => write(draw.within(0..1 << 60).into()),
        _ => claim(draw.within(0..9), draw.within(0..3), draw.time()),
    });
}
