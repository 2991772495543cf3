//! The one loop that all virtual routers of the process live in.
//!
//! One task. In each turn it reads every packet that waits and all that the mesh has brought, then
//! lets timers fire, then waits for a packet, a deadline, the kernel's news, health, or a command. The
//! order matters: a process that was stalled finds the advertisements of the meantime in its sockets,
//! and the answers of peers at hand, and must see them before it believes that there were none.
//!
//! Waiting is cancel-safe; everything else runs to its end.

mod confirming;
mod interfaces;
mod judge;
pub mod planned;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use skep_members::in_force::Keys;
use tokio::sync::{mpsc, oneshot, watch};

use crate::announce::Announcer;
use crate::counts::{self, Counts, Discard};
use crate::handing::Then;
use crate::machine::{Action, Heard, State};
use crate::mesh::{self, Mesh};
use crate::netlink::{Change, Netlink};
use crate::notify::Notifier;
use crate::packet::PRIORITY_STOPS;
use crate::router::{Hands, Router};
use crate::socket::{AdvertSocket, Family, PACKET_BYTES_MAX};
use crate::status::View;
use crate::track::{self, Assessment, Health};
use crate::vmac::make_way;
use crate::{Command, Handover, VrrpConfig, VrrpError};

/// Packets of one socket that are read in one turn; a flood does not keep timers from firing.
const PACKETS_PER_TURN_MAX: usize = 256;
/// A shorter delay is no stall, whatever the interval.
const STALL_MIN: Duration = Duration::from_millis(10);
/// Of a reason that comes again and again, every so many are logged.
const LOG_EVERY: u64 = 10_000;

type SocketKey = (String, Family);
type Changes = Box<dyn Stream<Item = Change> + Unpin + Send>;

/// Owns everything of VRRP.
pub struct Driver {
    routers: Vec<Router>,
    sockets: BTreeMap<SocketKey, Arc<AdvertSocket>>,
    buffer: Box<[u8]>,
    netlink: Netlink,
    changes: Changes,
    announcer: Arc<Announcer>,
    notifier: Notifier,
    assessments: watch::Receiver<Assessment>,
    counts: Arc<Counts>,
    published: watch::Sender<Vec<super::status::RouterStatus>>,
    mesh: Option<Mesh>,
    mesh_port: u16,
    handover: Handover,
    drain: Duration,
    released: bool,
    /// Who waits for the release to be done.
    release_done: Option<oneshot::Sender<()>>,
    /// The last wait took longer than it was meant to.
    stood_still: bool,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("routers", &self.routers).finish_non_exhaustive()
    }
}

/// What the loop was woken by.
enum Woken {
    Packet,
    Time,
    Change(Option<Change>),
    Health,
    Mesh(Option<mesh::Event>),
    Command(Option<Command>),
}

impl Driver {
    /// Checks and opens all that is needed; nothing of the host is changed but for addresses that
    /// an earlier run has left behind.
    pub async fn open(
        config: VrrpConfig,
        keys: Option<Keys>,
        health: Option<watch::Receiver<Health>>,
    ) -> Result<(Self, View), VrrpError> {
        super::check(&config)?;
        let (netlink, changes) = Netlink::open()?;
        let opened = |what: &str, error: io::Error| VrrpError::Open { what: what.to_owned(), error };
        let announcer = Announcer::open().map_err(|error| opened("a packet socket", error))?;
        let routers: Vec<Router> = config.routers.into_iter().map(Router::new).collect();
        let mesh_port = config.mesh_port.unwrap_or_default();
        let mesh = config.mesh_port.zip(keys);
        if mesh.is_none() {
            tracing::info!("there is no mesh (it needs a key): VRRP's timers alone decide");
        }
        let (published, receiver) = watch::channel(Vec::new());
        let mut driver = Self {
            routers,
            sockets: BTreeMap::new(),
            buffer: vec![0; PACKET_BYTES_MAX].into_boxed_slice(),
            netlink,
            changes: Box::new(changes),
            announcer: Arc::new(announcer),
            notifier: Notifier::start(config.notify),
            assessments: track::start(config.tracks, health),
            counts: Arc::default(),
            published,
            mesh: None,
            mesh_port,
            handover: config.handover,
            drain: config.drain,
            released: false,
            release_done: None,
            stood_still: false,
        };
        driver.look_at_interfaces().await?;
        if let Some((port, keys)) = mesh {
            let seats = driver.routers.iter_mut().map(|router| confirming::seat(router, port)).collect();
            let mesh = Mesh::start(seats, port, keys);
            driver.mesh = Some(mesh.map_err(|error| opened(&format!("--vrrp-mesh {port}"), error))?);
        }
        for (at, router) in driver.routers.iter().enumerate() {
            let interface = &router.config.interface;
            if router.link.as_ref().is_none_or(|link| link.mac.is_none()) {
                return Err(VrrpError::NoMac(interface.clone()));
            }
            if let (true, Some(link)) = (router.config.vmac, &router.link) {
                make_way(&driver.netlink, link, router.config.vrid).await?;
                // Whether it can be had at all is said now.
                let had = router.open_vmac();
                had.map_err(|error| opened(&format!("a virtual MAC address on {interface}"), error))?;
            }
            router.remove_addresses(&driver.hands_of(at)).await;
        }
        let view = View {
            routers: receiver,
            counts: driver.counts.clone(),
            router_counts: driver.routers.iter().map(|router| router.counts.clone()).collect(),
        };
        Ok((driver, view))
    }

    /// Runs until it is told to finish.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.assessments.mark_changed();
        let mut started = Vec::new();
        let now = Instant::now();
        for at in 0..self.routers.len() {
            self.routers[at].machine.start(now, &mut started);
            self.carry_out(at, &mut started, now).await;
        }
        self.publish();
        loop {
            if self.read_packets().await {
                // While packets wait, nothing else of this thread would come to its turn: the mesh's tasks are to.
                tokio::task::yield_now().await;
            }
            self.read_mesh().await;
            self.forgive_silence();
            self.fire_timers().await;
            self.keep_mesh().await;
            self.answer_release();
            match self.wait(&mut commands).await {
                Woken::Packet | Woken::Time => {}
                Woken::Change(Some(change)) => self.changed(change).await,
                Woken::Change(None) => {
                    tracing::error!("the connection to the kernel has ended: the addresses are given up");
                    return self.stop().await;
                }
                Woken::Health => self.claim().await,
                Woken::Mesh(Some(event)) => self.on_mesh(event).await,
                Woken::Mesh(None) => self.lose_mesh(),
                Woken::Command(Some(Command::Release(done))) => {
                    self.release_done = Some(done);
                    self.release().await;
                }
                Woken::Command(Some(Command::Finish(done))) => {
                    self.stop().await;
                    let _ = done.send(());
                    return;
                }
                Woken::Command(None) => return self.stop().await,
            }
        }
    }

    /// Waits for what comes next, and notices if this process stood still meanwhile.
    async fn wait(&mut self, commands: &mut mpsc::Receiver<Command>) -> Woken {
        let listens = self.routers.iter().filter_map(|router| router.machine.listens_every()).min();
        let look = listens.map(|interval| Instant::now() + interval / 2);
        let peers = self.routers.iter().filter_map(Router::peers_deadline);
        let deadline = self.routers.iter().filter_map(Router::deadline).chain(peers).chain(look).min();
        let woken = self.woken(commands, deadline).await;
        let late =
            deadline.map_or(Duration::ZERO, |deadline| Instant::now().saturating_duration_since(deadline));
        self.stood_still = listens.is_some_and(|interval| late > (interval / 4).max(STALL_MIN));
        woken
    }

    /// What was read before shows who lives.
    fn forgive_silence(&mut self) {
        if std::mem::take(&mut self.stood_still) {
            let now = Instant::now();
            self.routers.iter_mut().for_each(|router| router.machine.stood_still(now));
        }
    }

    async fn woken(&mut self, commands: &mut mpsc::Receiver<Command>, deadline: Option<Instant>) -> Woken {
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let mesh = &mut self.mesh;
        let mesh = async {
            match mesh {
                Some(mesh) => mesh.next().await,
                None => std::future::pending().await,
            }
        };
        let sockets = &self.sockets;
        let packet = poll_fn(|cx| {
            let ready = sockets.values().any(|socket| socket.poll_ready(cx).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = packet => Woken::Packet,
            () = timer => Woken::Time,
            event = mesh => Woken::Mesh(event),
            change = self.changes.next() => Woken::Change(change),
            Ok(()) = self.assessments.changed() => Woken::Health,
            command = commands.recv() => Woken::Command(command),
        }
    }

    /// What the router acts with: borrowed from some fields, so that the router can be changed.
    fn hands_of(&self, at: usize) -> Hands {
        let router = &self.routers[at];
        Hands {
            netlink: self.netlink.clone(),
            announcer: self.announcer.clone(),
            notifier: self.notifier.clone(),
            socket: self.sockets.get(&(router.config.interface.clone(), router.family())).cloned(),
        }
    }

    async fn carry_out(&mut self, at: usize, actions: &mut Vec<Action>, now: Instant) {
        if actions.is_empty() {
            return;
        }
        // Before it is advertised, so that it is there to confirm that.
        self.tell_state(at);
        let hands = self.hands_of(at);
        let publish = self.routers[at].carry_out(actions, &hands, now).await;
        actions.clear();
        if publish {
            self.publish();
        }
    }

    fn publish(&self) {
        let now = Instant::now();
        self.published.send_replace(self.routers.iter().map(|router| router.status(now)).collect());
    }

    // Packets.

    /// Whether more may wait.
    async fn read_packets(&mut self) -> bool {
        let mut more = false;
        let sockets: Vec<(SocketKey, Arc<AdvertSocket>)> =
            self.sockets.iter().map(|(key, socket)| (key.clone(), socket.clone())).collect();
        for (key, socket) in sockets {
            for read in 1..=PACKETS_PER_TURN_MAX {
                more |= read == PACKETS_PER_TURN_MAX;
                let judged = match socket.receive(&mut self.buffer) {
                    Ok(None) => break,
                    Ok(Some(packet)) => judge::judge(&packet, &key, &self.routers),
                    Err(_) => Err(Discard::Receive),
                };
                match judged {
                    Ok((at, advert, source)) => self.heard(at, &advert, source).await,
                    Err(reason) => self.discard(reason, &key.0),
                }
            }
        }
        more
    }

    /// What peers have answered is seen before it is looked whether they did.
    async fn read_mesh(&mut self) {
        for _ in 0..mesh::EVENTS_MAX {
            let Some(event) = self.mesh.as_mut().and_then(Mesh::at_hand) else { return };
            self.on_mesh(event).await;
        }
    }

    fn discard(&self, reason: Discard, interface: &str) {
        let count = self.counts.discard(reason);
        if count % LOG_EVERY == 1 && reason != Discard::Own {
            tracing::warn!(interface, reason = reason.as_str(), count, "VRRP packets are discarded");
        }
    }

    async fn heed(&mut self, at: usize, heard: Heard, own: IpAddr) {
        let (now, router) = (Instant::now(), &mut self.routers[at]);
        let source = heard.source;
        router.strangers.saw(source, now);
        let hears = self.mesh.as_ref().is_some_and(|mesh| mesh.is_in_touch(at, source));
        router.machine.set_in_touch(hears && !router.strangers.present(now));
        let is_active = router.active.is_none_or(|active| active == source);
        router.machine.set_designated(is_active && router.is_named_by(source, now));
        counts::add(&router.counts.adverts_received);
        if heard.priority == PRIORITY_STOPS {
            counts::add(&router.counts.priority_zero_received);
        }
        let mut actions = Vec::new();
        router.machine.heard(heard, own, now, &mut actions);
        let active = (heard.priority != PRIORITY_STOPS).then_some(source);
        let news = router.machine.state() == State::Backup && router.active != active;
        if news {
            router.active = active;
            // It has the addresses again: nothing is for it that comes by way of others.
            router.sending_on.take_if(|sending| active == Some(sending.to) && !sending.held_back);
        }
        self.carry_out(at, &mut actions, now).await;
        if news {
            self.publish();
        }
    }

    // Time.

    async fn fire_timers(&mut self) {
        let mut actions = Vec::new();
        for at in 0..self.routers.len() {
            let now = Instant::now();
            self.routers[at].machine.tick(now, &mut actions);
            self.carry_out(at, &mut actions, now).await;
            // Asked for when something is due alone: most turns carry a packet for another.
            if self.routers[at].upkeep_is_due(now) {
                let hands = self.hands_of(at);
                self.routers[at].upkeep(&hands, now).await;
            }
        }
    }

    // Health.

    async fn claim(&mut self) {
        let assessment = self.assessments.borrow_and_update().clone();
        for at in 0..self.routers.len() {
            let claim = self.routers[at].assess(&assessment);
            if !self.released {
                self.set_claim(at, claim).await;
            }
        }
        self.publish();
    }

    /// Gives everything up, as planned as it can be. What is being handed over goes on.
    async fn release(&mut self) {
        self.released = true;
        for at in 0..self.routers.len() {
            self.give_up(at, Then::Stop).await;
        }
        self.publish();
    }

    /// Says so once nothing is being handed over any more.
    fn answer_release(&mut self) {
        if self.routers.iter().all(|router| router.handing.is_none())
            && let Some(done) = self.release_done.take()
        {
            let _ = done.send(());
        }
    }

    /// Nothing may be left.
    async fn stop(&mut self) {
        let mut actions = Vec::new();
        for at in 0..self.routers.len() {
            self.routers[at].handing = None;
            self.routers[at].machine.stop(&mut actions);
            self.carry_out(at, &mut actions, Instant::now()).await;
        }
        self.end_all_draining().await;
        self.publish();
    }
}
