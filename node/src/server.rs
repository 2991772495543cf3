//! Wires a node together, runs it until it is told to stop, and stops it in order.
//!
//! The order of the start: the data folder is locked, all sockets are bound, the store is
//! opened, then gossip, the peers' network, Raft, and last what clients see. The order of the
//! stop is told by [`drain`].

mod clients;
mod directory;
mod http_threads;
mod scrape;
mod watch;

use openraft::async_runtime::watch::WatchReceiver as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use skep_base::id::NodeId;
use skep_base::process::files;
use skep_members::advertise;
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::time::Instant;

use crate::api::{NodeAdmin, PublicLimits, Tokens, admin_app, public_app};
use crate::config::ServeConfig;
use crate::group::{self, Group, Parts};
use crate::http::{Account, HttpTls, ServeLimits, Stage, TlsDoor, WorkerToken, serve, serve_behind};
use crate::listen::{self, Listeners};
use crate::service::secrets::Secrets;
use crate::telemetry::Metrics;
use clients::Clients;
use directory::{GossipDirectory, PeerAsk};
use http_threads::HttpThreads;
use skep_raft::formation::bootstrap::driver::{Bootstrap, BootstrapConfig};
use skep_raft::formation::bootstrap::initialise::{Initialise, Initialiser};
use skep_raft::formation::identity::{self, DataFolder, Identity};
use skep_raft::membership::leave::{self, LeaveOutcome};
use skep_raft::membership::stops::STOPS;
use skep_raft::peers::{Peers, PeersConfig};
use skep_raft::wire;
use skep_store::{Raft, StoreHealth};

/// How long a node that was told to stop goes on taking requests, so that whoever picks nodes by gossip has seen
/// that it drains, also one that a busy machine holds up: to close a connection under a request breaks it.
const LINGER: Duration = Duration::from_millis(1_500);
/// How long the way out of the cluster may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the leader may take to say whether the node may stop.
const MAY_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A running node.
struct Node {
    raft: Raft,
    gossip: Gossip,
    peers: Peers,
    http_stage: Sender<Stage>,
    admin_stage: Sender<Stage>,
    /// What serves clients, and what serves operators.
    http: tokio::task::JoinSet<()>,
    admin: tokio::task::JoinSet<()>,
    tasks: tokio::task::JoinSet<()>,
    health: Receiver<StoreHealth>,
    folder: Arc<DataFolder>,
    _http_threads: HttpThreads,
}

/// Runs a node until it is told to stop. `Ok` after an orderly end.
pub async fn run(config: ServeConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut node = start(config, files::raise_limit(), hangup).await?;
    let ended = tokio::select! {
        _ = either(&mut terminate, &mut interrupt) => None,
        reason = fatal(&node) => Some(reason),
    };
    if let Some(reason) = ended {
        // What failed may be the disk: nothing that needs it is tried.
        tracing::error!(reason, "the store has failed; the node stops");
        anyhow::bail!("the store has failed: {reason}");
    }
    tracing::info!("told to stop: leaving the cluster; a second signal stops at once");
    tokio::select! {
        () = drain(&mut node) => tracing::info!("stopped"),
        _ = either(&mut terminate, &mut interrupt) => tracing::warn!("told twice: stopped at once"),
    }
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits for what a node cannot go on from.
async fn fatal(node: &Node) -> String {
    let mut health = node.health.clone();
    let mut metrics = node.raft.metrics();
    loop {
        if let Some(reason) = &health.borrow_and_update().failed {
            return reason.clone();
        }
        if let Err(error) = &metrics.borrow_and_update().running_state {
            return error.to_string();
        }
        tokio::select! {
            changed = health.changed() => if changed.is_err() { return "the store has ended".into() },
            changed = metrics.changed() => if changed.is_err() { return "Raft has ended".into() },
        }
    }
}

/// The orderly way out: gossip says `draining`; new requests are taken for a moment more, while
/// leadership and vote are handed over; what is in flight ends; gossip says `left`. In this order: whoever hears that a
/// node has left, and then nothing more, may take it for gone and what waits for it for lost.
async fn drain(node: &mut Node) {
    node.gossip.update(|record| record.state = NodeState::Draining);
    node.http_stage.send_replace(Stage::Draining);
    let mut http = std::mem::take(&mut node.http);
    let requests = async {
        tokio::time::sleep(LINGER).await;
        node.http_stage.send_replace(Stage::Stopping);
        while http.join_next().await.is_some() {}
    };
    let deadline = std::time::Instant::now() + LEAVE_TIMEOUT;
    let ask = async |leader| may_stop(node, leader).await;
    let (outcome, ()) = tokio::join!(leave::leave(&node.gossip, &node.raft, deadline, ask), requests);
    match outcome {
        LeaveOutcome::TimedOut => tracing::warn!(
            "the others did not say in time that this node may stop: it stops, and writes may wait for them"
        ),
        outcome => tracing::info!(?outcome, "may stop"),
    }
    node.gossip.leave().await;
    node.admin_stage.send_replace(Stage::Stopping);
    while node.admin.join_next().await.is_some() {}
    node.tasks.abort_all();
    if let Err(error) = node.raft.shutdown().await {
        tracing::warn!(%error, "Raft did not end in order");
    }
    node.peers.stop().await;
    tracing::debug!(folder = %node.folder.dir().display(), "the data folder is free again");
}

/// Asks the leader for leave to stop; one of the version before would not understand the question.
async fn may_stop(node: &Node, leader: NodeId) -> bool {
    let asked = node.gossip.view().borrow().live(leader).is_some_and(|record| record.protocol.1 >= STOPS);
    let deadline = Instant::now() + MAY_STOP_TIMEOUT;
    asked
        && matches!(
            node.peers.call(leader, wire::Request::MayStop, deadline).await,
            Ok(wire::Response::MayStop(true))
        )
}

async fn start(config: ServeConfig, files: u64, hangup: Signal) -> anyhow::Result<Node> {
    let has_key = config.cluster_key.is_some();
    let given = config.cluster_key.clone().unwrap_or_else(|| KeyRing::insecure_loopback().into());
    let keys = Keys::of_node(given)?;
    let folder = Arc::new(identity::shared::open(&config.data)?);
    let node_id = folder.identity().node;
    let listeners = listen::bind(config.http, config.admin, config.peer)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = config.http_threads.unwrap_or_else(|| http_threads::by_default(cores()));
    let http_threads = HttpThreads::start(threads).context("starting the threads for HTTP")?;
    let metrics = Metrics::new();
    let held = (clients::segments_held_max(files), clients::claim_files_held_max(files));
    let mut store = group::open_store(folder.dir(), held.0, held.1).await?;
    let nodes = group::members(&mut store).await?;

    let run = folder.begin_run(PeerRecord::generation_now());
    let record = record(&config, &folder.identity(), run, &listeners).await?;
    let door = match config.http_tls {
        HttpTls::Off => None,
        when => Some(TlsDoor::new(keys.clone(), when == HttpTls::Also)),
    };
    let (seeds, seeds_given) = (config.seeds.clone(), !config.seeds.is_empty());
    let gossip = GossipConfig { socket: listeners.gossip, seeds, nodes, keys: keys.clone(), record };
    let gossip = Gossip::start(gossip).await?;
    let bootstrap_config = BootstrapConfig { expect: config.expect, seeds_given };
    let bootstrap = Bootstrap::new(folder.clone(), bootstrap_config, gossip.view());
    let peers = Peers::start(PeersConfig {
        local: node_id,
        cluster: bootstrap.cluster(),
        listener: listeners.peer,
        keys: keys.clone(),
        directory: Arc::new(GossipDirectory(gossip.clone())),
    });

    let parts = Parts {
        node_id,
        gossip: gossip.clone(),
        peers: peers.clone(),
        bootstrap: bootstrap.clone(),
        metrics: &metrics,
        secrets: Secrets::new(Some(keys.clone()).filter(|_| has_key)),
        hand_over: http_threads.hand_over(),
        settings: group::Settings {
            request_timeout: config.request_timeout,
            idempotency_for: config.idempotency_for,
            voters: config.voters,
            dead_grace: config.dead_grace,
            away_grace: config.away_grace,
            retention: config.retention,
            level_after: config.level_after,
            scrub_interval: config.scrub_interval,
        },
    };
    let group = Group::open(wire::GROUP, store, parts).await?;
    let Group { raft, service, operator, store, mut tasks } = group;
    let health = store.health.clone();
    tasks.spawn(watch::name_strangers(node_id, gossip.clone()));
    tasks.spawn(service.clone().hear_balancers());
    tasks.spawn(read_keys_again(keys.clone(), hangup));
    let flush = store.flush.clone();
    let initialiser = Initialiser {
        raft: raft.clone(),
        flush: move || {
            let flush = flush.clone();
            async move { flush.flush().await }
        },
    };
    tasks.spawn(form(bootstrap, peers.clone(), initialiser, gossip.clone()));
    scrape::register(
        &metrics,
        scrape::Asked {
            node_id,
            raft: raft.clone(),
            gossip: gossip.clone(),
            peers: peers.clone(),
            service: service.clone(),
            store,
        },
    );

    let (http_stage, http_stages) = channel(Stage::Serving);
    let (admin_stage, admin_stages) = channel(Stage::Serving);
    let (mut http, mut admin) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    let clients = Clients::of(files);
    let limits = PublicLimits {
        token: config.operator_token.clone(),
        workers: WorkerToken::new(Some(keys.clone()).filter(|_| has_key)),
        origins: config.allow_origins.clone(),
        max_body_bytes: config.max_body_bytes,
        account: config.request_memory.map_or_else(Account::of_this_process, Account::new),
        live_readers_max: clients.live_readers_max,
    };
    let clients_runtime = http_threads.handle();
    // The tasks of the live feed begin with the app.
    let public = {
        let _there = clients_runtime.enter();
        public_app(service.clone(), limits, &metrics)
    };
    let serving = ServeLimits { connections_max: clients.connections_max, ..ServeLimits::default() };
    let listener = http_threads.adopt(listeners.http)?;
    match door {
        None => http.spawn_on(serve(listener, public, serving, http_stages), &clients_runtime),
        Some(door) => {
            let serving = serve_behind(door, listener, public, serving, http_stages);
            http.spawn_on(serving, &clients_runtime)
        }
    };
    let tokens = Tokens { operators: config.operator_token.clone(), gateway: config.gateway_token.clone() };
    let operators = admin_app(NodeAdmin { service, operator }, tokens, &metrics);
    let operating = ServeLimits { connections_max: clients.operators_max, ..ServeLimits::admin() };
    let listener = http_threads.adopt(listeners.admin)?;
    admin.spawn_on(serve(listener, operators, operating, admin_stages), &clients_runtime);
    let _http_threads = http_threads;
    Ok(Node {
        raft,
        gossip,
        peers,
        http_stage,
        admin_stage,
        http,
        admin,
        tasks,
        health,
        folder,
        _http_threads,
    })
}

/// At each SIGHUP.
async fn read_keys_again(keys: Keys, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        keys.read_again().await;
    }
}

/// What gossip first says of this node.
async fn record(
    config: &ServeConfig,
    identity: &Identity,
    run: u64,
    listeners: &Listeners,
) -> anyhow::Result<PeerRecord> {
    let bound = listeners.peer.local_addr()?;
    let (http, admin) = (listeners.http.local_addr()?, listeners.admin.local_addr()?);
    let peer = advertise::find(bound, &config.seeds, config.advertise).await?;
    tracing::info!(
        node = %identity.node,
        cluster = ?identity.cluster,
        %http,
        %admin,
        peer = %bound,
        advertise = %peer,
        "starting skep-node {}", env!("CARGO_PKG_VERSION"),
    );
    Ok(PeerRecord {
        id: identity.node,
        program: Program::Node,
        state: NodeState::Joining,
        cluster: identity.cluster,
        peer,
        http: Some(reachable(http, peer.ip())),
        admin: Some(reachable(admin, peer.ip())),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: wire::PROTOCOL,
        expect: config.expect,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        gateway: None,
        generation: run,
    })
}

/// Brings the node into a cluster, and lets gossip know.
async fn form(bootstrap: Bootstrap, peers: Peers, raft: impl Initialise, gossip: Gossip) {
    let announce = |cluster| gossip.update(|record| record.cluster = Some(cluster));
    if let Err(error) = bootstrap.run(&PeerAsk(peers), &raft, announce).await {
        tracing::error!(%error, "the node cannot join a cluster");
    }
}

/// Where others reach a socket that may be bound to all addresses.
fn reachable(bound: SocketAddr, advertised: IpAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::new(advertised, bound.port()) } else { bound }
}
