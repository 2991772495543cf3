//! Whom a router follows: the Active, and the one before it for as long as connections are sent on to that one, whose end
//! is the end of that. A dialer for each, which keeps whom it follows while that one is to be followed: another's
//! connection would begin with an end of this one.

use std::net::IpAddr;

use tokio::sync::{mpsc, watch};

use super::{Message, Target};

/// Whom a router follows at the same time.
pub const LEADERS_MAX: usize = 2;

#[derive(Debug)]
struct Dialer {
    target: watch::Sender<Option<Target>>,
    /// Where its connection stands.
    leader: Option<(IpAddr, mpsc::Sender<Message>)>,
    told_priority: Option<u8>,
}

/// The dialers of one router.
#[derive(Debug)]
pub(super) struct Leading([Dialer; LEADERS_MAX]);

impl Leading {
    /// And what each dialer is told.
    pub(super) fn new() -> (Self, [watch::Receiver<Option<Target>>; LEADERS_MAX]) {
        let pairs: [_; LEADERS_MAX] = std::array::from_fn(|_| watch::channel(None));
        let receivers = pairs.each_ref().map(|(_, receiver)| receiver.clone());
        (Self(pairs.map(|(target, _)| Dialer { target, leader: None, told_priority: None })), receivers)
    }

    pub(super) fn connected(
        &mut self,
        dialer: usize,
        address: IpAddr,
        priority: u8,
        sender: mpsc::Sender<Message>,
    ) {
        if let Some(dialer) = self.0.get_mut(dialer) {
            dialer.leader = Some((address, sender));
            dialer.told_priority = Some(priority);
        }
    }

    pub(super) fn gone(&mut self, dialer: usize) {
        if let Some(dialer) = self.0.get_mut(dialer) {
            dialer.leader = None;
        }
    }

    /// The connection to that one, where it stands.
    fn sender(&self, address: IpAddr) -> Option<&mpsc::Sender<Message>> {
        let mut leaders = self.0.iter().filter_map(|dialer| dialer.leader.as_ref());
        leaders.find(|(leader, _)| *leader == address).map(|(_, sender)| sender)
    }

    pub(super) fn is_in_touch(&self, address: IpAddr) -> bool {
        self.sender(address).is_some()
    }

    /// Tells that one, where it is followed.
    pub(super) fn tell(&self, address: IpAddr, message: Message) {
        if let Some(sender) = self.sender(address) {
            let _ = sender.try_send(message);
        }
    }

    /// Follows these, which are different ones, and nobody else.
    pub(super) fn follow(&mut self, targets: [Option<Target>; LEADERS_MAX]) {
        let wanted = || targets.iter().flatten();
        let follows = |dialer: &Dialer, it: &Target| {
            dialer.target.borrow().is_some_and(|target| target.address == it.address)
        };
        let mut anew: Vec<Target> =
            wanted().filter(|it| !self.0.iter().any(|dialer| follows(dialer, it))).copied().collect();
        for dialer in &mut self.0 {
            match wanted().find(|it| follows(dialer, it)) {
                Some(it) => dialer.claim(*it),
                None => {
                    let next = anew.pop();
                    dialer.target.send_if_modified(|it| std::mem::replace(it, next) != next);
                }
            }
        }
    }
}

impl Dialer {
    /// A changed priority is said on the connection that stands, and is what the next one says first; that one is not made
    /// for it.
    fn claim(&mut self, target: Target) {
        self.target.send_if_modified(|it| {
            *it = Some(target);
            false
        });
        if let Some((_, leader)) = &self.leader
            && self.told_priority != Some(target.priority)
            && leader.try_send(Message::Claim { priority: target.priority }).is_ok()
        {
            self.told_priority = Some(target.priority);
        }
    }
}
