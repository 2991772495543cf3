//! Who waits for something of the gateway, and is not woken by all else that is applied.

use skep_state::gateway::Revision;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Waking {
    /// Which document is the newest.
    gateway: watch::Sender<Option<Revision>>,
    /// The last purge's number.
    purges: watch::Sender<u64>,
    /// How far the shifts are.
    shifts: watch::Sender<u64>,
}

impl Waking {
    pub(super) fn new(gateway: Option<Revision>, purges: u64, shifts: u64) -> Self {
        let (gateway, purges) = (watch::Sender::new(gateway), watch::Sender::new(purges));
        Self { gateway, purges, shifts: watch::Sender::new(shifts) }
    }

    pub(super) fn publish(&self, gateway: Option<Revision>, purges: u64, shifts: u64) {
        self.gateway.send_if_modified(|newest| std::mem::replace(newest, gateway) != gateway);
        self.purges.send_if_modified(|last| std::mem::replace(last, purges) != purges);
        self.shifts.send_if_modified(|newest| std::mem::replace(newest, shifts) != shifts);
    }

    pub(crate) fn gateway(&self) -> watch::Receiver<Option<Revision>> {
        self.gateway.subscribe()
    }

    pub(crate) fn purges(&self) -> watch::Receiver<u64> {
        self.purges.subscribe()
    }

    pub(crate) fn shifts(&self) -> watch::Receiver<u64> {
        self.shifts.subscribe()
    }
}
