//! What operators set of backends: no new requests, a weight, an ejection of their own.
//!
//! Kept by a backend's name, so that it outlives the process behind that name, a change of the list and
//! SIGHUP; not this process. No tasks: `registry` puts it on the backends after each change, and when the time
//! of an ejection is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Most backends of which something is set.
pub const ORDERS_MAX: usize = 1024;
/// What a weight may be. Nothing at all is what a drain is for.
pub const WEIGHT_MIN: f64 = 0.01;
pub const WEIGHT_MAX: f64 = 100.0;
/// The longest time that an ejection may be given; for longer, none is given.
pub const EJECTION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// That of a backend of which nothing is set.
pub const WEIGHT: f64 = 1.0;

/// What is set of one backend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Order {
    /// It gets nothing new until that is taken back.
    pub drained: bool,
    /// How many times the load of another it is to have.
    pub weight: f64,
    pub ejected: Option<Ejection>,
}

/// It gets nothing new until then; with no time, until that is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    pub until: Option<Instant>,
}

impl Default for Order {
    fn default() -> Self {
        Self { drained: false, weight: WEIGHT, ejected: None }
    }
}

impl Order {
    /// It gets nothing new, whatever else is there.
    pub fn holds_back(&self) -> bool {
        self.drained || self.ejected.is_some()
    }
}

/// Something is set of as many backends as may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("something is set of {ORDERS_MAX} backends, and of no more: reset some")]
pub struct Full;

/// What is set, by name.
#[derive(Debug, Default)]
pub struct Orders {
    set: Mutex<BTreeMap<String, Order>>,
    /// Told after each change.
    changed: watch::Sender<()>,
}

impl Orders {
    fn set(&self) -> MutexGuard<'_, BTreeMap<String, Order>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told of each change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn of(&self, name: &str) -> Order {
        self.set().get(name).copied().unwrap_or_default()
    }

    pub fn all(&self) -> BTreeMap<String, Order> {
        self.set().clone()
    }

    /// What it then comes to.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Order)) -> Result<Order, Full> {
        let mut set = self.set();
        let mut order = set.get(name).copied().unwrap_or_default();
        change(&mut order);
        if order == Order::default() {
            set.remove(name);
        } else if set.len() >= ORDERS_MAX && !set.contains_key(name) {
            return Err(Full);
        } else {
            set.insert(name.to_owned(), order);
        }
        drop(set);
        self.changed.send_replace(());
        Ok(order)
    }

    /// Ends the ejections whose time is over, and says whose they were.
    pub fn expire(&self, now: Instant) -> Vec<String> {
        let mut ended = Vec::new();
        self.set().retain(|name, order| {
            if order.ejected.is_some_and(|it| it.until.is_some_and(|until| until <= now)) {
                order.ejected = None;
                ended.push(name.clone());
            }
            *order != Order::default()
        });
        ended
    }

    /// When the next of them is over.
    pub fn next_end(&self) -> Option<Instant> {
        self.set().values().filter_map(|order| order.ejected?.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_not_kept() {
        let orders = Orders::default();
        let drained = orders.change("a", |order| order.drained = true).unwrap();
        assert!(drained.holds_back() && orders.of("a") == drained && !orders.of("b").holds_back());
        orders.change("a", |order| order.weight = 0.5).unwrap();
        orders.change("a", |order| order.drained = false).unwrap();
        assert_eq!(orders.of("a"), Order { weight: 0.5, ..Order::default() });
        orders.change("a", |order| *order = Order::default()).unwrap();
        assert!(orders.all().is_empty());
    }

    #[test]
    fn an_ejection_ends_at_its_time_and_one_without_stays() {
        let (orders, now) = (Orders::default(), Instant::now());
        let eject = |until| move |order: &mut Order| order.ejected = Some(Ejection { until });
        orders.change("for-ever", eject(None)).unwrap();
        assert_eq!(orders.next_end(), None);
        let end = now + Duration::from_secs(5);
        orders.change("a-while", eject(Some(end))).unwrap();
        orders.change("a-while", |order| order.weight = 2.0).unwrap();
        assert_eq!(orders.next_end(), Some(end));
        assert!(orders.expire(end - Duration::from_millis(1)).is_empty());
        assert_eq!(orders.expire(end), ["a-while"]);
        assert_eq!(orders.of("a-while"), Order { weight: 2.0, ..Order::default() });
        assert!(orders.of("for-ever").holds_back() && orders.next_end().is_none());
    }

    #[test]
    fn of_so_many_something_is_set_and_of_no_more() {
        let orders = Orders::default();
        let drain = |order: &mut Order| order.drained = true;
        for at in 0..ORDERS_MAX {
            orders.change(&at.to_string(), drain).unwrap();
        }
        assert_eq!(orders.change("one more", drain), Err(Full));
        orders.change("0", |order| order.weight = 3.0).unwrap();
        orders.change("0", |order| *order = Order::default()).unwrap();
        orders.change("one more", drain).unwrap();
    }
}
