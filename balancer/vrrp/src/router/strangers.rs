//! Who advertises and is not in the mesh: keepalived, perhaps. While one may be there, nothing but
//! the RFC's timers decides.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long one is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Between the failed attempt to reach one, and the advertisement that proves that it lives.
const DELAY: Duration = Duration::from_millis(300);

/// What one router knows of them.
#[derive(Debug)]
pub struct Strangers {
    /// Longest silence of one that advertises.
    silence_max: Duration,
    /// Who advertised last, and when.
    heard: Option<(IpAddr, Instant)>,
    /// One that the mesh did not reach though it advertised, and when that was tried.
    unreached: Option<(IpAddr, Instant)>,
    found: Option<(IpAddr, Instant)>,
}

impl Strangers {
    /// Of a group that advertises at this interval.
    pub fn new(interval: Duration) -> Self {
        Self { silence_max: interval * 2 + DELAY, heard: None, unreached: None, found: None }
    }

    /// An advertisement came from `source`. Where the mesh did not reach that one a while before, it
    /// is no balancer of ours. One that was not reached because it had just died does not advertise
    /// again.
    pub fn saw(&mut self, source: IpAddr, now: Instant) {
        let unreached = self
            .unreached
            .is_some_and(|(address, at)| address == source && now.saturating_duration_since(at) >= DELAY);
        if unreached || self.found.is_some_and(|(address, _)| address == source) {
            self.found = Some((source, now));
        }
        self.heard = Some((source, now));
    }

    /// The mesh did not reach it. That says something of one that advertises meanwhile, and nothing
    /// of one that is gone: it may come back, and be one of ours.
    pub fn missed(&mut self, address: IpAddr, now: Instant) {
        let advertises = self.heard.is_some_and(|(source, at)| {
            source == address && now.saturating_duration_since(at) <= self.silence_max
        });
        self.unreached = advertises.then_some((address, now));
    }

    /// It is in the mesh.
    pub fn forget(&mut self, address: IpAddr) {
        self.unreached = self.unreached.filter(|(unreached, _)| *unreached != address);
        self.found = self.found.filter(|(found, _)| *found != address);
    }

    /// Whether one may be there.
    pub fn present(&self, now: Instant) -> bool {
        self.found.is_some_and(|(_, at)| now.saturating_duration_since(at) < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn one_that_advertises_and_is_not_reached_is_a_stranger_for_ten_minutes() {
        let (mut strangers, start) = (Strangers::new(INTERVAL), Instant::now());
        strangers.saw(PEER, start);
        strangers.missed(PEER, start + Duration::from_millis(1));
        assert!(!strangers.present(start + Duration::from_millis(1)));
        strangers.saw(PEER, start + INTERVAL);
        assert!(strangers.present(start + INTERVAL));
        assert!(strangers.present(start + INTERVAL + MEMORY - Duration::from_millis(1)));
        assert!(!strangers.present(start + INTERVAL + MEMORY));
    }

    #[test]
    fn one_that_was_gone_when_it_was_not_reached_is_none_when_it_is_back() {
        let (mut strangers, start) = (Strangers::new(INTERVAL), Instant::now());
        strangers.saw(PEER, start);
        // Its cable is pulled; the connection to it is given up, and tried again.
        strangers.missed(PEER, start + 5 * INTERVAL);
        strangers.saw(PEER, start + 20 * INTERVAL);
        assert!(!strangers.present(start + 20 * INTERVAL));
    }

    #[test]
    fn one_that_is_found_in_the_mesh_is_none_any_more() {
        let (mut strangers, start) = (Strangers::new(INTERVAL), Instant::now());
        strangers.saw(PEER, start);
        strangers.missed(PEER, start);
        strangers.saw(PEER, start + INTERVAL);
        strangers.forget(PEER);
        assert!(!strangers.present(start + INTERVAL));
        strangers.saw(PEER, start + 2 * INTERVAL);
        assert!(!strangers.present(start + 2 * INTERVAL));
    }
}
