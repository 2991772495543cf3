//! Tasks with which workers are lost.

use super::*;

#[test]
fn what_a_worker_had_beside_a_suspect_is_not_counted_in_whatever_order_its_leases_end() {
    for suspect_first in [true, false] {
        let mut queues = Queues::default();
        let suspect = queues.put(new("q"));
        let lease = queues.take("former");
        queues.apply(TaskOp::Expire { leases: vec![lease] });
        queues.put_many(3, &new("q"));
        let leases = queues.claim(claim("a", 1, 4, &[]));
        let (of_suspect, others): (Vec<Lease>, Vec<Lease>) =
            leases.into_iter().partition(|lease| lease.id == suspect);
        let mut parts = vec![of_suspect.clone(), others.clone()];
        if !suspect_first {
            parts.reverse();
        }
        for leases in parts {
            queues.apply(TaskOp::Expire { leases });
            queues.restart();
        }
        assert_eq!(queues.task(suspect).lost, 2);
        assert!(others.iter().all(|lease| queues.task(lease.id).lost == 0), "suspect first: {suspect_first}");
    }
}

#[test]
fn a_worker_that_claims_again_was_not_ended_by_its_suspect() {
    let mut queues = Queues::default();
    queues.put(new("q"));
    let lease = queues.take("former");
    queues.apply(TaskOp::Expire { leases: vec![lease] });
    let lease = queues.take("a");
    queues.apply(TaskOp::Expire { leases: vec![lease] });
    // It was cut off, and is back; somebody else has the suspect by now.
    queues.take("other");
    let fresh = queues.put(new("q"));
    let lease = queues.claim(claim("a", 2, 1, &[]))[0];
    queues.apply(TaskOp::Expire { leases: vec![lease] });
    assert_eq!((lease.id, queues.task(fresh).lost), (fresh, 1));
}

#[test]
fn who_holds_a_suspect_has_what_is_behind_any_number_of_others() {
    let mut queues = Queues::default();
    queues.put_many(30, &new("q"));
    let leases = queues.claim(claim("former", 1, 30, &[]));
    queues.apply(TaskOp::Expire { leases });
    let held = queues.take("a");
    assert_eq!(queues.task(held.id).lost, 1);
    let tasks = |queues: &Queues| queues.world.kinds.tasks.has_for("a", &[held.fence], &["q".into()]);
    assert!(!tasks(&queues), "there is nothing for it but suspects");
    let fresh = queues.put(new("q"));
    queues.restart();
    assert!(tasks(&queues));
    let given = queues.claim(claim("a", 2, 9, &[held.fence]));
    assert_eq!(given.iter().map(|lease| lease.id).collect::<Vec<_>>(), [fresh]);
    assert_eq!(queues.world.kinds.tasks.claimable("q"), 29);
}

#[test]
fn what_comes_back_hides_no_older_one() {
    let mut queues = Queues::default();
    queues.put_many(2, &new("q"));
    queues.put(NewTask { priority: 9, ..new("q") });
    queues.now += 5_000;
    for (number, end) in [(1, Some(End::Release)), (2, None)] {
        let lease = queues.claim(claim("a", number, 1, &[]))[0];
        match end {
            Some(end) => drop(queues.end(lease, end)),
            None => drop(queues.apply(TaskOp::Expire { leases: vec![lease] })),
        }
        let oldest = queues.world.kinds.tasks.queues().next().map(|queue| queue.oldest_ready_ms);
        assert_eq!(oldest, Some(1_000));
    }
}
