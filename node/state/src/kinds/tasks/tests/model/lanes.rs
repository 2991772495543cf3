//! Keys of the plain list: what waits for what is counted anew each time.

use super::*;

impl Model {
    pub(super) fn place(&mut self, first: bool) -> i64 {
        match first {
            true => {
                self.head -= 1;
                self.head
            }
            false => {
                self.tail += 1;
                self.tail
            }
        }
    }

    fn has_lanes(&self) -> bool {
        self.per_key != u32::MAX || self.key_pause > 0
    }

    /// The key of a task that waits for others of it.
    fn lane(&self, at: usize) -> Option<String> {
        let task = &self.tasks[at];
        task.key.clone().filter(|_| task.queue == "q" && self.has_lanes())
    }

    pub(super) fn to(&mut self, at: usize, state: TaskState, first: bool, timer: u64, now: u64) {
        let was_active = self.tasks[at].state == TaskState::Active;
        let place = self.place(first);
        let lane = self.lane(at);
        let task = &mut self.tasks[at];
        (task.state, task.place, task.timer) = (state, place, timer);
        task.is_aside = lane.is_some() && state == TaskState::Ready;
        if let Some(key) = lane {
            let rests = if self.per_key == 1 { was_active } else { state == TaskState::Active };
            if rests && self.key_pause > 0 {
                self.rests.insert(key.clone(), now + self.key_pause);
            }
            self.open(&key, first);
        }
        if let Some(batch) = self.tasks[at].batch {
            self.settle(batch, now);
        }
    }

    /// Lets those of a key be claimed that may be.
    pub(super) fn open(&mut self, key: &str, first: bool) {
        loop {
            let of = |task: &&Plain| task.queue == "q" && task.key.as_deref() == Some(key);
            let count =
                |is: fn(&Plain) -> bool| self.tasks.iter().filter(of).filter(|it| is(it)).count() as u32;
            let active = count(|task| task.state == TaskState::Active);
            let listed = count(|task| task.state == TaskState::Ready && !task.is_aside);
            let is_closed = self.rests.contains_key(key) || self.key_pause > 0 && listed > 0;
            if is_closed || active + listed >= self.per_key {
                return;
            }
            let next = (0..self.tasks.len())
                .filter(|at| self.tasks[*at].is_aside && of(&&self.tasks[*at]))
                .min_by_key(|at| {
                    let task = &self.tasks[*at];
                    (9 - task.priority, task.lost == 0, task.place)
                });
            let Some(at) = next else { return };
            let place = self.place(first);
            (self.tasks[at].is_aside, self.tasks[at].place) = (false, place);
        }
    }

    /// All of queue `q` finds its place anew.
    pub(super) fn set(&mut self, settings: &QueueSettings, now: u64) {
        self.paused = settings.paused;
        if (self.per_key, self.key_pause) == (settings.per_key, settings.key_pause_ms) {
            return;
        }
        (self.per_key, self.key_pause) = (settings.per_key, settings.key_pause_ms);
        let longest = now + self.key_pause;
        self.rests.retain(|_, _| settings.key_pause_ms > 0);
        self.rests.values_mut().for_each(|until| *until = longest.min(*until));
        let mut all: Vec<usize> = (0..self.tasks.len())
            .filter(|at| self.tasks[*at].queue == "q" && self.tasks[*at].state.is_unfinished())
            .collect();
        all.sort_by_key(|at| {
            let task = &self.tasks[*at];
            let key = task.key.clone().filter(|_| task.is_aside);
            let rank = (9 - task.priority, task.lost == 0);
            (task.state == TaskState::Ready, task.is_aside, key, rank, task.place)
        });
        // None of them is in anybody's way before it has its place.
        let states: Vec<TaskState> = all.iter().map(|at| self.tasks[*at].state).collect();
        for at in &all {
            (self.tasks[*at].state, self.tasks[*at].is_aside) = (TaskState::Due, false);
        }
        for (at, state) in all.into_iter().zip(states) {
            let (place, lane) = (self.place(false), self.lane(at));
            let task = &mut self.tasks[at];
            (task.state, task.place) = (state, place);
            task.is_aside = lane.is_some() && state == TaskState::Ready;
            if let Some(key) = lane {
                self.open(&key, false);
            }
        }
    }
}
