//! Wires the parts together and sees to their end: sockets, gossip, cores, signals, drain.
//!
//! The control runtime carries gossip, probes, the admin address and signals; requests never touch
//! it.

mod copy;
mod debts;
mod exchange;
mod figures;
mod health;
mod hear;
mod issuers;
mod pace;
mod purges;
mod reload;
mod routes;
mod sealed;
mod services;
mod shifts;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use skep_base::id::NodeId;
use skep_base::listen;
use skep_base::process::files;
use skep_console::admin::Operators;
use skep_console::{ServeLimits, Stage, browser};
use skep_members::advertise;
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_vrrp::Running;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{BackendTlsConfig, ServeConfig};
use crate::core::access_log;
use crate::core::account::Account;
use crate::core::cache::Cache;
use crate::core::shared::Shared;
use crate::core::stats::CoreStats;
use crate::core::worker::idle_grace;
use crate::kong::Door;
use crate::listen::activation::{Passed, bind_all};
use crate::listen::cores::{self, CoreConfig, Listening, Phase};
use crate::listen::tls::Certificates;
use crate::metrics::{self, Metrics};
use crate::operator::Operations;
use crate::pools::tls::BackendTls;
use crate::pools::{Pools, registry, source};
use crate::status::Status;

use copy::Copies;
use debts::Debts;
use health::{health, watch_cores};
use reload::Reload;
use sealed::Sealed;

/// How long new connections are still taken once the drain is announced: who follows `/-/ready`
/// or the gossip needs a moment to look elsewhere.
const ANNOUNCE: Duration = Duration::from_millis(300);
/// How long a start waits for nodes: who connects meanwhile waits in the kernel, and is not refused.
const FIRST_MAX: Duration = Duration::from_secs(2);
/// How often certificate files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT, and drains.
pub async fn run(config: ServeConfig) -> anyhow::Result<()> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let files = files::raise_limit();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let given = config.cluster_key.clone().unwrap_or_else(|| KeyRing::insecure_loopback().into());
    let keys = Keys::of_edge(given)?;
    // Of a process that was given none nobody is convinced.
    let own_keys = config.cluster_key.is_some().then(|| keys.clone());
    let certificates = match config.https {
        Some(_) => Some(Arc::new(Certificates::new(config.certificates.clone(), own_keys.clone())?)),
        None => None,
    };
    let count = config.cores.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let passed = Passed::take().map_err(anyhow::Error::msg)?;
    let (http_stays, https_stays) = (passed.http.is_some(), passed.https.is_some());
    let http =
        bind_all(passed.http, config.http, count).with_context(|| format!("--http {}", config.http))?;
    let https = match config.https {
        Some(address) => {
            bind_all(passed.https, address, count).with_context(|| format!("--https {address}"))?
        }
        None if passed.https.is_some() => {
            anyhow::bail!("a socket named https was passed, and --https is not set")
        }
        None => Vec::new(),
    };
    let admin = listen::bind(config.admin).with_context(|| format!("--admin {}", config.admin))?;
    let kong = match &config.kong {
        Some(kong) => Some(listen::bind(kong.address).with_context(|| format!("--kong {}", kong.address))?),
        None => None,
    };
    let (http_address, admin_address) = (http[0].local_addr()?, admin.local_addr()?);
    let https_address = https.first().map(|listener| listener.local_addr()).transpose()?;
    if https_address.is_some() && config.certificates.is_empty() {
        tracing::warn!(
            "no certificate is given (--cert): HTTPS uses a self-signed one until the gateway's document has some"
        );
    }

    let account = Arc::new(config.request_memory.map_or_else(Account::default, Account::new));
    let pools = Pools::of_skep(backend_tls(&config, &keys)?);
    let cache = Arc::new(Cache::new(config.cache));
    let shared = Arc::new(Shared { account, cache, pools, ..Shared::default() });
    shared.settings.store(Arc::new(reload::within(files, count, config.settings.clone())));
    if let Some(keys) = own_keys.clone() {
        shared.let_go.believe(keys);
    }
    let gossip = start_gossip(&config, keys.clone(), http_address, admin_address).await?;
    let (backends, targets) = watch::channel(source::fixed(&config.backends, config.check.as_ref()));
    let backends = match &gossip {
        Some(gossip) => {
            follow(gossip, backends);
            None
        }
        None => Some(backends).filter(|_| config.has_nodes()),
    };
    let registry = tokio::spawn(registry::follow(shared.pools.skep().clone(), targets));

    let stats: Vec<Arc<CoreStats>> = http.iter().map(|_| Arc::default()).collect();
    let (others, settles) = mpsc::channel(1);
    let told = figures::Told::new(shared.clone(), stats.clone());
    let exchange = gossip.clone().map(|it| tokio::spawn(exchange::run(it, shared.clone(), told, settles)));
    let debts = Debts {
        shared: shared.clone(),
        file: config.state.as_deref().map(|folder| Sealed::at(folder, keys.clone())),
        others: exchange.is_some().then_some(others),
    };
    let waited = tokio::time::Instant::now() + FIRST_MAX;
    let gateway = match (&config.gateway, &gossip) {
        (Some(file), _) => {
            let alone = !config.has_nodes();
            Some(
                routes::file::begin(file, alone, debts.clone(), certificates.clone())
                    .await
                    .context("--gateway")?,
            )
        }
        (None, Some(gossip)) => {
            let copies = config.state.as_deref().map(|folder| Copies::at(folder, keys.clone()));
            routes::cluster::begin(gossip, keys.clone(), copies, debts.clone(), certificates.clone()).await;
            None
        }
        (None, None) => None,
    };
    // Its own are known at once; nodes have to be heard of.
    if gossip.is_some() {
        let _ = tokio::time::timeout_at(waited, shared.pools.skep().answers()).await;
    }
    let (phase, phases) = watch::channel(Phase::Serving);
    let log = access_log::start(&config.access_log).context("--access-log")?;
    let (log, log_file) = (log.as_ref().map(access_log::Writer::sender), log);
    let mut cores = JoinSet::new();
    let mut https = https.into_iter();
    for (id, (http, core_stats)) in http.into_iter().zip(stats.clone()).enumerate() {
        let core = CoreConfig {
            shared: shared.clone(),
            stats: core_stats,
            log: log.clone(),
            http: Listening { socket: http, stays: http_stays },
            https: https
                .next()
                .map(|socket| Listening { socket, stays: https_stays })
                .zip(certificates.clone()),
            phase: phases.clone(),
        };
        let thread = cores::start(id, core)?;
        cores.spawn_blocking(move || thread.join());
    }
    drop(log);
    let sweep = tokio::spawn(purges::sweep(shared.cache.clone()));
    let pulse = tokio::spawn(watch_cores(shared.clone(), stats.clone()));
    let operations = Operations::new(shared.clone(), stats.clone());
    let metrics = Metrics {
        shared: shared.clone(),
        cores: stats,
        gossip: gossip.clone(),
        certificates: certificates.clone(),
    };
    let address = match config.vrrp.clone() {
        Some(vrrp) => Some(skep_vrrp::start(vrrp, own_keys, Some(health(shared.clone()))).await?),
        None => None,
    };
    let view = address.as_ref().map(|address| address.view.clone());
    let status = Status::new(shared.clone(), view.clone());
    let (admin_stage, stages) = watch::channel(Stage::Serving);
    let operators = Operators {
        token: config.operator_token.clone(),
        is_local: admin_address.ip().to_canonical().is_loopback(),
        own_names: browser::own_names(),
    };
    let routes = status.admin(metrics::registry(metrics, view), &operations, operators);
    tokio::spawn(status.measure());
    let admin = tokio::net::TcpListener::from_std(admin)?;
    let kong = open_kong(&config, kong, gossip.as_ref(), &shared, &stages)?;
    let kong_address = kong.as_ref().map(|(address, _)| address.to_string());
    let admin = tokio::spawn(skep_console::serve(admin, routes, ServeLimits::admin(), stages));
    tracing::info!(
        http = %http_address,
        https = https_address.map(|address| address.to_string()),
        admin = %admin_address,
        kong = kong_address,
        cores = count,
        files = (files < u64::MAX).then_some(files),
        "serving"
    );

    let certificates = certificates.as_deref();
    let backend_tls = config.backend_tls.clone();
    let mut reload = Reload {
        shared: &shared,
        keys,
        files,
        cores: count,
        certificates,
        backends,
        backend_tls,
        log: log_file,
        gateway,
    };
    let mut certificate_ticks = tokio::time::interval(CERTIFICATE_INTERVAL);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload.all(),
            _ = certificate_ticks.tick() => reload.changed_certificates(),
            Some(ended) = cores.join_next() => {
                // A core ends by itself only where it cannot go on.
                anyhow::bail!("a core ended: {ended:?}");
            }
        }
    }
    drain(&config, &shared, &phase, gossip.as_ref(), address.as_ref(), &mut cores).await;
    debts.keep().await;
    if let Some(address) = address {
        address.finish().await;
    }
    registry.abort();
    pulse.abort();
    sweep.abort();
    if let Some(exchange) = exchange {
        exchange.abort();
    }
    // The cores have ended, and with them what they had to say.
    if let Some(log) = reload.log {
        let _ = tokio::task::spawn_blocking(move || log.finish()).await;
    }
    if let Some(gossip) = gossip {
        gossip.leave().await;
    }
    admin_stage.send_replace(Stage::Stopping);
    let _ = admin.await;
    if let Some((_, kong)) = kong {
        let _ = kong.await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Opens the door for Kong's clients, where there is one.
fn open_kong(
    config: &ServeConfig,
    listener: Option<std::net::TcpListener>,
    gossip: Option<&Gossip>,
    shared: &Arc<Shared>,
    stages: &watch::Receiver<Stage>,
) -> anyhow::Result<Option<(SocketAddr, JoinHandle<()>)>> {
    let (Some(kong), Some(listener), Some(gossip)) = (&config.kong, listener, gossip) else {
        return Ok(None);
    };
    let address = listener.local_addr()?;
    let door = Door::new(kong, address, gossip.view(), shared.clone());
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let serving = skep_console::serve(listener, door, Door::limits(), stages.clone());
    Ok(Some((address, tokio::spawn(serving))))
}

/// How backends are spoken to.
fn backend_tls(config: &ServeConfig, keys: &Keys) -> anyhow::Result<Option<BackendTls>> {
    Ok(match &config.backend_tls {
        BackendTlsConfig::Off => None,
        BackendTlsConfig::Cluster => Some(BackendTls::of_members(keys.clone())),
        BackendTlsConfig::Authorities(file) => {
            let tls = BackendTls::of_authorities(file).map_err(anyhow::Error::msg);
            Some(tls.context("--backend-ca")?)
        }
    })
}

/// Tells everyone, takes no more connections, waits for what is in flight.
async fn drain<T: 'static>(
    config: &ServeConfig,
    shared: &Shared,
    phase: &watch::Sender<Phase>,
    gossip: Option<&Gossip>,
    address: Option<&Running>,
    cores: &mut JoinSet<T>,
) {
    tracing::info!(seconds = config.drain.as_secs(), connections = shared.connections.total(), "draining");
    // First: another has the virtual address before anyone here says that it goes.
    if let Some(address) = address {
        address.release().await;
    }
    shared.draining.store(true, Relaxed);
    if let Some(gossip) = gossip {
        gossip.update(|record| record.state = NodeState::Draining);
    }
    let ended = async {
        tokio::time::sleep(ANNOUNCE.min(config.drain)).await;
        phase.send_replace(Phase::Draining);
        let close_idle = async {
            tokio::time::sleep(idle_grace(config.drain)).await;
            shared.close_idle.store(true, Relaxed);
            std::future::pending::<()>().await;
        };
        let all = async { while cores.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = close_idle => {}
        }
    };
    if tokio::time::timeout(config.drain, ended).await.is_err() {
        tracing::warn!(
            connections = shared.connections.total(),
            "the drain's time is over; connections are cut"
        );
    }
    phase.send_replace(Phase::Stopped);
    while cores.join_next().await.is_some() {}
}

/// Keeps the pool's source at what gossip shows, until its reader is gone.
fn follow(gossip: &Gossip, sender: watch::Sender<Vec<source::Target>>) {
    let mut view = gossip.view();
    tokio::spawn(async move {
        loop {
            let targets = source::from_view(&view.borrow_and_update());
            sender.send_if_modified(|before| {
                let changed = *before != targets;
                if changed {
                    *before = targets;
                }
                changed
            });
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
}

async fn start_gossip(
    config: &ServeConfig,
    keys: Keys,
    http: SocketAddr,
    admin: SocketAddr,
) -> anyhow::Result<Option<Gossip>> {
    if !config.has_gossip() {
        return Ok(None);
    }
    let socket = bind_gossip(config.peer).with_context(|| format!("--peer {}", config.peer))?;
    let bound = socket.local_addr()?;
    let peer = advertise::find(bound, &config.seeds, config.advertise).await?;
    let told = |bound: SocketAddr| {
        if bound.ip().is_unspecified() { SocketAddr::new(peer.ip(), bound.port()) } else { bound }
    };
    let record = PeerRecord {
        id: NodeId::random(),
        program: Program::Balancer,
        state: NodeState::Ready,
        cluster: None,
        peer,
        http: Some(told(http)),
        admin: Some(told(admin)),
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: (source::PROTOCOL, source::PROTOCOL),
        expect: 0,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        gateway: None,
        generation: PeerRecord::generation_now(),
    };
    tracing::info!(id = %record.id, %peer, "gossip");
    let gossip =
        Gossip::start(GossipConfig { socket, seeds: config.seeds.clone(), nodes: vec![], keys, record })
            .await?;
    Ok(Some(gossip))
}

/// While a successor starts beside it, the old process still has the port. Nobody looks for a
/// balancer at a certain gossip port, so another will do.
fn bind_gossip(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = match UdpSocket::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::warn!(%address, "the gossip port is taken; another one is used");
            UdpSocket::bind(SocketAddr::new(address.ip(), 0))?
        }
        bound => bound?,
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}
