//! What a connection's client may send and has sent, for all of its streams together.
//!
//! A connection begins with the window that the protocol gives to each. Who sends a body that is longer may send
//! more at once, as far as the account covers it, and each stream a quarter of that: who waits for a backend
//! leaves its bytes unread, and they are everybody's window. Where they keep the others from sending all the
//! same, it is not their client that is slow.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use h2::FlowControl;

/// The window of a connection, and of each stream, that the protocol begins with.
pub const WINDOW_BYTES_MIN: u32 = 64 * 1024;

/// One connection's.
#[derive(Debug)]
pub struct Inbox {
    window: Cell<u32>,
    /// A body was longer than the first window.
    wanted: Cell<bool>,
    flows: RefCell<Vec<Weak<FlowControl>>>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { window: Cell::new(WINDOW_BYTES_MIN), wanted: Cell::default(), flows: RefCell::default() }
    }
}

impl Inbox {
    /// Counts what lies unread of a stream, for as long as what is returned is there.
    pub fn follow(&self, flow: &FlowControl) -> Rc<FlowControl> {
        let flow = Rc::new(flow.clone());
        let mut flows = self.flows.borrow_mut();
        flows.retain(|flow| flow.strong_count() > 0);
        flows.push(Rc::downgrade(&flow));
        flow
    }

    /// A body has so many bytes by now. The connection looks when it is polled for the next ones.
    pub fn seen(&self, bytes: u64) {
        if bytes >= u64::from(WINDOW_BYTES_MIN) && self.window.get() == WINDOW_BYTES_MIN {
            self.wanted.set(true);
        }
    }

    /// Whether a wider window is wanted, once for each time that somebody wants it.
    pub fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    pub fn widened(&self, window: u32) {
        self.window.set(window);
    }

    /// Whether what lies unread keeps the client from sending: less than half of a window, used up and not
    /// unread, may not be announced again yet.
    pub fn is_blocked(&self) -> bool {
        let flows = self.flows.borrow();
        let unread: usize = flows.iter().filter_map(Weak::upgrade).map(|flow| flow.used_capacity()).sum();
        2 * unread >= self.window.get() as usize
    }
}
