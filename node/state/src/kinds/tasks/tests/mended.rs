//! The clock is set back.

use super::*;
use crate::level::Level;

#[test]
fn where_the_clock_is_set_back_a_task_waits_as_long_as_it_would_have_and_came_no_later_than_now() {
    const AHEAD: u64 = 900_000_000;
    const NOW: u64 = 5_000;
    let mut queues = Queues { now: AHEAD, ..Queues::default() };
    queues.world.apply([Op::Level { level: Level::NEWEST }]);
    let due = queues.put(NewTask { when: When::After { delay_ms: 7_000 }, ..new("q") });
    let ready = queues.put(new("q"));
    let left = queues.task(due).timer_ms - queues.task(ready).put_ms();
    assert_eq!(left, 7_000);
    let mended = queues.world.apply([Op::MendTime { time_ms: NOW, newest_ms: 0 }]);
    assert!(matches!(mended[..], [OpOutcome::TimeMended { to_ms: NOW, .. }]), "{mended:?}");
    for _ in 0..2 {
        assert_eq!(queues.task(due).timer_ms, NOW + left);
        for id in [due, ready] {
            assert_eq!((queues.task(id).put_ms(), queues.task(id).since_ms()), (NOW, NOW));
        }
        queues.restart();
    }
}
