//! One core's side of all pools: that of the nodes, and those of the services that the routes in force lead to.
//!
//! No tasks; the core's ticker calls [`Dispatches::tick`]. Where the routes are replaced, a pool that stays keeps what
//! this core has for it: connections, who waits, the budget for retries.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Cache};

use crate::core::routes::{Held, Routes};
use crate::core::worker::Worker;
use crate::forward::dispatch::Dispatch;
use crate::pools::Pool;

/// The routes in force, as one core has them.
#[derive(Debug)]
pub struct Routed {
    pub held: Rc<Held>,
    /// Those of the table's services, in its order.
    pub pools: Vec<Rc<Dispatch>>,
}

/// What is shared, and what of it this core saw last.
type Newest = Cache<Arc<ArcSwapOption<Routes>>, Option<Arc<Routes>>>;

/// One core's side of each pool.
#[derive(Debug)]
pub struct Dispatches {
    worker: Rc<Worker>,
    skep: Rc<Dispatch>,
    newest: RefCell<Newest>,
    routed: RefCell<Option<Rc<Routed>>>,
    /// Those of pools that no route leads to any more, while a request is there still.
    leaving: RefCell<Vec<Weak<Dispatch>>>,
}

impl Dispatches {
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self {
            worker: worker.clone(),
            skep: Dispatch::new(worker, worker.shared.pools.skep()),
            newest: RefCell::new(Cache::new(worker.shared.routes.clone())),
            routed: RefCell::default(),
            leaving: RefCell::default(),
        }
    }

    /// That of the pool that is built in.
    pub fn skep(&self) -> &Rc<Dispatch> {
        &self.skep
    }

    /// The routes in force. Looked at for each request: where nothing has changed that is one load.
    pub fn routed(&self) -> Option<Rc<Routed>> {
        let mut newest = self.newest.borrow_mut();
        let newest = newest.load().as_ref()?;
        let mut routed = self.routed.borrow_mut();
        if routed.as_ref().is_none_or(|it| !Arc::ptr_eq(&it.held.0, newest)) {
            *routed = Some(self.take(newest, routed.as_deref()));
        }
        routed.clone()
    }

    fn take(&self, routes: &Arc<Routes>, before: Option<&Routed>) -> Rc<Routed> {
        let mut known: HashMap<*const Pool, &Rc<Dispatch>> =
            before.iter().flat_map(|it| &it.pools).map(|it| (Arc::as_ptr(&it.pool), it)).collect();
        known.insert(Arc::as_ptr(&self.skep.pool), &self.skep);
        let of = |pool: &Arc<Pool>| match known.remove(&Arc::as_ptr(pool)) {
            Some(dispatch) => dispatch.clone(),
            None => Dispatch::new(&self.worker, pool),
        };
        let pools = routes.pools.iter().map(of).collect();
        let mut leaving = self.leaving.borrow_mut();
        leaving.extend(known.into_values().map(Rc::downgrade));
        Rc::new(Routed { held: Rc::new(Held(routes.clone())), pools })
    }

    /// To be called every [`crate::core::timer::TICK`].
    pub fn tick(&self) {
        let routed = self.routed();
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|it| it.strong_count() > 0);
        let left = leaving.iter().filter_map(Weak::upgrade);
        let others: Vec<Rc<Dispatch>> =
            routed.iter().flat_map(|it| it.pools.iter().skip(1).cloned()).chain(left).collect();
        let each = || [&self.skep].into_iter().chain(&others);
        let mut gone: Vec<u64> = each().flat_map(|it| it.pool.load().gone.clone()).collect();
        gone.sort_unstable();
        self.worker.tick(|serial| gone.binary_search(&serial).is_ok());
        each().for_each(|it| it.tick());
        self.worker.stats.retry_tokens.set(self.skep.retry_tokens());
    }
}
