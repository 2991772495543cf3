//! The cores: a thread each with a single-threaded runtime and its own listening sockets.
//!
//! The kernel spreads connections over the cores (SO_REUSEPORT); nothing moves between them. Tasks
//! per core: one that ticks, one that accepts on each socket, one for each connection. A core ends
//! once it drains and has no connections, or when it is told to stop.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::HandshakeKind;
use skep_base::listen;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::core::access_log::AccessLog;
use crate::core::buffer::Buffer;
use crate::core::connections::Permit;
use crate::core::shared::Shared;
use crate::core::stats::CoreStats;
use crate::core::timer::{TICK, Timer};
use crate::core::worker::Worker;
use crate::forward::dispatches::Dispatches;
use crate::forward::problem::Problem;
use crate::gateway::Gateway;
use crate::listen::backlog::take_all;
use crate::listen::client::ClientInfo;
use crate::listen::handshake::{self, Failed};
use crate::listen::http1;
use crate::listen::http2;
use crate::listen::proxy_protocol::{self, Header};
use crate::listen::question::{self, Places};
use crate::listen::tls::Certificates;
use crate::wire::write::Framing;

/// Pause after a failed accept: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a core that ends waits for clients that are about to be connected: a round trip.
const HANDSHAKES: Duration = Duration::from_millis(100);

/// How long a client may take to take that its connection ends.
const GOODBYE: Duration = Duration::from_secs(1);

/// How far the process is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// No new connections; those that are there are told to end.
    Draining,
    /// What is left is dropped.
    Stopped,
}

/// What a core is started with.
#[derive(Debug)]
pub struct CoreConfig {
    pub shared: Arc<Shared>,
    pub stats: Arc<CoreStats>,
    pub log: Option<SyncSender<Vec<u8>>>,
    pub http: Listening,
    pub https: Option<(Listening, Arc<Certificates>)>,
    pub phase: watch::Receiver<Phase>,
}

/// A socket at which a core takes clients.
#[derive(Debug)]
pub struct Listening {
    pub socket: std::net::TcpListener,
    /// Others have it, too, and it goes on when this core ends.
    pub stays: bool,
}

/// Starts a core's thread.
pub fn start(id: usize, config: CoreConfig) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("core-{id}")).spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
        runtime.block_on(run(config))
    })
}

async fn run(config: CoreConfig) -> io::Result<()> {
    let worker = Worker::new(config.shared, config.stats, AccessLog::new(config.log));
    let dispatches = Rc::new(Dispatches::new(&worker));
    let gateway = Rc::new(Gateway::new(worker.clone(), dispatches.clone()));
    let core = Rc::new(Core {
        worker: worker.clone(),
        gateway,
        connections: Cell::new(0),
        questions: Places::default(),
        ended: Notify::new(),
    });
    let beats = worker.stats.clone();
    tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            dispatches.tick();
            beats.ticks.add(1);
        }
    });
    let http = Some((config.http, None));
    let https = config.https.map(|(listening, certificates)| (listening, Some(certificates)));
    let mut accepting = Vec::new();
    for (Listening { socket, stays }, certificates) in http.into_iter().chain(https) {
        let listener = TcpListener::from_std(socket)?;
        let accept = core.clone().accept(listener, stays, certificates, config.phase.clone());
        accepting.push(tokio::task::spawn_local(accept));
    }
    let mut phase = config.phase;
    let drained = async {
        for task in accepting {
            let _ = task.await;
        }
        while core.connections.get() > 0 {
            core.ended.notified().await;
        }
    };
    let stopped = async {
        let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await;
    };
    tokio::select! {
        () = drained => {}
        () = stopped => {}
    }
    worker.log.flush();
    Ok(())
}

/// What the connections of a core have in common.
#[derive(Debug)]
struct Core {
    worker: Rc<Worker>,
    gateway: Rc<Gateway>,
    connections: Cell<usize>,
    /// For connections beyond the limit, which may ask whether it is ready.
    questions: Places,
    ended: Notify,
}

impl Core {
    async fn accept(
        self: Rc<Self>,
        listener: TcpListener,
        stays: bool,
        certificates: Option<Arc<Certificates>>,
        mut phase: watch::Receiver<Phase>,
    ) {
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => break,
            };
            match accepted {
                Ok((stream, address)) => self.begin(stream, address, certificates.as_ref()),
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who waits at a socket that stays is somebody else's.
        if !stays {
            self.end(listener, certificates.as_ref()).await;
        }
    }

    /// Takes who has begun, and closes the listener. Who was half way would be reset by that, so nobody begins from
    /// here on, and for those a moment is waited.
    async fn end(self: &Rc<Self>, listener: TcpListener, certificates: Option<&Arc<Certificates>>) {
        let Ok(listener) = listener.into_std() else { return };
        if let Err(error) = listen::begin_no_more(&listener) {
            tracing::debug!(%error, "who begins a connection now may be reset");
        }
        tokio::time::sleep(HANDSHAKES).await;
        // Asked of the kernel: what the runtime has heard may be older.
        let take = |(stream, address): (std::net::TcpStream, SocketAddr)| {
            let taken = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = taken {
                self.begin(stream, address, certificates);
            }
        };
        take_all(|| listener.accept(), take).await;
    }

    fn begin(
        self: &Rc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        certificates: Option<&Arc<Certificates>>,
    ) {
        let stats = &self.worker.stats;
        stats.accepted.add(1);
        let (connections, settings) = (&self.worker.shared.connections, self.worker.settings());
        // A trusted proxy says who its client is before anything else; that one is counted then.
        let names_client = settings.proxy_protocol && settings.trusts(address.ip());
        let permit = Permit::take(connections, settings.connections_max).and_then(|mut permit| {
            let most = match names_client {
                // Those that have not said it yet do not take the place of those that have.
                true => settings.connections_max / 2,
                false => settings.connections_per_client_max,
            };
            permit.is_of(address.ip(), most).then_some(permit)
        });
        let Some(permit) = permit else { return self.refuse(stream, address, certificates.is_some()) };
        let _ = stream.set_nodelay(true);
        let (worker, gateway) = (self.worker.clone(), self.gateway.clone());
        let mut guard = Guard::begin(self.clone(), permit);
        match certificates {
            None => tokio::task::spawn_local(async move {
                plain(worker, gateway, stream, address, &mut guard.permit).await;
            }),
            Some(certificates) => {
                let certificates = certificates.clone();
                tokio::task::spawn_local(async move {
                    encrypted(worker, gateway, stream, address, &mut guard.permit, certificates).await;
                })
            }
        };
    }

    /// There are too many, in all or of this client.
    fn refuse(&self, stream: TcpStream, address: SocketAddr, is_encrypted: bool) {
        // Over TLS nothing can be said at once, and nobody asks.
        let place = if is_encrypted { None } else { self.questions.take(address.ip()) };
        if let Some(place) = place {
            let (worker, gateway) = (self.worker.clone(), self.gateway.clone());
            tokio::task::spawn_local(question::serve(worker, gateway, stream, place));
            return;
        }
        self.worker.stats.rejected.add(1);
        // Said where it can be said at once; a client that does not listen is not waited for.
        if !is_encrypted {
            let mut answer = Vec::new();
            Problem::TooManyConnections.write(Framing::alone(self.worker.clock.date()), &[], &mut answer);
            let _ = stream.try_write(&answer);
        }
    }
}

/// Counts a connection for as long as it is there.
struct Guard {
    core: Rc<Core>,
    permit: Permit,
}

impl Guard {
    fn begin(core: Rc<Core>, permit: Permit) -> Self {
        core.connections.set(core.connections.get() + 1);
        core.worker.stats.connections.add(1);
        Self { core, permit }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.core.connections.set(self.core.connections.get() - 1);
        self.core.worker.stats.connections.sub(1);
        if self.core.connections.get() == 0 {
            self.core.ended.notify_one();
        }
    }
}

impl http1::ClientStream for http2::Prefixed<TcpStream> {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn end_by_reset(&self, by_reset: bool) {
        self.get_ref().end_by_reset(by_reset);
    }
}

async fn plain(
    worker: Rc<Worker>,
    gateway: Rc<Gateway>,
    mut stream: TcpStream,
    address: SocketAddr,
    permit: &mut Permit,
) {
    let mut first = worker.request_buffers.buffer();
    let found = client(&worker, &mut stream, &mut first, address, "http", permit).await;
    let info = match found {
        Ok(info) => info,
        Err(None) => return,
        Err(Some(problem)) => {
            let mut answer = Vec::new();
            problem.write(Framing::alone(worker.clock.date()), &[], &mut answer);
            let _ = stream.try_write(&answer);
            return;
        }
    };
    // Enough is read to tell HTTP/2 from what no HTTP/1 client says.
    let timer = worker.timers.timer();
    timer.arm(worker.settings().head_timeout);
    timer.set_idle(true);
    if !read_preface(&timer, &mut stream, &mut first).await {
        return;
    }
    drop(timer);
    if first.unread().starts_with(http2::PREFACE) {
        Box::pin(http2::serve(worker, gateway, stream, info, first)).await;
    } else {
        http1::serve(worker, gateway, stream, info, first).await;
    }
}

async fn encrypted(
    worker: Rc<Worker>,
    gateway: Rc<Gateway>,
    mut stream: TcpStream,
    address: SocketAddr,
    permit: &mut Permit,
    certificates: Arc<Certificates>,
) {
    let mut first = worker.request_buffers.buffer();
    let found = client(&worker, &mut stream, &mut first, address, "https", permit).await;
    let Ok(info) = found else { return };
    let timer = worker.timers.timer();
    timer.arm(worker.settings().head_timeout);
    let io = http2::Prefixed::new(stream, first);
    let mut stream = match timer.limit(handshake::accept(io, &certificates)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(Failed::UnknownName)) => {
            worker.stats.tls_unknown_names.add(1);
            return worker.stats.tls_failures.add(1);
        }
        Ok(Err(Failed::Handshake)) | Err(_) => return worker.stats.tls_failures.add(1),
    };
    worker.stats.tls_handshakes.add(1);
    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        worker.stats.tls_resumed.add(1);
    }
    let mut first = worker.request_buffers.buffer();
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        drop(timer);
        return http1::serve(worker, gateway, stream, info, first).await;
    }
    timer.disarm();
    timer.arm(worker.settings().head_timeout);
    timer.set_idle(true);
    if read_preface(&timer, &mut stream, &mut first).await {
        drop(timer);
        Box::pin(http2::serve(worker, gateway, stream, info, first)).await;
    } else {
        // Who says nothing is told goodbye all the same (RFC 8446, 6.1).
        timer.set_idle(false);
        timer.disarm();
        timer.arm(GOODBYE);
        let _ = timer.limit(poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx))).await;
    }
}

/// Reads until HTTP/2's preface is there, or what cannot become it. Says whether something came at all and
/// was not cut off.
async fn read_preface<S>(timer: &Timer, stream: &mut S, first: &mut Buffer) -> bool
where
    S: AsyncRead + Unpin,
{
    while http2::PREFACE.starts_with(first.unread()) && first.len() < http2::PREFACE.len() {
        match timer.limit(poll_fn(|cx| first.poll_fill(stream, cx))).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => return false,
        }
    }
    true
}

/// Who the client is: the connection's other end, or whom a trusted proxy says it is, and has then a place for.
/// No problem where there is nothing to say: that proxy says nothing sensible.
async fn client(
    worker: &Worker,
    stream: &mut TcpStream,
    first: &mut Buffer,
    address: SocketAddr,
    proto: &'static str,
    permit: &mut Permit,
) -> Result<ClientInfo, Option<Problem>> {
    let settings = worker.settings();
    let trusted = settings.trusts(address.ip());
    if !(trusted && settings.proxy_protocol) {
        return Ok(ClientInfo::new(address, proto, trusted));
    }
    let timer = worker.timers.timer();
    timer.arm(settings.head_timeout);
    loop {
        match proxy_protocol::parse(first.unread()) {
            Ok(Some(Header { source, len })) => {
                first.consume(len);
                let source = source.unwrap_or(address);
                if !permit.is_of(source.ip(), settings.connections_per_client_max) {
                    worker.stats.rejected.add(1);
                    return Err(Some(Problem::TooManyConnections));
                }
                return Ok(ClientInfo::new(source, proto, false));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%address, %error, "PROXY protocol");
                return Err(None);
            }
        }
        match timer.limit(poll_fn(|cx| first.poll_fill(stream, cx))).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => return Err(None),
        }
    }
}
