//! What is owed, as it is told to another run and taken over from one.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use skep_gateway::exchange::debts::{Debt, PLACES};
use skep_gateway::limit::Who;

use super::{Held, KEYS_MAX, Keys, Rates, SETS, WAYS};

/// Sets that are looked at at once: who asks for more goes on from there.
const LOOKED_AT_MAX: usize = 2048;

const _: () = assert!(PLACES as usize == 3 * SETS && 3 * KEYS_MAX == PLACES as usize * WAYS);

/// Debts that went from one run to another.
#[derive(Debug, Default)]
pub struct Handed {
    /// Told to a balancer that started.
    pub given: AtomicU64,
    /// Of others, at the start.
    pub taken: AtomicU64,
    /// Of what the run before had written, at the start.
    pub read: AtomicU64,
    /// By limits that are not in force here.
    pub strange: AtomicU64,
}

impl Rates {
    /// What is owed at these places, in whole sets and as few more than `most` as they allow; and where to go on. `apart`
    /// is told of a limit, who owes by it and what others are yet to hear of that, and says how many requests are to be
    /// left out; nothing, where all of it is.
    pub fn debts(
        &self,
        places: Range<u32>,
        most: usize,
        mut apart: impl FnMut(u64, Who, i32) -> Option<i64>,
    ) -> (Vec<Debt>, u32) {
        let now = self.now();
        let tables: [&Keys; 3] = [&self.addresses, &self.consumers, &self.routes];
        let (mut place, end) = (places.start as usize, places.end.min(PLACES) as usize);
        let (mut debts, mut looked_at) = (Vec::new(), 0);
        while place < end && looked_at < LOOKED_AT_MAX {
            let Some(sets) = tables[place / SETS].sets.get() else {
                // Nobody was counted there.
                place = end.min((place / SETS + 1) * SETS);
                continue;
            };
            let before = debts.len();
            let set = sets[place % SETS].lock();
            // Others count one that was told and given back.
            for slot in set.iter().filter(|it| it.tat > now || it.untold < 0) {
                let Some(apart) = apart(slot.limit, slot.who, slot.untold) else { continue };
                let left_out = slot.step.saturating_mul(apart.unsigned_abs());
                let ahead = slot.tat.saturating_sub(now);
                let owed =
                    if apart < 0 { ahead.saturating_add(left_out) } else { ahead.saturating_sub(left_out) };
                if owed > 0 {
                    debts.push(Debt { limit: slot.limit, who: slot.who, step: slot.step, owed });
                }
            }
            drop(set);
            if debts.len() > most.max(WAYS) {
                debts.truncate(before);
                break;
            }
            (place, looked_at) = (place + 1, looked_at + 1);
        }
        (debts, place as u32)
    }

    /// All that is owed, to whomever.
    pub fn all_debts(&self) -> Vec<Debt> {
        let (mut all, mut at) = (Vec::new(), 0);
        while at < PLACES {
            let (debts, next) = self.debts(at..PLACES, usize::MAX, |_, _, _| Some(0));
            all.extend(debts);
            at = next;
        }
        all
    }

    /// Owes what another run says, by the limits that it is found in force for: the more of that and of what is known here,
    /// so that it may be heard twice. Answers how many there were.
    pub fn take_over<'a>(&self, debts: &[Debt], held: impl Fn(u64) -> Option<&'a Held>) -> u64 {
        let (now, mut taken) = (self.now(), 0);
        for Debt { limit, who, step, owed } in debts {
            let Some(held) = held(*limit).filter(|it| it.limit.counts(*who)) else {
                self.handed.strange.fetch_add(1, Relaxed);
                continue;
            };
            let table = self.table(held.limit.by);
            let mut set = table.set(self.set_of(held.id, *who));
            if let Some(slot) = table.slot(&mut set, held, *who, now) {
                slot.tat = held.limit.owe_at_least(slot.tat, now, *owed, *step);
                taken += 1;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
