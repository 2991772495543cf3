//! Whether passwords are their users': looked at beside the cores, few at a time, and remembered for a while.
//!
//! A look takes tens of milliseconds and as many MiB, so who asks waits for it and its core goes on meanwhile. Threads of
//! their own, which begin where there is something to look at and end after a rest. Who presents what is looked at already waits for the
//! same look. What is known is known of the address that presented it, and wrong passwords count against theirs: who guesses is
//! refused before anything is looked at, also where the user is there all the time. A network has a share of what waits (`queue`),
//! and what was right before, of the same address (`kept`), waits among its like alone: no guesses take its room.
//! What is nobody's is looked at by what costs as much as somebody's.
//! Dropping a [`Waiting`] takes back what nobody else waits for.

mod kept;
mod queue;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use skep_base::process::memory;
use skep_gateway::auth::KeyDigest;
use skep_gateway::auth::password::{Check, Checked, Login, PasswordHash};
use skep_gateway::limit::{By, Limit, Neighbours, Per, Scope, Who};
use tokio::sync::oneshot;

use self::kept::Kept;
pub use self::kept::{KEPT_FOR, KEPT_MAX, RENEWED_FOR};
use self::queue::{Job, Queue, Share};
pub use self::queue::{WAITERS_MAX, WAITERS_OF_ONE_MAX, WAITING_MAX, WAITING_OF_ONE_MAX};
use crate::core::rates::{Held, Rates};

/// Most passwords that are looked at at a time; fewer, where there are fewer than twice as many processors.
pub const LOOKS_MAX: usize = 4;
/// The part of the memory that looks may take which the process may have: one by the dearest hash takes 64 MiB.
const MEMORY_SHARE: u64 = 4;
const LOOK_BYTES_MAX: u64 = 64 << 20;
/// Wrong passwords of one address: after these it waits.
pub const WRONG: Limit =
    Limit { rate: 1, per: Per::Second, burst: 10, by: By::Address, scope: Scope::Balancer, is_shared: false };
/// How long a thread waits for something to look at.
const REST: Duration = Duration::from_secs(10);
/// Of these threads: what cores do comes first, and yet they have about a seventh of a core where two more want all of it, so that
/// who logs in at a busy host has an answer in time.
const NICE: i32 = 5;

/// A user and a password, by a key of this run.
type Seal = [u8; 32];
/// What is looked at: whether these are right by what is kept of the user's password, which is none where nobody is called so; and
/// for whom.
type Looked = (Seal, Option<KeyDigest>, Neighbours);

/// What came of passwords.
#[derive(Debug, Default)]
pub struct Counts {
    pub right: AtomicU64,
    pub wrong: AtomicU64,
    /// Of addresses that presented too many wrong ones.
    pub limited: AtomicU64,
    /// For which there was no room.
    pub full: AtomicU64,
    /// Nobody waited for them any more.
    pub left: AtomicU64,
}

/// Why a password is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// For so many ticks, for the address presented too many wrong ones.
    TooOften(u64),
    Full,
}

/// What came of one, for who asks once more.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    of: Looked,
    /// None where nobody came to look at it.
    right: Option<bool>,
}

/// A look that is waited for.
#[derive(Debug)]
pub struct Waiting {
    of: Box<Looked>,
    answer: oneshot::Receiver<Option<bool>>,
}

impl Waiting {
    /// Cancel-safe: what it comes to is still to be had.
    pub async fn answer(&mut self) -> Option<bool> {
        (&mut self.answer).await.ok().flatten()
    }

    pub fn outcome(&self, right: Option<bool>) -> Outcome {
        Outcome { of: *self.of, right }
    }
}

/// All of it.
pub struct Passwords(Arc<Desk>);

struct Desk {
    /// None where there is no chance to be had: then nothing is looked at.
    key: Option<hmac::Key>,
    kept: RwLock<Kept<Looked>>,
    wrong: Rates,
    limit: Held,
    state: Mutex<State>,
    work: Condvar,
    counts: Counts,
    threads_max: usize,
}

#[derive(Default)]
struct State {
    queue: Queue,
    threads: usize,
    resting: usize,
    ends: bool,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("counts", &self.0.counts).finish_non_exhaustive()
    }
}

impl Default for Passwords {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let by_memory = memory::limit_bytes() / MEMORY_SHARE / LOOK_BYTES_MAX;
        let by_memory = usize::try_from(by_memory).unwrap_or(LOOKS_MAX).max(1);
        Self(Arc::new(Desk {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            kept: RwLock::default(),
            wrong: Rates::default(),
            limit: Held::new("a password", WRONG),
            state: Mutex::default(),
            work: Condvar::new(),
            counts: Counts::default(),
            threads_max: (processors / 2).clamp(1, LOOKS_MAX).min(by_memory),
        }))
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.0.state().ends = true;
        self.0.work.notify_all();
    }
}

impl Passwords {
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// How many are known to be right.
    pub fn kept(&self) -> usize {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner).count(Instant::now())
    }

    /// How many wait to be looked at that were not right before.
    pub fn waiting(&self) -> usize {
        self.0.state().queue.waiting(Share::Others)
    }

    /// How many wait to be looked at again that were right before.
    pub fn renewals_waiting(&self) -> usize {
        self.0.state().queue.waiting(Share::Renewals)
    }

    /// What is known of a password that a client presents, by what is kept of its user's: `outcome` is what came of the
    /// look that was waited for.
    pub fn checked(
        &self,
        login: &Login,
        known: Option<&PasswordHash>,
        outcome: Option<&Outcome>,
        client: IpAddr,
    ) -> Checked {
        let Some(seal) = self.0.seal(login) else { return Checked::NotYet };
        let of = (seal, known.map(PasswordHash::id), Neighbours::of(client));
        match outcome.filter(|it| it.of == of).and_then(|it| it.right) {
            Some(true) => return Checked::Right,
            Some(false) => return Checked::Wrong,
            None => {}
        }
        let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        if kept.has(&of, Instant::now()) { Checked::Right } else { Checked::NotYet }
    }

    /// Has it looked at, for a client. `decoy` is what one is looked at by that is nobody's, by the name of its user.
    pub fn look(
        &self,
        check: Check,
        decoy: impl FnOnce(&str) -> PasswordHash,
        client: IpAddr,
    ) -> Result<Waiting, Turned> {
        let desk = &self.0;
        let turned = desk.look(check, decoy, Neighbours::of(client));
        match turned {
            Ok(_) => {}
            Err(Turned::TooOften(_)) => drop(desk.counts.limited.fetch_add(1, Relaxed)),
            Err(Turned::Full) => drop(desk.counts.full.fetch_add(1, Relaxed)),
        }
        turned
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seal(&self, login: &Login) -> Option<Seal> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        // So that no two users and passwords come to the same bytes.
        context.update(&(login.user.len() as u64).to_le_bytes());
        context.update(login.user.as_bytes());
        context.update(&login.password);
        context.sign().as_ref().try_into().ok()
    }

    fn look(
        self: &Arc<Self>,
        check: Check,
        decoy: impl FnOnce(&str) -> PasswordHash,
        client: Neighbours,
    ) -> Result<Waiting, Turned> {
        let Check { login, against } = check;
        let seal = self.seal(&login).ok_or(Turned::Full)?;
        let of = (seal, against.as_ref().map(PasswordHash::id), client);
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting { of: of.into(), answer };
        let was_right = self.kept.read().unwrap_or_else(PoisonError::into_inner).had(&of, Instant::now());
        let share = if was_right { Share::Renewals } else { Share::Others };
        let turned = |queue: &Queue| {
            let too_early = || self.wrong.too_early(&self.limit, Who::Client(client), self.wrong.now());
            match (!queue.has(&of)).then(too_early).flatten() {
                Some(wait) => Some(Turned::TooOften(wait)),
                None => (!queue.has_room(&of, share)).then_some(Turned::Full),
            }
        };
        let mut state = self.state();
        let mut why = turned(&state.queue);
        if why == Some(Turned::Full) {
            self.leave(&mut state);
            why = turned(&state.queue);
        }
        if let Some(why) = why {
            return Err(why);
        }
        let Some(sender) = state.queue.join(&of, sender) else { return Ok(waiting) };
        if state.queue.len() >= state.resting && state.threads < self.threads_max {
            let desk = self.clone();
            match thread::Builder::new().name("password".to_owned()).spawn(move || desk.run()) {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads > 0 => {}
                Err(_) => return Err(Turned::Full),
            }
        }
        let by = against.unwrap_or_else(|| decoy(&login.user));
        state.queue.push(Job { of, password: login.password, by }, share, sender);
        drop(state);
        self.work.notify_one();
        Ok(waiting)
    }

    /// Forgets who has left.
    fn leave(&self, state: &mut State) {
        self.counts.left.fetch_add(state.queue.leave() as u64, Relaxed);
    }

    fn run(&self) {
        // Where that is not allowed, it goes on as it is.
        let _ = rustix::process::setpriority_process(None, NICE);
        while let Some(job) = self.next() {
            let right = job.by.is_of(&job.password).map(|is_it| is_it && job.of.1.is_some());
            self.done(&job, right);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            self.leave(&mut state);
            if let Some(job) = state.queue.next().filter(|_| !state.ends) {
                return Some(job);
            }
            if !state.ends {
                state.resting += 1;
                let waited = self.work.wait_timeout(state, REST);
                let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = next;
                state.resting -= 1;
                if !timeout.timed_out() || state.queue.len() > 0 {
                    continue;
                }
            }
            state.threads -= 1;
            return None;
        }
    }

    fn done(&self, job: &Job, right: Option<bool>) {
        if right == Some(true) {
            self.kept.write().unwrap_or_else(PoisonError::into_inner).keep(job.of, Instant::now());
        }
        if right == Some(false) {
            self.counts.wrong.fetch_add(1, Relaxed);
            self.wrong.owe(&self.limit, Who::Client(job.of.2), 1, self.wrong.now());
        } else {
            self.counts.right.fetch_add(u64::from(right == Some(true)), Relaxed);
        }
        let waiters = self.state().queue.take(&job.of);
        for waiter in waiters {
            // Who is not there any more need not hear it.
            let _ = waiter.send(right);
        }
    }
}

#[cfg(test)]
mod tests;
