//! A fetch of an answer, as a task of its own on the core of who asked first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::filler::Filler;
use super::written::fetched;
use super::{Wanting, fields_of};
use crate::core::cache::stored::Stored;
use crate::core::cache::{Entered, Fetch};
use crate::core::trail::Trail;
use crate::forward::downstream::{Fault, Request};
use crate::forward::exchange;
use crate::forward::plan::Plan;
use crate::pools::backends::Backend;
use crate::wire::request_head::Method;

/// What a fetch says to who began it, on the same core.
#[derive(Debug, Default)]
pub(super) struct Told {
    fault: Cell<Option<Fault>>,
    backend: RefCell<Option<Arc<Backend>>>,
    attempts: Cell<u32>,
}

impl Told {
    /// Why it failed.
    pub(super) fn problem(&self) -> Option<Fault> {
        self.fault.get()
    }

    pub(super) fn tell(&self, trail: &mut Trail) {
        trail.backend = self.backend.borrow().clone();
        trail.attempts = self.attempts.get();
    }
}

/// Asks for a stored answer anew, with nobody waiting, where that is not done already.
pub(super) fn beside(wanting: &Wanting<'_>, stored: &Arc<Stored>) {
    // What who is known would fetch is for nobody else to wait for: another asks for it.
    if wanting.is_known() {
        return;
    }
    let fields = fields_of(wanting.request.head);
    let entered = wanting.cache().enter(wanting.place(), fields, Some(stored), true, true);
    if let Entered::Leads(_, fetch) = entered {
        begin(wanting, fetch);
    }
}

/// Begins a fetch.
pub(super) fn begin(wanting: &Wanting<'_>, fetch: Fetch) -> Rc<Told> {
    let told: Rc<Told> = Rc::default();
    let own = fetch.flight.stale.as_ref().map(|stale| stale.head.validators());
    let head = fetched(wanting.request.head, own);
    // What the route says in answers is said with each use, and not stored.
    let plan = Plan { via: None, cache: None, ..wanting.request.plan.clone() };
    let filler = Filler::new(wanting, fetch);
    let (worker, client, pace, said) =
        (wanting.worker.clone(), wanting.request.client, wanting.request.pace, told.clone());
    tokio::task::spawn_local(async move {
        let mut filler = filler;
        let timer = worker.timers.timer();
        let mut trail = Trail::new(Instant::now());
        let request = Request {
            head: &head,
            method: Method::Get,
            upgrade: b"",
            must_change: false,
            client,
            expects: false,
            keep: false,
            pace,
            plan: &plan,
        };
        let outcome = exchange::forward(&timer, request, &mut filler, &mut trail).await;
        if let Some(backend) = trail.backend {
            backend.stats.bytes_out.fetch_add(trail.bytes_out, Relaxed);
            *said.backend.borrow_mut() = Some(backend);
        }
        said.attempts.set(trail.attempts);
        said.fault.set(outcome.err());
    });
    told
}
