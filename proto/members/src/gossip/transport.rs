//! The sealed UDP transport under the gossip library.
//!
//! One task, the receiver, reads the socket, opens, decodes and hands messages on through a
//! bounded queue; the library's own task sends. The library cancels `recv` at each of its
//! rounds, so all that must not be cut in half happens in the receiver task, and `recv` only
//! takes from the queue. What does not open or decode is counted and dropped, and what no member would
//! say is taken out of the rest (`admission`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use super::admission::Admission;
use super::aside::{self, Said};
use super::counters::{Counters, add};
use super::envelope::{MESSAGE_BYTES_MAX, TranslateError, Translation};
use super::forms::Forms;
use super::wire;
use crate::in_force::{InForce, Keys};
use crate::key::Form;
use crate::seal::{OVERHEAD_BYTES, OpenError, Opener, SealError, Sealer};

/// Messages between the receiver and the library; beyond that the kernel's buffer holds them. Of a hostile
/// one a megabyte may be left.
const INBOX_MAX: usize = 64;

/// A complaint of one kind is logged this seldom.
pub(super) const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// One who seals with another key is shown a datagram of ours this seldom.
const HINT_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after an error of the socket, so that a lasting one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gives the library its socket, once.
pub(super) struct SealedTransport {
    socket: Mutex<Option<SealedSocket>>,
    receiver: AbortHandle,
    speaker: Speaker,
}

/// Says what is no gossip, for as long as there is gossip: its address is free once that has stopped.
#[derive(Clone)]
pub(super) struct Speaker {
    outlet: Weak<Outlet>,
    seals: Arc<Seals>,
}

impl Speaker {
    /// In the form that every member and every edge opens.
    pub async fn say(&self, to: SocketAddr, said: &[u8]) {
        let Some(outlet) = self.outlet.upgrade() else { return };
        let Some(Ok(datagram)) = aside::write(said).map(|it| self.seals.seal(Form::Edge, &it)) else {
            add(&outlet.counters.send_errors, 1);
            return;
        };
        outlet.send(to, &datagram).await;
    }
}

impl SealedTransport {
    /// Takes the socket and starts the receiver task.
    pub async fn start(
        socket: UdpSocket,
        keys: Keys,
        forms: Arc<Forms>,
        admission: Arc<Admission>,
        (counters, asides): (Arc<Counters>, mpsc::Sender<Said>),
    ) -> Result<Self, TranslateError> {
        let refused = |_| io::Error::other("the cluster key gives no datagram keys");
        let seals = Arc::new(Seals::new(keys).map_err(refused)?);
        let opener = Opening::new(seals.clone()).map_err(refused)?;
        let socket = Arc::new(socket);
        let outlet = Outlet {
            mapped: socket.local_addr()?.is_ipv6(),
            socket: socket.clone(),
            counters: counters.clone(),
        };
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let receiver = Receiver {
            socket,
            opener,
            translation: Translation::open().await?,
            admission,
            sender,
            asides,
            seals: seals.clone(),
            forms: forms.clone(),
            outlet: outlet.clone(),
            complained: None,
            hinted: None,
        };
        let receiver = tokio::spawn(receiver.run()).abort_handle();
        let translation = Translation::open().await?;
        let outlet = Arc::new(outlet);
        let speaker = Speaker { outlet: Arc::downgrade(&outlet), seals: seals.clone() };
        let socket = SealedSocket { outlet, seals, forms, translation, inbox };
        Ok(Self { socket: Mutex::new(Some(socket)), receiver, speaker })
    }

    pub fn speaker(&self) -> Speaker {
        self.speaker.clone()
    }

    /// Stops the receiver task; the library's task ends on its own.
    pub fn receiver(&self) -> AbortHandle {
        self.receiver.clone()
    }
}

impl Transport for SealedTransport {
    fn open<'a, 'b>(&'a self, _listen: SocketAddr) -> Boxed<'b, anyhow::Result<Box<dyn Socket>>>
    where
        'a: 'b,
        Self: 'b,
    {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let socket = socket.ok_or_else(|| anyhow::anyhow!("the gossip socket is in use"))?;
            Ok(Box::new(socket) as Box<dyn Socket>)
        })
    }
}

/// Seals with the keys that are in force.
struct Seals {
    keys: Keys,
    sealing: Mutex<Sealing>,
}

struct Sealing {
    /// What the sealer was made of.
    of: Arc<InForce>,
    sealer: Sealer,
}

impl Seals {
    fn new(keys: Keys) -> Result<Self, SealError> {
        let of = keys.now();
        let sealer = Sealer::new(&of.ring)?;
        Ok(Self { keys, sealing: Mutex::new(Sealing { of, sealer }) })
    }

    fn sealing(&self) -> Result<MutexGuard<'_, Sealing>, SealError> {
        let mut sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.keys.now();
        if !Arc::ptr_eq(&now, &sealing.of) {
            sealing.sealer.rekey(&now.ring)?;
            sealing.of = now;
        }
        Ok(sealing)
    }

    fn seal(&self, form: Form, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.sealing()?.sealer.seal(form, plain)
    }
}

/// Opens with the keys that are in force.
struct Opening {
    seals: Arc<Seals>,
    /// What the opener was made of.
    of: Arc<InForce>,
    opener: Opener,
}

impl Opening {
    fn new(seals: Arc<Seals>) -> Result<Self, SealError> {
        let sealing = seals.sealing()?;
        let (of, own) = (sealing.of.clone(), sealing.sealer.sessions());
        drop(sealing);
        let mut opener = Opener::new(&of.ring)?;
        opener.refuse_own(own);
        Ok(Self { seals, of, opener })
    }

    fn open(&mut self, datagram: &[u8]) -> Result<(Form, Vec<u8>), OpenError> {
        if !Arc::ptr_eq(&self.seals.keys.now(), &self.of) {
            self.renew();
        }
        self.opener.open_telling_form(datagram)
    }

    fn renew(&mut self) {
        // Keys are in force of which both can be made.
        let Ok(sealing) = self.seals.sealing() else { return };
        let (of, own) = (sealing.of.clone(), sealing.sealer.sessions());
        drop(sealing);
        if self.opener.rekey(&of.ring).is_ok() {
            self.opener.refuse_own(own);
            self.of = of;
        }
    }
}

/// Where datagrams leave.
#[derive(Clone)]
struct Outlet {
    socket: Arc<UdpSocket>,
    /// An IPv6 socket reaches IPv4 peers by their mapped addresses.
    mapped: bool,
    counters: Arc<Counters>,
}

impl Outlet {
    async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let target = match to {
            SocketAddr::V4(v4) if self.mapped => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            other => other,
        };
        match self.socket.send_to(datagram, target).await {
            Ok(length) => {
                add(&self.counters.sent, 1);
                add(&self.counters.sent_bytes, length);
            }
            // A peer that cannot be reached is the failure detector's business, not an error.
            Err(error) => {
                add(&self.counters.send_errors, 1);
                debug!(%to, %error, "a gossip datagram could not be sent");
            }
        }
    }
}

struct SealedSocket {
    outlet: Arc<Outlet>,
    seals: Arc<Seals>,
    forms: Arc<Forms>,
    translation: Translation,
    inbox: mpsc::Receiver<RecvOutcome>,
}

impl SealedSocket {
    /// Zero bytes for what could not be sent: the library takes an error for a broken socket.
    async fn send_sealed(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> usize {
        let datagram = match self.translation.encode(envelope).await {
            Ok(message) => {
                let form = self.forms.of(to);
                self.seals.seal(form, &message).ok()
            }
            Err(error) => {
                debug!(%to, %error, "a gossip message could not be encoded");
                None
            }
        };
        let Some(datagram) = datagram else {
            add(&self.outlet.counters.send_errors, 1);
            return 0;
        };
        self.outlet.send(to, &datagram).await;
        datagram.len()
    }
}

impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.outlet.socket.local_addr()?)
    }

    fn send<'a, 'b>(
        &'a mut self,
        to: SocketAddr,
        envelope: ChitchatEnvelope,
    ) -> Boxed<'b, anyhow::Result<SendOutcome>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { Ok(SendOutcome { num_bytes_sent: self.send_sealed(to, envelope).await }) })
    }

    fn recv<'a, 'b>(&'a mut self) -> Boxed<'b, anyhow::Result<RecvOutcome>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("the gossip stopped")) })
    }
}

/// The task that reads the socket; ends when the library's socket is dropped, or aborted.
struct Receiver {
    socket: Arc<UdpSocket>,
    opener: Opening,
    translation: Translation,
    admission: Arc<Admission>,
    sender: mpsc::Sender<RecvOutcome>,
    asides: mpsc::Sender<Said>,
    seals: Arc<Seals>,
    forms: Arc<Forms>,
    outlet: Outlet,
    complained: Option<Instant>,
    hinted: Option<Instant>,
}

impl Receiver {
    async fn run(mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX + OVERHEAD_BYTES];
        let sender = self.sender.clone();
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                () = sender.closed() => return,
            };
            let (length, from) = match received {
                Ok((length, from)) => (length, canonical(from)),
                Err(error) => {
                    add(&self.outlet.counters.receive_errors, 1);
                    debug!(%error, "the gossip socket");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            add(&self.outlet.counters.received_bytes, length);
            let Some(envelope) = self.read(from, &buffer[..length]).await else { continue };
            let outcome = RecvOutcome { from_addr: from, envelope, num_bytes_received: length };
            if sender.send(outcome).await.is_err() {
                return;
            }
        }
    }

    async fn read(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<ChitchatEnvelope> {
        let (form, message) = match self.opener.open(datagram) {
            Ok((form, message)) => {
                self.forms.heard(from, form);
                (form, message)
            }
            Err(reason) => {
                self.outlet.counters.dropped(reason);
                self.complain(from, reason, datagram.len()).await;
                return None;
            }
        };
        add(&self.outlet.counters.received, 1);
        if message.is_empty() {
            return None; // Only there to be seen by one with another key: see `complain`.
        }
        if let Some(said) = aside::read(&message) {
            // Where nobody hears, or too much is said, it is lost.
            let _ = self.asides.try_send((from, said.to_vec()));
            return None;
        }
        match self.admitted(from, form, &message).await {
            Ok(envelope) => Some(envelope),
            Err(error) => {
                add(&self.outlet.counters.undecodable, 1);
                debug!(%from, %error, "a gossip datagram was dropped");
                None
            }
        }
    }

    /// What the library is told of a message: it believes all that it hears.
    async fn admitted(
        &mut self,
        from: SocketAddr,
        form: Form,
        message: &[u8],
    ) -> Result<ChitchatEnvelope, TranslateError> {
        let message = wire::read(message)?;
        let (message, left_out) = self.admission.admit(from, form, message, Instant::now())?;
        add(&self.outlet.counters.left_out, left_out);
        self.translation.decode(&wire::write(&message)).await
    }

    async fn complain(&mut self, from: SocketAddr, reason: OpenError, length: usize) {
        let due = |last: &mut Option<Instant>, interval| {
            let due = last.is_none_or(|last| last.elapsed() >= interval);
            if due {
                *last = Some(Instant::now());
            }
            due
        };
        match reason {
            OpenError::UnknownKey if due(&mut self.complained, COMPLAINT_INTERVAL) => {
                warn!(%from, "gossip that is {reason}: the cluster key there is not the one here");
            }
            OpenError::Members if due(&mut self.complained, COMPLAINT_INTERVAL) => {
                info!(
                    %from,
                    "gossip that is {reason}: by who has not heard from here yet, or is of the version before, \
                     which speaks to no edge"
                );
            }
            OpenError::UnknownKey | OpenError::Members => {}
            _ => {
                debug!(%from, %reason, "a gossip datagram was dropped");
                return;
            }
        }
        // The other one hears nothing else from here, and should be able to say why it stays
        // alone: an empty datagram under our key tells it, and tells a stranger nothing. A member learns
        // from it that here is an edge. It is shorter than any that it answers, so that two do not answer
        // each other for ever.
        if length > OVERHEAD_BYTES && due(&mut self.hinted, HINT_INTERVAL) {
            let form = self.forms.of(from);
            if let Ok(hint) = self.seals.seal(form, b"") {
                self.outlet.send(from, &hint).await;
            }
        }
    }
}

/// The peer's own address, where an IPv6 socket shows an IPv4 peer's mapped one.
fn canonical(from: SocketAddr) -> SocketAddr {
    match from.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, from.port())),
        IpAddr::V6(_) => from,
    }
}
