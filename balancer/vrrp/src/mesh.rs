//! The balancers' own word to each other, beside VRRP: who is next, who goes, who is gone.
//!
//! Each Backup keeps a TCP connection to the Active, which it knows by its advertisements: nobody
//! is configured; and one to the Active before, while it sends connections on to that (`leading`).
//! When the Active's process dies, its kernel closes the connection, and the Backup that the Active
//! has named as the next takes over within a millisecond. Mutual TLS by the cluster key: a stranger
//! can neither name nor be named. A keepalived does not listen here, and then the RFC's timers rule.
//!
//! Where peers are configured, each also watches all others, by a connection of its own: they tell it
//! whether they are Active, which confirms their advertisements (`machine::confirm`).
//!
//! Tasks: one that accepts on each interface, one for each connection, two that dial for each
//! router, and one for each peer of one. The book of who follows ([`Mesh`]) is the driver's. Frames
//! are a length of 16 bits and a JSON document.

mod accept;
mod connection;
mod leading;
mod places;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_members::in_force::Keys;
use tokio::sync::{Notify, mpsc};

use crate::machine::PRIORITY_WEAK;
use crate::machine::confirm::Word;
use crate::socket::Family;
use accept::{Acceptor, accept, listen};
use connection::{follow, watch_peer};
pub use leading::LEADERS_MAX;
use leading::Leading;
use places::Places;

/// Connections of others that are no unicast peers, in all.
const CONNECTIONS_MAX: usize = 128;
/// Connections of each unicast peer, for each router that it is one of: it follows and watches, and may come again
/// before what it had is found to have ended.
const PEER_CONNECTIONS_MAX: usize = 4;
/// Followers of one router.
const FOLLOWERS_MAX: usize = 32;
/// Most unicast peers of one router, which watch each other.
pub const PEERS_MAX: usize = 32;
/// Events that wait for the driver.
pub const EVENTS_MAX: usize = 256;

/// The version of what is said here.
const VERSION: u16 = 1;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Message {
    /// A Backup to the Active, first.
    Hello { version: u16, vrid: u8, family: Spoken, priority: u8 },
    /// A Backup to the Active: its claim has changed.
    Claim { priority: u8 },
    /// The Active to a Backup: whether it is the one who takes over.
    Next { you: bool },
    /// The Active to the next: I am about to go; send on to me what I have begun, this long.
    Prepare { seconds: u64 },
    /// The next to the Active: go, and whether it sends on.
    Ready { forwarding: bool },
    /// A unicast peer to another, whose address is `of`, first: tell me of yourself, now and whenever that
    /// changes. Whoever it is not does not answer: the way there may lead to another member.
    Watch { version: u16, vrid: u8, family: Spoken, of: IpAddr },
    /// What was asked, or 0, and how it is by then. Its interval in milliseconds.
    State { active: bool, priority: u8, interval: u32, answers: u64 },
    /// To the one that is watched: an advertisement came in your name. How is it?
    Ask { number: u64 },
    /// What follows is no death.
    Bye,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

impl Message {
    fn state(word: Word, answers: u64) -> Self {
        let Word { active, priority, interval } = word;
        let interval = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        Self::State { active, priority, interval, answers }
    }

    /// What the sender says of itself, and the question that this answers.
    pub fn word(&self) -> Option<(Word, u64)> {
        let Self::State { active, priority, interval, answers } = *self else { return None };
        Some((Word { active, priority, interval: Duration::from_millis(interval.into()) }, answers))
    }
}

/// A family, as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spoken {
    Ipv4,
    Ipv6,
}

impl From<Family> for Spoken {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }
}

/// From whom something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// One that this one follows, by a dialer: the Active, or the one before.
    Leader(usize, IpAddr),
    Follower(u64),
    /// The peer that this one watches.
    Watched(IpAddr),
    /// A peer that watches this one, by this address of it.
    Watcher(u64, IpAddr),
}

/// Something happened to a connection.
#[derive(Debug)]
pub enum What {
    /// It stands; frames to it go here.
    Connected {
        address: IpAddr,
        priority: u8,
        sender: mpsc::Sender<Message>,
    },
    Said(Message),
    /// It is over. In order: the other side said so before.
    Gone {
        orderly: bool,
    },
    /// The Active does not listen here: it is no balancer of ours.
    Unreachable,
}

/// An event for one router.
#[derive(Debug)]
pub struct Event {
    pub router: usize,
    pub from: Speaker,
    pub what: What,
}

/// How to find a router: interface, VRID, family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub interface: String,
    pub vrid: u8,
    pub family: Family,
    /// Whom this one watches, with the mesh's port.
    pub peers: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Watcher {
    address: IpAddr,
    /// By which address of this host it watches it: it may know it by several.
    of: IpAddr,
    sender: mpsc::Sender<Message>,
    told: Option<Word>,
}

/// A peer that is watched.
#[derive(Debug)]
struct Watched {
    /// Where a connection to it stands.
    sender: Option<mpsc::Sender<Message>>,
    /// Has it tried now.
    wanted: Arc<Notify>,
}

#[derive(Debug)]
struct Follower {
    address: IpAddr,
    priority: u8,
    sender: mpsc::Sender<Message>,
    told_next: bool,
    /// It did not answer, and has said nothing since.
    mute: bool,
}

/// Who follows whom, for one router.
#[derive(Debug)]
struct Links {
    followers: BTreeMap<u64, Follower>,
    leading: Leading,
    watchers: BTreeMap<u64, Watcher>,
    watched: BTreeMap<IpAddr, Watched>,
}

impl Links {
    fn new(leading: Leading) -> Self {
        let (followers, watchers, watched) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { followers, leading, watchers, watched }
    }
}

/// Whom a dialer is to reach, and what it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    pub priority: u8,
}

/// The driver's side.
#[derive(Debug)]
pub struct Mesh {
    links: Vec<Links>,
    /// Has an interface listened on anew.
    anew: BTreeMap<String, Arc<Notify>>,
    events: mpsc::Receiver<Event>,
}

impl Mesh {
    /// Listens on each interface and starts the dialers. Must be called within a runtime.
    pub fn start(seats: Vec<Seat>, port: u16, keys: Keys) -> io::Result<Self> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let mut interfaces: Vec<&String> = seats.iter().map(|seat| &seat.interface).collect();
        interfaces.sort();
        interfaces.dedup();
        let (ids, others) = (Arc::new(AtomicU64::new(1)), Places::of_others());
        let (all, mut listeners) = (Arc::new(seats.clone()), BTreeMap::new());
        for interface in interfaces {
            let acceptor = Acceptor {
                interface: interface.clone(),
                seats: all.clone(),
                keys: keys.clone(),
                events: sender.clone(),
                ids: ids.clone(),
            };
            let places = others.with_peers(seats.iter().filter(|seat| seat.interface == *interface));
            let anew = Arc::new(Notify::new());
            listeners.insert(interface.clone(), anew.clone());
            tokio::spawn(accept(listen(interface, port)?, anew, acceptor, places));
        }
        let mut links = Vec::new();
        for (router, seat) in seats.into_iter().enumerate() {
            let (leading, targets) = Leading::new();
            let mut link = Links::new(leading);
            for peer in &seat.peers {
                let wanted = Arc::new(Notify::new());
                link.watched.insert(peer.ip(), Watched { sender: None, wanted: wanted.clone() });
                tokio::spawn(watch_peer(router, seat.clone(), *peer, keys.clone(), wanted, sender.clone()));
            }
            for (dialer, targets) in targets.into_iter().enumerate() {
                let by = (router, dialer);
                tokio::spawn(follow(by, seat.clone(), keys.clone(), targets, sender.clone()));
            }
            links.push(link);
        }
        Ok(Self { links, anew: listeners, events })
    }

    /// The next event; cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Another interface has that name now.
    pub fn listen_again(&self, interface: &str) {
        if let Some(anew) = self.anew.get(interface) {
            anew.notify_one();
        }
    }

    /// One that has come already.
    pub fn at_hand(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Keeps the book. Says whether the event is for the driver, too.
    pub fn note(&mut self, event: &Event) {
        let Some(links) = self.links.get_mut(event.router) else { return };
        match (event.from, &event.what) {
            (Speaker::Leader(dialer, _), What::Connected { address, priority, sender }) => {
                links.leading.connected(dialer, *address, *priority, sender.clone());
            }
            (Speaker::Leader(dialer, _), What::Gone { .. } | What::Unreachable) => links.leading.gone(dialer),
            (Speaker::Follower(id), What::Connected { address, priority, sender }) => {
                // Of a peer the one before may not have ended yet, and takes a place of it.
                if links.watched.contains_key(address) {
                    links.followers.retain(|_, follower| follower.address != *address);
                }
                if links.followers.len() < FOLLOWERS_MAX {
                    let (address, priority, sender) = (*address, *priority, sender.clone());
                    links
                        .followers
                        .insert(id, Follower { address, priority, sender, told_next: false, mute: false });
                }
            }
            (Speaker::Follower(id), What::Said(message)) => {
                let Some(follower) = links.followers.get_mut(&id) else { return };
                follower.mute = false;
                if let Message::Claim { priority } = message {
                    follower.priority = *priority;
                }
            }
            (Speaker::Follower(id), What::Gone { .. }) => drop(links.followers.remove(&id)),
            (Speaker::Watcher(id, of), What::Connected { address, sender, .. }) => {
                // Of one peer the one before may not have ended yet.
                links.watchers.retain(|_, watcher| (watcher.address, watcher.of) != (*address, of));
                if links.watchers.len() < PEERS_MAX {
                    let (address, sender) = (*address, sender.clone());
                    links.watchers.insert(id, Watcher { address, of, sender, told: None });
                }
            }
            (Speaker::Watcher(id, _), What::Gone { .. }) => drop(links.watchers.remove(&id)),
            (Speaker::Watched(peer), What::Connected { sender, .. }) => {
                if let Some(watched) = links.watched.get_mut(&peer) {
                    watched.sender = Some(sender.clone());
                }
            }
            (Speaker::Watched(peer), What::Gone { .. }) => {
                if let Some(watched) = links.watched.get_mut(&peer) {
                    watched.sender = None;
                }
            }
            _ => {}
        }
    }

    /// The follower that takes over.
    pub fn next_of(&self, router: usize) -> Option<u64> {
        let followers = self.links[router].followers.iter();
        let able = followers.filter(|(_, it)| it.priority > PRIORITY_WEAK && !it.mute);
        able.max_by_key(|(_, it)| (it.priority, it.address)).map(|(id, _)| *id)
    }

    /// Who takes over where nobody could do better than a weak one: it takes the addresses, and so it is to have the
    /// connections, too.
    pub fn any_of(&self, router: usize) -> Option<u64> {
        let followers = self.links[router].followers.iter().filter(|(_, it)| it.priority > 0);
        followers.max_by_key(|(_, it)| (it.priority, it.address)).map(|(id, _)| *id)
    }

    /// One that does not answer is not the next until it says something.
    pub fn pass_over(&mut self, router: usize, follower: u64) {
        if let Some(follower) = self.links[router].followers.get_mut(&follower) {
            follower.mute = true;
        }
    }

    pub fn address_of(&self, router: usize, follower: u64) -> Option<IpAddr> {
        self.links[router].followers.get(&follower).map(|follower| follower.address)
    }

    /// Tells each follower whether it is the next; nobody is where `open` is false.
    pub fn name_next(&mut self, router: usize, open: bool) {
        let next = self.next_of(router).filter(|_| open);
        for (id, follower) in &mut self.links[router].followers {
            let you = next == Some(*id);
            if follower.told_next != you && follower.sender.try_send(Message::Next { you }).is_ok() {
                follower.told_next = you;
            }
        }
    }

    pub fn tell(&self, router: usize, follower: u64, message: Message) -> bool {
        let follower = self.links[router].followers.get(&follower);
        follower.is_some_and(|follower| follower.sender.try_send(message).is_ok())
    }

    /// Tells one that this one follows.
    pub fn tell_leader(&self, router: usize, leader: IpAddr, message: Message) {
        self.links[router].leading.tell(leader, message);
    }

    /// Whether the connection to that one stands, as one who follows it.
    pub fn is_in_touch(&self, router: usize, leader: IpAddr) -> bool {
        self.links[router].leading.is_in_touch(leader)
    }

    /// Follows these, which are different ones, and nobody else.
    pub fn set_targets(&mut self, router: usize, targets: [Option<Target>; LEADERS_MAX]) {
        self.links[router].leading.follow(targets);
    }

    /// Tells those who watch what has changed.
    pub fn tell_state(&mut self, router: usize, word: Word) {
        for watcher in self.links[router].watchers.values_mut().filter(|it| it.told != Some(word)) {
            if watcher.sender.try_send(Message::state(word, 0)).is_ok() {
                watcher.told = Some(word);
            }
        }
    }

    /// Answers one who watches.
    pub fn answer(&mut self, router: usize, watcher: u64, word: Word, number: u64) {
        if let Some(watcher) = self.links[router].watchers.get_mut(&watcher)
            && watcher.sender.try_send(Message::state(word, number)).is_ok()
        {
            watcher.told = Some(word);
        }
    }

    /// Asks a peer, or has it reached first: it is asked once it is.
    pub fn ask(&self, router: usize, peer: IpAddr, number: u64) {
        let Some(watched) = self.links[router].watched.get(&peer) else { return };
        match &watched.sender {
            // One that is full is asked again.
            Some(sender) => drop(sender.try_send(Message::Ask { number })),
            None => watched.wanted.notify_one(),
        }
    }

    /// Gives the connection to a peer up, which does not answer on it, and has it reached by another.
    pub fn reach(&mut self, router: usize, peer: IpAddr) {
        if let Some(watched) = self.links[router].watched.get_mut(&peer) {
            watched.sender = None;
            watched.wanted.notify_one();
        }
    }

    /// Ends in order with all followers, but for the one that is kept.
    pub fn dismiss(&mut self, router: usize, keep: Option<u64>) {
        self.links[router].followers.retain(|id, _| Some(*id) == keep);
    }
}

#[cfg(test)]
mod tests;
