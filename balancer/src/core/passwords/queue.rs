//! Who waits for looks, in two shares: renewals of what was right before, and all else. Pure.
//!
//! Whoever guesses fills the share of all else and no other, and of the threads that look gets no more than what renewals
//! leave: these are taken first, but for one of the others after some of them in a row.

use std::collections::{HashMap, VecDeque};

use skep_gateway::auth::password::PasswordHash;
use skep_gateway::limit::Neighbours;
use tokio::sync::oneshot;

use super::Looked;

/// Most looks that wait of each share; and of one network (an IPv4 address, a /48 of IPv6).
pub const WAITING_MAX: usize = 128;
pub const WAITING_OF_ONE_MAX: usize = 32;
/// Most requests that wait for the looks of each share; and for one of them.
pub const WAITERS_MAX: usize = 4096;
pub const WAITERS_OF_ONE_MAX: usize = 128;
/// Most renewals that are looked at in a row while others wait.
pub const RENEWALS_IN_A_ROW_MAX: u32 = 4;

/// Who is told what comes of one.
pub(super) type Waiter = oneshot::Sender<Option<bool>>;

/// A look that nobody has begun.
pub(super) struct Job {
    pub(super) of: Looked,
    pub(super) password: Vec<u8>,
    pub(super) by: PasswordHash,
}

/// Whose place one takes that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// It was right before, by the same of the user's, of the same address.
    Renewals,
    Others,
}

/// What waits of one share.
#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    /// Also for those that are looked at.
    waiters: usize,
}

/// All that wait.
#[derive(Default)]
pub(super) struct Queue {
    renewals: Line,
    others: Line,
    /// Who waits for each, and of which share it is: also for those that are looked at.
    waiters: HashMap<Looked, (Share, Vec<Waiter>)>,
    /// Renewals since one of the others was begun.
    in_a_row: u32,
}

impl Queue {
    fn line(&self, share: Share) -> &Line {
        match share {
            Share::Renewals => &self.renewals,
            Share::Others => &self.others,
        }
    }

    fn line_mut(&mut self, share: Share) -> &mut Line {
        match share {
            Share::Renewals => &mut self.renewals,
            Share::Others => &mut self.others,
        }
    }

    /// Looks that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting(Share::Renewals) + self.waiting(Share::Others)
    }

    pub(super) fn waiting(&self, share: Share) -> usize {
        self.line(share).jobs.len()
    }

    /// Whether somebody waits for the same.
    pub(super) fn has(&self, of: &Looked) -> bool {
        self.waiters.contains_key(of)
    }

    /// Whether one more may wait for it, which is of that share unless somebody waits for it already.
    pub(super) fn has_room(&self, of: &Looked, share: Share) -> bool {
        match self.waiters.get(of) {
            Some((share, list)) => self.line(*share).waiters < WAITERS_MAX && list.len() < WAITERS_OF_ONE_MAX,
            None => {
                let (Line { jobs, waiters }, network) = (self.line(share), network(of.2));
                let of_one = || jobs.iter().filter(|it| self::network(it.of.2) == network).count();
                *waiters < WAITERS_MAX && jobs.len() < WAITING_MAX && of_one() < WAITING_OF_ONE_MAX
            }
        }
    }

    /// Waits for what somebody waits for; gives back who does not.
    pub(super) fn join(&mut self, of: &Looked, waiter: Waiter) -> Option<Waiter> {
        let Some((share, list)) = self.waiters.get_mut(of) else { return Some(waiter) };
        list.push(waiter);
        let share = *share;
        self.line_mut(share).waiters += 1;
        None
    }

    /// Waits for what nobody waits for.
    pub(super) fn push(&mut self, job: Job, share: Share, waiter: Waiter) {
        self.waiters.insert(job.of, (share, vec![waiter]));
        let line = self.line_mut(share);
        line.jobs.push_back(job);
        line.waiters += 1;
    }

    /// The one that is looked at next.
    pub(super) fn next(&mut self) -> Option<Job> {
        let is_turn_of_others = self.in_a_row >= RENEWALS_IN_A_ROW_MAX && !self.others.jobs.is_empty();
        if !is_turn_of_others && let Some(job) = self.renewals.jobs.pop_front() {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(job);
        }
        self.in_a_row = 0;
        self.others.jobs.pop_front()
    }

    /// Who waits for one that was looked at: they wait no more.
    pub(super) fn take(&mut self, of: &Looked) -> Vec<Waiter> {
        let Some((share, list)) = self.waiters.remove(of) else { return Vec::new() };
        self.line_mut(share).waiters -= list.len();
        list
    }

    /// Forgets who has left, and takes back looks that were not begun and for which nobody waits; says how many.
    pub(super) fn leave(&mut self) -> usize {
        let Self { renewals, others, waiters, .. } = self;
        for (share, list) in waiters.values_mut() {
            let before = list.len();
            list.retain(|it| !it.is_closed());
            let line = match share {
                Share::Renewals => &mut *renewals,
                Share::Others => &mut *others,
            };
            line.waiters -= before - list.len();
        }
        let mut left = 0;
        for Line { jobs, .. } in [renewals, others] {
            jobs.retain(|job| {
                let is_wanted = waiters.get(&job.of).is_some_and(|(_, list)| !list.is_empty());
                if !is_wanted {
                    waiters.remove(&job.of);
                    left += 1;
                }
                is_wanted
            });
        }
        left
    }
}

/// Whoever has an address of it may have all of it.
fn network(client: Neighbours) -> Neighbours {
    match client {
        Neighbours::V6(bits) => Neighbours::V6(bits & !0xffff),
        it @ Neighbours::V4(_) => it,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u8, client: u32) -> Job {
        let of = ([number; 32], None, Neighbours::V4(client));
        Job { of, password: vec![number], by: PasswordHash::default() }
    }

    /// Those that are asked for keep their places.
    fn push(queue: &mut Queue, job: Job, share: Share) -> oneshot::Receiver<Option<bool>> {
        let (waiter, answer) = oneshot::channel();
        assert!(queue.has_room(&job.of, share));
        queue.push(job, share, waiter);
        answer
    }

    #[test]
    fn renewals_come_first_and_after_some_of_them_one_of_the_others_does() {
        let mut queue = Queue::default();
        let mut answers: Vec<_> =
            (0..3).map(|at| push(&mut queue, job(100 + at, u32::from(at)), Share::Others)).collect();
        answers.extend((0..10).map(|at| push(&mut queue, job(at, u32::from(at)), Share::Renewals)));
        let order: Vec<u8> = std::iter::from_fn(|| queue.next()).map(|it| it.password[0]).collect();
        assert_eq!(order, [0, 1, 2, 3, 100, 4, 5, 6, 7, 101, 8, 9, 102]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn each_share_has_room_for_so_many_of_all_and_of_one_network_whatever_the_other_has() {
        let mut queue = Queue::default();
        let mut answers = Vec::new();
        for (share, begin) in [(Share::Others, 0), (Share::Renewals, 128)] {
            for at in 0..WAITING_OF_ONE_MAX as u8 {
                answers.push(push(&mut queue, job(begin + at, 1), share));
            }
            assert!(!queue.has_room(&job(127, 1).of, share) && queue.has_room(&job(127, 2).of, share));
            for at in WAITING_OF_ONE_MAX as u8..WAITING_MAX as u8 {
                answers.push(push(&mut queue, job(begin + at, u32::from(at)), share));
            }
            assert_eq!(queue.waiting(share), WAITING_MAX);
            let another = ([9; 32], None, Neighbours::V4(1000));
            assert!(!queue.has_room(&another, share));
            // Who waits for the same takes no place.
            assert!(queue.has_room(&job(begin, 1).of, share));
        }
        let of = job(128, 1).of;
        let mut others = Vec::new();
        while queue.has_room(&of, Share::Others) {
            let (waiter, answer) = oneshot::channel();
            assert!(queue.join(&of, waiter).is_none());
            others.push(answer);
        }
        assert_eq!(others.len() + 1, WAITERS_OF_ONE_MAX);
        // Who leaves makes room, in the share that it was of.
        answers.truncate(WAITING_MAX);
        assert_eq!(queue.leave(), WAITING_MAX - 1, "the others wait for that one still");
        assert_eq!((queue.waiting(Share::Renewals), queue.waiting(Share::Others)), (1, WAITING_MAX));
        assert_eq!((queue.renewals.waiters, queue.take(&of).len()), (127, 127));
        assert_eq!((queue.renewals.waiters, queue.others.waiters), (0, WAITING_MAX));
    }
}
