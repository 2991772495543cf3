//! What operators look through.

use super::*;

fn list(queue: &str, state: Option<TaskState>) -> Listed<'_> {
    Listed { queue, state, count_max: 1_000, bytes_max: usize::MAX }
}

#[test]
fn all_tasks_of_a_queue_are_listed_once_a_part_at_a_time_and_no_part_takes_long() {
    let mut queues = Queues::default();
    for number in 0..9_000 {
        queues.put(new(if number % 3_000 == 2_999 { "rare" } else { "q" }));
    }
    queues.claim(claim("a", 1, 5, &[]));
    let tasks = &queues.world.kinds.tasks;
    let all = |list: Listed<'_>| {
        let (mut seqs, mut parts, mut after) = (Vec::new(), 0, Some(0));
        while let Some(place) = after {
            let part = tasks.listed(list, place);
            assert!(part.found.len() <= list.count_max);
            seqs.extend(part.found.iter().map(|task| task.id.seq));
            (parts, after) = (parts + 1, part.after);
        }
        (seqs, parts)
    };
    assert_eq!(all(list("rare", None)), (vec![3_000, 6_000, 9_000], 3), "4,096 are gone through at once");
    assert_eq!(all(list("q", None)).0.len(), 8_997);
    assert_eq!(all(list("q", Some(TaskState::Active))).0, [1, 2, 3, 4, 5]);
    assert_eq!(all(Listed { count_max: 2, ..list("rare", None) }).0, [3_000, 6_000, 9_000]);
    assert_eq!(all(Listed { bytes_max: 3, ..list("rare", None) }).0, [3_000, 6_000, 9_000]);
    let part = tasks.listed(Listed { bytes_max: 3, ..list("q", None) }, 0);
    assert_eq!((part.found.len(), part.after), (2, Some(2)), "of two bytes each");
    assert_eq!(all(list("none", None)), (vec![], 1));
}

#[test]
fn workers_are_listed_by_their_names_with_what_each_holds_now() {
    let mut queues = Queues::default();
    queues.put_many(3, &new("q"));
    let given = queues.claim(claim("b", 1, 2, &[]));
    queues.now = 50;
    queues.claim(claim("a", 1, 0, &[]));
    queues.end(given[0], done("r"));
    let tasks = &queues.world.kinds.tasks;
    let part = tasks.workers_after("", 1);
    assert_eq!((&*part.found[0].name, part.found[0].claimed_ms, part.found[0].holds.len()), ("a", 1_050, 0));
    assert_eq!(part.after.as_deref(), Some("a"));
    let part = tasks.workers_after("a", 1);
    assert_eq!((part.found.len(), part.after), (1, None));
    let held = &part.found[0].holds;
    assert_eq!(held.iter().map(|held| held.lease).collect::<Vec<_>>(), given[1..]);
    assert_eq!((&*held[0].queue, &*held[0].kind, held[0].since_ms), ("q", "k", 1_000));
}
