//! Requests of one core that wait for a backend, served in the order in which they came.
//!
//! Who is first is called where there may be room, looks, and stays first where there is none. A place
//! that is dropped is given back, and who is first then looks, too: where room came for several, each
//! calls the next. How many may wait, and for how long, is for who lets them in.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Who waits, in order.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: RefCell<VecDeque<Rc<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Takes the last place.
    pub fn join(&self) -> Place<'_> {
        let waiting = Rc::new(Waiting { called: Cell::new(false), waker: RefCell::default() });
        self.waiting.borrow_mut().push_back(waiting.clone());
        Place { queue: self, waiting }
    }

    /// There may be room: who is first looks.
    pub fn call(&self) {
        if let Some(first) = self.waiting.borrow().front() {
            first.called.set(true);
            if let Some(waker) = first.waker.take() {
                waker.wake();
            }
        }
    }
}

/// A place in the queue; dropping it gives it back.
#[derive(Debug)]
pub struct Place<'a> {
    queue: &'a Queue,
    waiting: Rc<Waiting>,
}

impl Place<'_> {
    /// Ready once for each call of who is first.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.called.replace(false) {
            return Poll::Ready(());
        }
        *self.waiting.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.borrow_mut();
        let at = waiting.iter().position(|it| Rc::ptr_eq(it, &self.waiting));
        if let Some(at) = at {
            waiting.remove(at);
        }
        drop(waiting);
        if at == Some(0) {
            self.queue.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(place: &Place<'_>) -> bool {
        place.poll_turn(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_came_first_looks_first_and_stays_first_where_there_is_no_room() {
        let queue = Queue::default();
        let (first, second, third) = (queue.join(), queue.join(), queue.join());
        assert!(!is_called(&first));
        for _ in 0..2 {
            queue.call();
            assert!(!is_called(&second));
            assert!(is_called(&first) && !is_called(&first), "once for each call");
        }
        drop(first);
        assert!(is_called(&second), "there may be room for more than one");
        drop(second);
        drop(third);
        assert!(queue.is_empty());
        queue.call();
    }

    #[test]
    fn who_gives_up_in_the_middle_calls_nobody() {
        let queue = Queue::default();
        let (first, second, third) = (queue.join(), queue.join(), queue.join());
        drop(second);
        assert_eq!(queue.len(), 2);
        assert!(!is_called(&first) && !is_called(&third));
        queue.call();
        drop(first);
        assert!(is_called(&third), "a call is not lost with who was called");
    }
}
