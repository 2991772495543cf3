//! Where claims wait for tasks at this node: as many are called as there are tasks to be had, in the order in which
//! they came.
//!
//! One task follows what is applied; it ends with the desk. A claim that is dropped gives its place up.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::served::TaskApi;

/// Claims that wait at a node.
pub(crate) const WAITING_MAX: usize = 16 * 1024;
/// Places that are given up are looked for once there are so many in a line, and as often as it doubles.
const LEFT_MIN: usize = 64;

/// The claims that wait.
#[derive(Default)]
pub(crate) struct Desk {
    lines: Mutex<HashMap<String, Line>>,
    /// One was called, and is back.
    back: Notify,
    places: AtomicUsize,
}

#[derive(Default)]
struct Line {
    places: VecDeque<Weak<Place>>,
    /// Those that were called, and are not back yet.
    called: u32,
    /// Places at which those that are given up are taken out.
    sweep_at: usize,
}

/// A claim's place in the lines of its queues.
pub(crate) struct Place {
    desk: Arc<Desk>,
    queues: Vec<String>,
    call: Notify,
    /// The queue that it was called for.
    called_for: Mutex<Option<String>>,
}

impl Desk {
    /// With the task that calls.
    pub(crate) fn start<A: TaskApi>(api: &Arc<A>) -> Arc<Desk> {
        let desk = Arc::new(Desk::default());
        let (of, api) = (Arc::downgrade(&desk), Arc::downgrade(api));
        tokio::spawn(async move {
            let Some(mut applied) = api.upgrade().map(|api| api.applied()) else { return };
            let mut seen = None;
            loop {
                let Some(desk) = of.upgrade() else { return };
                let revision = applied.borrow_and_update().revisions.tasks;
                let Some(api) = api.upgrade() else { return };
                if seen.replace(revision) != Some(revision) {
                    desk.call(&*api);
                }
                drop(api);
                tokio::select! {
                    changed = applied.changed() => if changed.is_err() { return },
                    () = desk.back.notified() => seen = None,
                }
            }
        });
        desk
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims that wait here.
    pub(crate) fn waiting(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    /// Calls as many as there are tasks to be had for them.
    fn call<A: TaskApi>(&self, api: &A) {
        let names: Vec<String> = self.lines().keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let counts: Vec<u32> = api.tasks(|tasks| names.iter().map(|name| tasks.claimable(name)).collect());
        // One that its claim has left meanwhile is dropped behind the lock, which it takes.
        let mut met = Vec::new();
        let mut lines = self.lines();
        for (name, count) in names.into_iter().zip(counts) {
            let Some(line) = lines.get_mut(&name) else { continue };
            while line.called < count {
                let Some(place) = line.places.pop_front() else { break };
                let Some(place) = place.upgrade() else { continue };
                let mut called_for = place.called_for.lock().unwrap_or_else(PoisonError::into_inner);
                // It may be called by another of its queues already.
                if called_for.is_none() {
                    *called_for = Some(name.clone());
                    line.called += 1;
                    place.call.notify_one();
                }
                drop(called_for);
                met.push(place);
            }
            if line.places.is_empty() && line.called == 0 {
                lines.remove(&name);
            }
        }
    }

    /// A place for a claim from these queues, at the end of their lines.
    pub(crate) fn join(self: &Arc<Self>, queues: Vec<String>) -> Result<Arc<Place>, Problem> {
        self.places.fetch_add(1, Ordering::Relaxed);
        let place =
            Arc::new(Place { desk: self.clone(), queues, call: Notify::new(), called_for: Mutex::new(None) });
        match place.line_up() {
            true => Ok(place),
            false => {
                let detail = format!("{WAITING_MAX} claims wait at this node already");
                Err(Problem::unprocessed(ProblemKind::Overloaded, detail))
            }
        }
    }
}

impl Place {
    fn line_up(self: &Arc<Self>) -> bool {
        let mut lines = self.desk.lines();
        if lines.values().map(|line| line.places.len()).sum::<usize>() + self.queues.len() > WAITING_MAX {
            lines.values_mut().for_each(|line| line.places.retain(|place| place.strong_count() > 0));
            if lines.values().map(|line| line.places.len()).sum::<usize>() + self.queues.len() > WAITING_MAX {
                return false;
            }
        }
        for queue in &self.queues {
            let line = lines.entry(queue.clone()).or_default();
            if line.places.len() >= line.sweep_at.max(LEFT_MIN) {
                line.places.retain(|place| place.strong_count() > 0);
                line.sweep_at = 2 * line.places.len();
            }
            // One that was called for one queue is still in the lines of the others.
            if self.queues.len() > 1 {
                line.places.retain(|place| place.as_ptr() != Arc::as_ptr(self));
            }
            line.places.push_back(Arc::downgrade(self));
        }
        true
    }

    /// Waits until there may be a task. Cancel-safe.
    pub(crate) async fn called(&self) {
        self.call.notified().await;
    }

    /// There was none after all: another one may be called.
    pub(crate) fn leave(&self) {
        self.come_back();
    }

    /// Lines up again. What could be had meanwhile is looked for anew.
    pub(crate) fn again(self: &Arc<Self>) -> bool {
        let is_in_line = self.line_up();
        self.desk.back.notify_one();
        is_in_line
    }

    fn come_back(&self) {
        let called_for = self.called_for.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(queue) = called_for {
            if let Some(line) = self.desk.lines().get_mut(&queue) {
                line.called = line.called.saturating_sub(1);
            }
            self.desk.back.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.come_back();
        self.desk.places.fetch_sub(1, Ordering::Relaxed);
    }
}
