//! RFC 9568, section 6.4, sentence by sentence; then a day of it with loss and stalls.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Router {
    machine: Machine,
    now: Instant,
    own: IpAddr,
}

impl Router {
    fn new(claim: u8, preempt: bool) -> (Self, Vec<Action>) {
        let config = MachineConfig { interval: SECOND, preempt, preempt_delay: Duration::ZERO };
        let mut machine = Machine::new(config);
        let (now, mut out) = (Instant::now(), Vec::new());
        machine.set_claim(Some(claim), now, &mut out);
        assert_eq!(out, []);
        machine.start(now, &mut out);
        (Self { machine, now, own: "10.0.0.5".parse().unwrap() }, out)
    }

    fn backup(claim: u8, preempt: bool) -> Self {
        let (router, out) = Self::new(claim, preempt);
        assert_eq!(
            (router.machine.state(), &out[..]),
            (State::Backup, &[Action::Changed(Reason::Started)][..])
        );
        router
    }

    fn active(claim: u8) -> Self {
        let mut router = Self::backup(claim, true);
        router.wait();
        assert_eq!(router.machine.state(), State::Active);
        router
    }

    /// Until the deadline.
    fn wait(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        self.now = self.machine.deadline().unwrap();
        self.machine.tick(self.now - Duration::from_nanos(1), &mut out);
        assert_eq!(out, [], "too early");
        self.machine.tick(self.now, &mut out);
        out
    }

    fn hear(&mut self, priority: u8, source: &str) -> Vec<Action> {
        self.hear_at(priority, source, SECOND)
    }

    fn hear_at(&mut self, priority: u8, source: &str, interval: Duration) -> Vec<Action> {
        let mut out = Vec::new();
        let heard = Heard { priority, interval, source: source.parse().unwrap() };
        self.machine.heard(heard, self.own, self.now, &mut out);
        out
    }

    fn left(&self) -> Duration {
        self.machine.deadline().unwrap() - self.now
    }
}

fn skew(claim: u32) -> Duration {
    SECOND * (256 - claim) / 256
}

#[test]
fn initialize_becomes_active_for_the_owner_and_backup_for_others() {
    let (router, out) = Router::new(PRIORITY_OWNER, true);
    assert_eq!(out, [Action::Advertise(255), Action::Take(Reason::Owner)]);
    assert_eq!((router.machine.state(), router.left()), (State::Active, SECOND));
    for claim in [1, 100, 254] {
        let router = Router::backup(claim, true);
        assert_eq!(router.left(), 3 * SECOND + skew(claim.into()));
    }
}

#[test]
fn a_backup_whose_timer_fires_advertises_and_takes_the_addresses() {
    let mut router = Router::backup(100, true);
    assert_eq!(router.wait(), [Action::Advertise(100), Action::Take(Reason::Silence)]);
    assert_eq!((router.machine.state(), router.left()), (State::Active, SECOND));
    assert_eq!(router.wait(), [Action::Advertise(100)]);
    assert_eq!(router.left(), SECOND);
}

#[test]
fn a_backup_that_hears_priority_0_waits_for_its_skew_alone() {
    let mut router = Router::backup(100, true);
    assert_eq!(router.hear(0, "10.0.0.9"), []);
    assert_eq!(router.left(), skew(100));
    assert_eq!(router.wait(), [Action::Advertise(100), Action::Take(Reason::Silence)]);
}

#[test]
fn the_designated_backup_takes_over_at_once_and_no_other_does() {
    let mut router = Router::backup(100, false);
    router.machine.set_designated(true);
    assert_eq!(router.hear(0, "10.0.0.9"), [Action::Advertise(100), Action::Take(Reason::PriorityZero)]);
    for designated in [true, false] {
        let mut router = Router::backup(100, false);
        router.machine.set_designated(designated);
        let mut out = Vec::new();
        router.machine.active_lost(router.now, &mut out);
        let expected = [Action::Advertise(100), Action::Take(Reason::ActiveLost)];
        assert_eq!(out, expected[..if designated { 2 } else { 0 }]);
    }
}

/// How long after a weak one is heard first it is taken over from, which is heard so often, each half a second.
fn taken_from_the_weak(claim: u8, in_touch: bool, heard: usize) -> Duration {
    let interval = Duration::from_millis(200);
    let mut router = Router::backup(claim, true);
    router.hear_at(201, "10.0.0.9", interval);
    router.machine.set_in_touch(in_touch);
    let first = router.now;
    for _ in 0..heard {
        router.hear_at(PRIORITY_WEAK, "10.0.0.9", interval);
        let next = router.now + SECOND / 2;
        if router.machine.deadline().unwrap() <= next {
            break;
        }
        router.now = next;
    }
    assert_eq!(router.wait(), [Action::Advertise(claim), Action::Take(Reason::Silence)]);
    router.now - first
}

#[test]
fn a_backup_in_touch_gives_a_weak_one_time_to_hand_over_and_no_more_and_its_silence_counts() {
    let three = Duration::from_millis(600);
    assert_eq!(taken_from_the_weak(200, false, 100), three + skew(200) / 5);
    assert_eq!(taken_from_the_weak(200, true, 1), three + skew(200));
    for heard in [100, 1_000] {
        assert_eq!(taken_from_the_weak(200, true, heard), HANDED_OVER_WITHIN + skew(200));
    }
    assert!(
        taken_from_the_weak(150, true, 100) > taken_from_the_weak(200, true, 100),
        "the better one is first"
    );
}

#[test]
fn one_that_was_better_meanwhile_is_given_its_time_anew_and_one_that_was_not_is_not() {
    for (meanwhile, is_anew) in [(210, true), (100, false)] {
        let mut router = Router::backup(200, true);
        router.machine.set_in_touch(true);
        router.hear(PRIORITY_WEAK, "10.0.0.9");
        router.now += Duration::from_millis(2900);
        router.hear(meanwhile, "10.0.0.9");
        router.hear(PRIORITY_WEAK, "10.0.0.9");
        let begun = router.now;
        while router.machine.deadline().unwrap() > router.now + SECOND / 2 {
            router.now += SECOND / 2;
            router.hear(PRIORITY_WEAK, "10.0.0.9");
        }
        router.wait();
        let least = if is_anew { HANDED_OVER_WITHIN } else { Duration::ZERO };
        let most = if is_anew { HANDED_OVER_WITHIN + SECOND } else { SECOND };
        let took = router.now - begun;
        assert!(took >= least && took <= most, "{meanwhile}: {took:?}");
    }
}

#[test]
fn a_backup_takes_over_the_interval_of_an_advertisement_that_it_obeys() {
    let interval = Duration::from_millis(200);
    for (claim, heard, preempt, obeyed) in [
        (100, 100, true, true),
        (100, 101, true, true),
        (100, 99, true, false),
        (100, 99, false, true),
        (100, 2, false, true),
        // A weak claim is preempted always, unless one's own is as weak.
        (100, PRIORITY_WEAK, false, false),
        (PRIORITY_WEAK, PRIORITY_WEAK, false, true),
    ] {
        let mut router = Router::backup(claim, preempt);
        router.now += SECOND;
        assert_eq!(router.hear_at(heard, "10.0.0.9", interval), []);
        let down = 3 * interval + interval * (256 - u32::from(claim)) / 256;
        let expected = if obeyed { down } else { 2 * SECOND + skew(claim.into()) };
        assert_eq!(router.left(), expected, "{claim} {heard} {preempt}");
    }
}

#[test]
fn preemption_begins_after_its_delay() {
    let config = MachineConfig { interval: SECOND, preempt: true, preempt_delay: 5 * SECOND };
    let (now, mut out) = (Instant::now(), Vec::new());
    let mut machine = Machine::new(config);
    machine.start(now, &mut out);
    machine.set_claim(Some(200), now, &mut out);
    let mut router = Router { machine, now, own: "10.0.0.5".parse().unwrap() };
    for _ in 0..4 {
        router.now += SECOND;
        router.hear(100, "10.0.0.9");
        assert_eq!(router.left(), 3 * SECOND + skew(200));
    }
    router.now += SECOND;
    router.hear(100, "10.0.0.9");
    assert_eq!(router.left(), 2 * SECOND + skew(200));
}

#[test]
fn an_active_gives_way_to_the_higher_priority_and_at_the_same_to_the_higher_address() {
    for (priority, source, gives_way) in [
        (101, "10.0.0.1", true),
        (100, "10.0.0.6", true),
        (100, "10.0.0.4", false),
        // Addresses compare as numbers, not as texts or signed.
        (100, "200.0.0.1", true),
        (99, "10.0.0.9", false),
    ] {
        let mut router = Router::active(100);
        let out = router.hear_at(priority, source, 2 * SECOND);
        if gives_way {
            assert_eq!(out, [Action::Advertise(100), Action::Release(Reason::HigherHeard)]);
            assert_eq!((router.machine.state(), router.left()), (State::Backup, 6 * SECOND + 2 * skew(100)));
        } else {
            assert_eq!(out, [Action::Advertise(100), Action::Reassert]);
            assert_eq!((router.machine.state(), router.left()), (State::Active, SECOND));
        }
    }
}

#[test]
fn an_active_answers_priority_0_and_a_flood_of_rivals_a_hundred_times_a_second_at_most() {
    let mut router = Router::active(100);
    assert_eq!(router.hear(0, "10.0.0.9"), [Action::Advertise(100), Action::Reassert]);
    let mut answers = 0;
    for _ in 0..10_000 {
        router.now += Duration::from_micros(100);
        answers += router.hear(50, "10.0.0.9").len() / 2;
    }
    assert!((90..=100).contains(&answers), "{answers}");
}

#[test]
fn a_stop_says_priority_0_and_a_backup_says_nothing() {
    let mut out = Vec::new();
    let mut router = Router::active(100);
    router.machine.stop(&mut out);
    assert_eq!(out, [Action::Advertise(0), Action::Release(Reason::Stopped)]);
    assert_eq!((router.machine.state(), router.machine.deadline()), (State::Initialize, None));
    out.clear();
    let mut router = Router::backup(100, true);
    router.machine.stop(&mut out);
    assert_eq!(out, [Action::Changed(Reason::Stopped)]);
    assert_eq!(router.hear(0, "10.0.0.9"), []);
}

#[test]
fn a_fault_gives_up_and_its_end_starts_anew() {
    let mut out = Vec::new();
    let mut router = Router::active(100);
    router.machine.set_claim(None, router.now, &mut out);
    assert_eq!(out, [Action::Advertise(0), Action::Release(Reason::ClaimLost)]);
    out.clear();
    router.machine.set_claim(Some(100), router.now, &mut out);
    assert_eq!(out, [Action::Changed(Reason::Started)]);
}

#[test]
fn an_active_whose_claim_becomes_weak_makes_way_and_comes_back_where_nobody_else_does() {
    let mut out = Vec::new();
    let mut router = Router::active(100);
    router.machine.set_claim(Some(PRIORITY_WEAK), router.now, &mut out);
    assert_eq!(out, [Action::Advertise(0), Action::Release(Reason::ClaimLost)]);
    assert_eq!((router.machine.state(), router.left()), (State::Backup, 3 * SECOND + skew(1)));
    assert_eq!(router.wait(), [Action::Advertise(1), Action::Take(Reason::Silence)]);
    // A claim that comes back while it is Active is only said.
    out.clear();
    router.machine.set_claim(Some(100), router.now, &mut out);
    assert_eq!((out.len(), router.machine.state()), (0, State::Active));
    assert_eq!(router.wait(), [Action::Advertise(100)]);
}

#[test]
fn being_late_once_does_not_make_later_advertisements_late() {
    let mut router = Router::active(100);
    let mut out = Vec::new();
    let due = router.machine.deadline().unwrap();
    router.machine.tick(due + SECOND / 4, &mut out);
    assert_eq!(router.machine.deadline(), Some(due + SECOND));
    router.machine.tick(due + 5 * SECOND, &mut out);
    assert_eq!((out.len(), router.machine.deadline()), (2, Some(due + 6 * SECOND)));
}

mod day;

#[test]
fn a_backup_that_stood_still_waits_for_one_more_advertisement_and_not_for_ever() {
    let mut router = Router::backup(200, false);
    router.hear(200, "10.0.0.9");
    for _ in 0..GRACES_MAX {
        router.now = router.machine.deadline().unwrap();
        router.machine.stood_still(router.now);
        let waits = router.machine.deadline().unwrap() - router.now;
        assert_eq!(waits, SECOND + router.machine.skew());
    }
    router.now = router.machine.deadline().unwrap();
    router.machine.stood_still(router.now);
    assert_eq!(router.machine.deadline(), Some(router.now), "it may be dead after all");
    router.hear(200, "10.0.0.9");
    let fresh = router.machine.deadline();
    router.machine.stood_still(router.now);
    assert_eq!(router.machine.deadline(), fresh, "it was just heard");
    assert_eq!(Router::active(200).machine.listens_every(), None);
}
