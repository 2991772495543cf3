//! Keys, of which so many tasks are active at once and which have rest.

use super::*;

fn of(key: &str) -> NewTask {
    NewTask { key: Some(key.into()), ..new("q") }
}

fn with(per_key: u32, key_pause_ms: u64) -> Queues {
    let mut queues = Queues::default();
    queues.set(per_key, key_pause_ms);
    queues
}

impl Queues {
    fn set(&mut self, per_key: u32, key_pause_ms: u64) {
        let settings = QueueSettings { per_key, key_pause_ms, ..QueueSettings::default() };
        let set = TaskOp::QueueSet { queue: "q".into(), settings };
        assert_eq!(self.apply(set), TaskOutcome::Changed { count: 1 });
    }

    /// What a new worker is given, at most so much.
    fn given(&mut self, max: u32) -> Vec<Lease> {
        self.nonce += 1;
        self.claim(claim(&format!("w{}", self.nonce), 1, max, &[]))
    }

    fn counts(&self) -> (u32, u32) {
        let queue = self.world.kinds.tasks.queues().next().unwrap();
        (queue.ready, queue.aside)
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.apply(TaskOp::Due { max: 99 });
    }
}

fn ids(leases: &[Lease]) -> Vec<TaskId> {
    leases.iter().map(|lease| lease.id).collect()
}

#[test]
fn of_a_key_so_many_are_active_and_keys_take_turns() {
    let mut queues = with(1, 0);
    let a: Vec<TaskId> = (0..3).map(|_| queues.put(of("a"))).collect();
    let b: Vec<TaskId> = (0..2).map(|_| queues.put(of("b"))).collect();
    let free = queues.put(new("q"));
    assert_eq!(queues.counts(), (6, 3));
    assert_eq!(queues.world.kinds.tasks.claimable("q"), 3);
    let mut held = queues.given(9);
    assert_eq!(ids(&held), [a[0], b[0], free]);
    assert_eq!(queues.given(9), []);
    queues.restart();
    // Whose task ends first has the next turn.
    queues.end(held.remove(1), done(""));
    queues.end(held.remove(0), done(""));
    let held = queues.given(9);
    assert_eq!(ids(&held), [b[1], a[1]]);
    queues.end(held[1], failed());
    assert_eq!(ids(&queues.given(9)), [a[2]], "a retry waits for its time, and keeps nobody");
    assert_eq!(queues.counts(), (0, 0));
}

#[test]
fn what_comes_back_goes_before_the_others_of_its_key() {
    let mut queues = with(1, 0);
    let all: Vec<TaskId> = (0..2).map(|_| queues.put(of("a"))).collect();
    for end in [Some(End::Release), None] {
        let lease = queues.given(9)[0];
        assert_eq!(lease.id, all[0]);
        match end {
            Some(end) => drop(queues.end(lease, end)),
            None => drop(queues.apply(TaskOp::Expire { leases: vec![lease] })),
        }
        queues.restart();
    }
    let urgent = queues.put(NewTask { priority: 9, ..of("a") });
    let lease = queues.given(9)[0];
    assert_eq!(lease.id, all[0], "what may be claimed already stays so");
    queues.end(lease, done(""));
    assert_eq!(ids(&queues.given(9)), [urgent], "and the more urgent is the next of its key");
}

#[test]
fn a_key_has_rest_from_the_end_of_one_to_the_claim_of_the_next() {
    let mut queues = with(1, 1_000);
    queues.put_many(3, &of("a"));
    let lease = queues.given(9)[0];
    queues.pass(5_000);
    queues.end(lease, done(""));
    for ms in [0, 999] {
        queues.pass(ms);
        queues.restart();
        assert_eq!(queues.given(9), [], "{ms} ms later");
    }
    let other = queues.put(of("b"));
    assert_eq!(ids(&queues.given(9)), [other]);
    queues.pass(1);
    let lease = queues.given(9)[0];
    queues.apply(TaskOp::Cancel { id: lease.id });
    queues.pass(999);
    assert_eq!(queues.given(9), [], "also where it is not its worker that ends it");
    queues.pass(1);
    let lease = queues.given(9)[0];
    queues.end(lease, done(""));
    // One that comes while there is none.
    let last = queues.put(of("a"));
    assert_eq!(queues.given(9), []);
    queues.pass(1_000);
    assert_eq!(ids(&queues.given(9)), [last]);
}

#[test]
fn where_several_of_a_key_are_active_it_has_rest_from_claim_to_claim() {
    let mut queues = with(2, 100);
    queues.put_many(4, &of("a"));
    assert_eq!(queues.given(9).len(), 1);
    assert_eq!(queues.given(9), []);
    queues.pass(100);
    let second = queues.given(9);
    assert_eq!(second.len(), 1);
    queues.pass(100);
    assert_eq!(queues.given(9), [], "two are active");
    queues.end(second[0], done(""));
    assert_eq!(queues.given(9).len(), 1);
}

#[test]
fn a_key_of_which_there_is_nothing_is_known_as_long_as_it_has_rest() {
    let mut queues = with(1, 1_000);
    queues.put(of("a"));
    let lease = queues.given(9)[0];
    queues.end(lease, done(""));
    assert_eq!(queues.world.kinds.tasks.lanes(), 1);
    queues.pass(1_000);
    assert_eq!(queues.world.kinds.tasks.lanes(), 0);
}

#[test]
fn what_is_set_counts_for_what_is_there_and_nothing_is_lost() {
    let mut queues = Queues::default();
    let all: Vec<TaskId> = ["a", "b", "a", "a", "b"].into_iter().map(|key| queues.put(of(key))).collect();
    queues.put(NewTask { when: When::After { delay_ms: 500 }, ..of("a") });
    let first = queues.given(1)[0];
    queues.set(1, 0);
    queues.restart();
    assert_eq!(queues.counts(), (4, 3));
    let second = queues.given(9);
    assert_eq!(ids(&second), [all[1]]);
    queues.set(2, 0);
    assert_eq!(queues.world.kinds.tasks.claimable("q"), 2, "one of each");
    queues.set(u32::MAX, 0);
    queues.restart();
    assert_eq!((queues.counts(), queues.world.kinds.tasks.lanes()), ((3, 0), 0));
    queues.set(1, 0);
    for lease in second.into_iter().chain([first]) {
        queues.end(lease, done(""));
    }
    assert_eq!(ids(&queues.given(9)), [all[4], all[2]]);
    let refused = QueueSettings { per_key: 0, ..QueueSettings::default() };
    let refused = TaskOp::QueueSet { queue: "q".into(), settings: refused };
    assert_eq!(queues.apply(refused), TaskOutcome::Invalid);
}

#[test]
fn a_rest_that_has_begun_goes_on_whatever_is_set_but_for_no_longer_than_that() {
    let mut queues = with(1, 1_000);
    queues.put_many(4, &of("a"));
    let lease = queues.given(9)[0];
    queues.end(lease, done(""));
    queues.pass(100);
    queues.set(1, 2_000);
    queues.restart();
    queues.pass(899);
    assert_eq!(queues.given(9), [], "it was of a second");
    queues.pass(1);
    let lease = queues.given(9)[0];
    queues.end(lease, done(""));
    queues.set(1, 500);
    queues.pass(499);
    assert_eq!(queues.given(9), []);
    queues.pass(1);
    let lease = queues.given(9)[0];
    queues.end(lease, done(""));
    queues.set(1, 0);
    assert_eq!(queues.given(9).len(), 1, "there is none any more");
}

#[test]
fn there_are_so_many_keys_and_no_more() {
    let mut queues = with(1, 0);
    // Some are for what follows a task, and for what comes back.
    let most = Limits::WIDEST.task_lanes_max / 16 * 15;
    let keyed = |numbers: std::ops::Range<usize>| numbers.map(|number| of(&number.to_string())).collect();
    for first in (0..most).step_by(1_000) {
        let put = TaskOp::Put { nonce: first as u64, tasks: keyed(first..most.min(first + 1_000)) };
        assert!(matches!(queues.apply(put), TaskOutcome::Put { .. }));
    }
    let more = |nonce| TaskOp::Put { nonce, tasks: vec![of("one more")] };
    assert_eq!(queues.apply(more(1 << 20)), TaskOutcome::Full);
    let lease = queues.given(1)[0];
    queues.end(lease, done(""));
    assert!(matches!(queues.apply(more(1 << 21)), TaskOutcome::Put { .. }));
    let elsewhere = NewTask { queue: "p".into(), ..of("a") };
    let put = TaskOp::Put { nonce: 1 << 22, tasks: vec![elsewhere] };
    assert!(matches!(queues.apply(put), TaskOutcome::Put { .. }), "there, keys count nothing");
    let settings = QueueSettings { per_key: 1, ..QueueSettings::default() };
    assert_eq!(queues.apply(TaskOp::QueueSet { queue: "p".into(), settings }), TaskOutcome::Full);
}

#[test]
fn pages_of_one_origin_are_crawled_one_a_second_from_the_start() {
    let mut queues = Queues::default();
    queues.put(NewTask { queue: crate::task::CRAWL_QUEUE.into(), ..of("http://a") });
    let settings = queues.world.kinds.tasks.queues().next().unwrap().settings;
    assert_eq!((settings.per_key, settings.key_pause_ms), (1, 1_000));
}
