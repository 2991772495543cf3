//! For tests of the judges: tries every order that a small history may have had (Wing and Gong, *Testing and
//! Verifying Concurrent Objects*, 1993).

use super::recorder::{Moment, Operation};
use std::time::Duration;

/// Whether some order explains the history: `step` is the object, and gives the state after an operation that
/// may answer so in the state before it. Operations of unknown end may be left out.
pub fn explains<S, D>(
    history: &[Operation<D>],
    state: &S,
    step: &impl Fn(&S, &D) -> Option<S>,
    done: u32,
) -> bool {
    let left = || (0..history.len()).filter(|at| done & (1 << at) == 0);
    if left().all(|at| history[at].returned.is_none()) {
        return true;
    }
    let first_end = left().map(|at| history[at].end()).min().unwrap_or(u64::MAX);
    left().filter(|at| history[*at].called.event < first_end).any(|at| {
        step(state, &history[at].did).is_some_and(|next| explains(history, &next, step, done | (1 << at)))
    })
}

/// An operation from one event to another; of unknown end where that is none.
pub fn operation<D>(called: u64, returned: Option<u64>, did: D) -> Operation<D> {
    let moment = |event| Moment { event, time: Duration::from_millis(event) };
    Operation { client: 0, node: 0, called: moment(called), returned: returned.map(moment), did }
}

/// What was done, each between two events of its own in the order of two random numbers. Events count from 1.
pub fn timed<D>(done: Vec<(D, bool, u32, u32)>) -> Vec<Operation<D>> {
    let mut keys: Vec<(u32, usize)> =
        done.iter().enumerate().flat_map(|(at, (_, _, a, b))| [(*a, 2 * at), (*b, 2 * at + 1)]).collect();
    keys.sort_unstable();
    let mut events = vec![0; keys.len()];
    for (event, (_, slot)) in (1..).zip(keys) {
        events[slot] = event;
    }
    let pairs = events.chunks(2).map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1])));
    let timed = |((did, known, ..), (called, returned)): ((D, bool, u32, u32), (u64, u64))| {
        operation(called, known.then_some(returned), did)
    };
    done.into_iter().zip(pairs).map(timed).collect()
}
