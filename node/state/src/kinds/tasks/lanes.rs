//! Lanes: the tasks of one key in a queue, of which so many may be active at once, and which have rest.
//!
//! Of a key as many tasks are in the queue's own lists as may be claimed now; the others wait aside, in the lane, the
//! most urgent first and else in the order in which they came. Whatever makes room (the end of one, the end of a
//! rest) puts the lane's next task at the tail: keys take turns, and a claim looks at nothing that it may not have.
//! Until when a lane has rest is a time like others, and comes to its end by [`TaskOp::Due`].
//!
//! [`TaskOp::Due`]: crate::task::TaskOp::Due

use std::collections::BTreeSet;

use super::lane::Lane;
use super::put::For;
use super::table::Edge;
use super::{Tasks, Timed, noted};
use crate::level::Limits;
use crate::task::{PRIORITIES, QueueSettings, TaskState};

impl Tasks {
    /// Puts what may be claimed of a key by now into its queue's lists; forgets a lane that is over.
    pub(super) fn open_lane(&mut self, number: u16, key: &str, edge: Edge, now: u64) {
        let (table, queues) = (&mut self.held.table, &mut self.held.queues);
        let Some(queue) = queues.get_mut(usize::from(number)) else { return };
        let settings = queue.settings;
        while let Some(lane) = queue.lanes.get_mut(key)
            && lane.has_room(&settings)
            && let Some(mut first) = lane.waiting.last_entry()
        {
            let slot = first.get().head;
            table.unlink(first.get_mut(), slot);
            if first.get().len == 0 {
                first.remove();
            }
            lane.listed += 1;
            queue.aside -= 1;
            let Some(task) = table.get_mut(slot) else { return };
            task.set_aside(false);
            task.since = now.into();
            let task = task.clone();
            noted::listed(&mut self.rolling, &task, edge);
            if let Some(list) = queue.list(&task) {
                table.link(list, slot, edge);
            }
        }
        if queue.lanes.get(key).is_some_and(Lane::is_over) {
            queue.lanes.remove(key);
        }
    }

    /// A task of a key goes from one state to another: the key may have rest from here on.
    pub(super) fn rest_lane(&mut self, number: u16, key: &str, from: TaskState, to: TaskState, now: u64) {
        let Some(queue) = self.held.queues.get_mut(usize::from(number)) else { return };
        let QueueSettings { per_key, key_pause_ms, .. } = queue.settings;
        let begins = match per_key {
            1 => from == TaskState::Active,
            _ => to == TaskState::Active,
        };
        if key_pause_ms == 0 || !begins {
            return;
        }
        let Some((key, _)) = queue.lanes.get_key_value(key) else { return };
        let key = key.clone();
        let Some(lane) = queue.lanes.get_mut(&key) else { return };
        let until = now.saturating_add(key_pause_ms);
        let before = std::mem::replace(&mut lane.rests_until_ms, until);
        if before > 0 {
            self.timers.remove(&(before, Timed::Lane(number, key.clone())));
        }
        noted::rest(&mut self.rolling, number, until, &key);
        self.timers.insert((until, Timed::Lane(number, key)));
    }

    /// A key has had its rest.
    pub(super) fn wake_lane(&mut self, number: u16, key: &str, now: u64) {
        let lane = self.held.queues.get_mut(usize::from(number)).and_then(|queue| queue.lanes.get_mut(key));
        if let Some(lane) = lane {
            lane.rests_until_ms = 0;
            noted::rest(&mut self.rolling, number, 0, key);
        }
        self.open_lane(number, key, Edge::Tail, now);
        self.held.changes += 1;
    }

    /// Whether there is room for the lanes of these queues' keys.
    pub(super) fn have_lanes<'a>(
        &self,
        keys: impl Iterator<Item = (u16, &'a str)>,
        of: For,
        limits: &Limits,
    ) -> bool {
        let queue = |number: u16| self.held.queues.get(usize::from(number));
        let is_new = |(number, key): &(u16, &str)| {
            queue(*number).is_some_and(|queue| queue.settings.has_lanes() && !queue.lanes.contains_key(*key))
        };
        let new: BTreeSet<(u16, &str)> = keys.filter(is_new).collect();
        new.is_empty() || self.lanes() + new.len() <= of.lanes_max(limits)
    }

    /// Sets how many of a key may be active, and for how long it has rest: all tasks of the queue find their places
    /// anew. A rest that has begun goes on, but for no longer than one has from here on. Answers whether there is room
    /// for their lanes.
    pub(super) fn set_lanes(
        &mut self,
        number: u16,
        settings: QueueSettings,
        now: u64,
        limits: &Limits,
    ) -> bool {
        let Some(queue) = self.held.queues.get(usize::from(number)) else { return false };
        let slots = self.slots_in_order(number);
        if settings.has_lanes() {
            let task = |slot: &u32| self.held.table.get(*slot);
            let keys = slots.iter().filter_map(|slot| task(slot)?.body.key.as_deref());
            let resting = queue.lanes.iter().filter(|(_, lane)| lane.rests_until_ms > 0);
            let keys: BTreeSet<&str> = keys.chain(resting.map(|(key, _)| &**key)).collect();
            if self.lanes() - queue.lanes.len() + keys.len() > For::Puts.lanes_max(limits) {
                return false;
            }
        }
        slots.iter().for_each(|slot| self.detach(*slot));
        if let Some(queue) = self.held.queues.get_mut(usize::from(number)) {
            queue.settings = settings;
            for (key, lane) in std::mem::take(&mut queue.lanes) {
                let rest = lane.rests_until_ms;
                self.timers.remove(&(rest, Timed::Lane(number, key.clone())));
                if rest > 0 && settings.key_pause_ms > 0 {
                    let rests_until_ms = rest.min(now.saturating_add(settings.key_pause_ms));
                    noted::rest(&mut self.rolling, number, rests_until_ms, &key);
                    self.timers.insert((rests_until_ms, Timed::Lane(number, key.clone())));
                    queue.lanes.insert(key, Lane { rests_until_ms, ..Lane::default() });
                }
            }
        }
        slots.iter().for_each(|slot| self.place(*slot, Edge::Tail, now));
        true
    }

    /// The unfinished tasks of a queue: those that workers have, those that are due, and those that are ready in the
    /// order in which they are to be claimed.
    fn slots_in_order(&self, number: u16) -> Vec<u32> {
        let Some(queue) = self.held.queues.get(usize::from(number)) else { return Vec::new() };
        let table = &self.held.table;
        let is_due = |slot: &u32| {
            table.get(*slot).is_some_and(|task| task.queue == number && task.state == TaskState::Due)
        };
        let listed = (0..PRIORITIES)
            .rev()
            .flat_map(|priority| queue.suspects.get(priority).into_iter().chain(queue.ready.get(priority)));
        let aside = queue.lanes.values().flat_map(|lane| lane.waiting.values().rev());
        let due = (0..table.slots()).filter(is_due);
        let lists = listed.chain(aside).flat_map(|list| table.walk(list));
        table.walk(&queue.active).chain(due).chain(lists).collect()
    }
}
