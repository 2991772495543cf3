//! Wires a node together, runs it until it is told to stop, and stops it in order.
//!
//! The order of the start: the data folder is locked, all sockets are bound, the store is
//! opened, then gossip, the peers' network, Raft, and last what clients see. The order of the
//! stop is told by [`drain`].

mod announce;
mod calls;
mod scrape;
mod watch;

use openraft::async_runtime::watch::WatchReceiver as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use skep_members::advertise;
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole};
use skep_members::key::KeyRing;
use skep_members::tls::peer_tls;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::{Receiver, Sender, channel};

use crate::config::ServeConfig;
use crate::group::Raft;
use crate::http::{self, NodeAdmin, ServeLimits, Stage, admin_app, public_app};
use crate::listen::{self, Listeners};
use crate::service::due::Due;
use crate::service::operator::Operator;
use crate::service::proposer::{Carrier, Proposer};
use crate::service::read_index::ReadIndexer;
use crate::service::retention::Retention;
use crate::service::{Service, ServiceParts};
use crate::telemetry::Metrics;
use calls::{Calls, GossipDirectory, PeerAsk};
use skep_raft::formation::bootstrap::driver::{Bootstrap, BootstrapConfig};
use skep_raft::formation::identity::{self, DataFolder};
use skep_raft::membership::{leave, reconciler};
use skep_raft::network::Network;
use skep_raft::peers::{Peers, PeersConfig};
use skep_raft::serve::RaftHandler;
use skep_raft::{compaction, failover, wire};
use skep_store::{StoreConfig, StoreHealth};

/// How long a node that was told to stop goes on taking requests, so that whoever picks nodes
/// by gossip has seen that it drains.
const LINGER: Duration = Duration::from_millis(500);
/// How long the way out of the cluster may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(8);

/// A running node.
struct Node {
    raft: Raft,
    gossip: Gossip,
    peers: Peers,
    http_stage: Sender<Stage>,
    admin_stage: Sender<Stage>,
    servers: tokio::task::JoinSet<()>,
    tasks: tokio::task::JoinSet<()>,
    health: Receiver<StoreHealth>,
    folder: Arc<DataFolder>,
}

/// Runs a node until it is told to stop. `Ok` after an orderly end.
pub async fn run(config: ServeConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut node = start(config).await?;
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
/// leadership and vote are handed over; what is in flight ends; gossip says `left`.
async fn drain(node: &mut Node) {
    node.gossip.update(|record| record.state = NodeState::Draining);
    node.http_stage.send_replace(Stage::Draining);
    let requests = async {
        tokio::time::sleep(LINGER).await;
        node.http_stage.send_replace(Stage::Stopping);
    };
    let deadline = std::time::Instant::now() + LEAVE_TIMEOUT;
    let (outcome, ()) = tokio::join!(leave::leave(&node.gossip, &node.raft, deadline), requests);
    tracing::info!(?outcome, "left the voters");
    node.gossip.leave().await;
    node.admin_stage.send_replace(Stage::Stopping);
    while node.servers.join_next().await.is_some() {}
    node.tasks.abort_all();
    if let Err(error) = node.raft.shutdown().await {
        tracing::warn!(%error, "Raft did not end in order");
    }
    node.peers.stop().await;
    tracing::debug!(folder = %node.folder.dir().display(), "the data folder is free again");
}

async fn start(config: ServeConfig) -> anyhow::Result<Node> {
    let keys = config.cluster_key.clone().unwrap_or_else(KeyRing::insecure_loopback);
    let folder = Arc::new(identity::shared::open(&config.data)?);
    let node_id = folder.identity().node;
    let listeners = listen::bind(config.http, config.admin, config.peer)?;
    let metrics = Metrics::new();

    let store_config = StoreConfig::new(folder.dir());
    let store = tokio::task::spawn_blocking(move || skep_store::open(store_config)).await??;

    let seeds = config.seeds.clone();
    let bound = listeners.peer.local_addr()?;
    let peer = advertise::find(bound, &seeds, config.advertise).await?;
    let record = PeerRecord {
        id: node_id,
        program: Program::Node,
        state: NodeState::Joining,
        cluster: folder.identity().cluster,
        peer,
        http: Some(reachable(listeners.http.local_addr()?, peer.ip())),
        admin: Some(reachable(listeners.admin.local_addr()?, peer.ip())),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: wire::PROTOCOL,
        expect: config.expect,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        generation: PeerRecord::generation_now(),
    };
    tracing::info!(
        node = %node_id,
        cluster = ?record.cluster,
        http = %listeners.http.local_addr()?,
        admin = %listeners.admin.local_addr()?,
        peer = %bound,
        advertise = %peer,
        "starting skep-node {}", env!("CARGO_PKG_VERSION"),
    );
    let Listeners { http: http_listener, admin: admin_listener, peer: peer_listener, gossip: socket } =
        listeners;
    let seeds_given = !seeds.is_empty();
    let tls = peer_tls(&keys)?;
    let gossip = Gossip::start(GossipConfig { socket, seeds, keys, record }).await?;

    let bootstrap_config = BootstrapConfig { expect: config.expect, seeds_given };
    let bootstrap = Bootstrap::new(folder.clone(), bootstrap_config, gossip.view());
    let peers = Peers::start(PeersConfig {
        local: node_id,
        cluster: bootstrap.cluster(),
        listener: peer_listener,
        tls,
        directory: Arc::new(GossipDirectory(gossip.clone())),
    });

    let log_stats = store.log.stats_handle();
    let held_vote = store.log.held_vote();
    let raft = Raft::new(
        node_id.0,
        Arc::new(skep_raft::config()?),
        Network::new(peers.clone(), wire::GROUP),
        store.log,
        store.state_machine,
    )
    .await
    .context("starting Raft")?;

    let proposer = Proposer::start(Carrier {
        node_id,
        raft: raft.clone(),
        peers: peers.clone(),
        health: store.health.clone(),
        commit_latency: metrics.commit.clone(),
    });
    let read_indexer =
        ReadIndexer::start(node_id, raft.clone(), peers.clone(), held_vote, store.reader.applied());
    let operator = Operator {
        node_id,
        raft: raft.clone(),
        gossip: gossip.clone(),
        peers: peers.clone(),
        proposer: proposer.clone(),
        reader: store.reader.clone(),
    };
    peers.serve(Arc::new(RaftHandler {
        raft: raft.clone(),
        group: wire::GROUP,
        snapshots: store.reader.clone(),
        calls: Arc::new(Calls {
            node_id,
            raft: raft.clone(),
            proposer: proposer.clone(),
            read_indexer: read_indexer.clone(),
            bootstrap: bootstrap.clone(),
            operator: operator.clone(),
        }),
    }));

    let service = Service::new(ServiceParts {
        node_id,
        request_timeout: config.request_timeout,
        raft: raft.clone(),
        reader: store.reader.clone(),
        gossip: gossip.clone(),
        proposer,
        read_indexer,
        health: store.health.clone(),
        waiting: bootstrap.waiting(),
    });

    let asked = scrape::Asked {
        node_id,
        raft: raft.clone(),
        gossip: gossip.clone(),
        peers: peers.clone(),
        service: service.clone(),
        store: scrape::AskedStore {
            folder: config.data.clone(),
            reader: store.reader.clone(),
            metrics: store.metrics.clone(),
            log: log_stats.clone(),
            health: store.health.clone(),
        },
    };
    scrape::register(&metrics, asked);

    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(compaction::run(raft.clone(), log_stats, peers.clone()));
    tasks.spawn(failover::run(node_id, raft.clone(), peers.clone()));
    tasks.spawn(announce::run(node_id, raft.clone(), gossip.clone()));
    let plan = reconciler::Settings::new(config.voters, config.dead_grace);
    tasks.spawn(reconciler::run(node_id, raft.clone(), gossip.clone(), plan));
    let retention = Retention {
        node_id,
        raft: raft.clone(),
        gossip: gossip.clone(),
        reader: store.reader.clone(),
        proposer: operator.proposer.clone(),
        config: config.retention,
    };
    tasks.spawn(retention.run());
    let due = Due {
        node_id,
        raft: raft.clone(),
        gossip: gossip.clone(),
        reader: store.reader.clone(),
        proposer: operator.proposer.clone(),
        level_after: config.level_after,
    };
    tasks.spawn(due.run());
    tasks.spawn(watch::step_down_when_full(operator.clone(), store.health.clone()));
    tasks.spawn(watch::name_strangers(node_id, gossip.clone()));
    tasks.spawn(form(bootstrap, peers.clone(), raft.clone(), gossip.clone()));

    let (http_stage, http_stages) = channel(Stage::Serving);
    let (admin_stage, admin_stages) = channel(Stage::Serving);
    let mut servers = tokio::task::JoinSet::new();
    let public = public_app(service.clone(), config.operator_token.clone(), config.max_body_bytes, &metrics);
    servers.spawn(http::serve(http_listener, public, ServeLimits::default(), http_stages));
    let admin = admin_app(NodeAdmin { service, operator }, config.operator_token.clone(), &metrics);
    servers.spawn(http::serve(admin_listener, admin, ServeLimits::default(), admin_stages));
    Ok(Node { raft, gossip, peers, http_stage, admin_stage, servers, tasks, health: store.health, folder })
}

/// Brings the node into a cluster, and lets gossip know.
async fn form(bootstrap: Bootstrap, peers: Peers, raft: Raft, gossip: Gossip) {
    let announce = |cluster| gossip.update(|record| record.cluster = Some(cluster));
    if let Err(error) = bootstrap.run(&PeerAsk(peers), &raft, announce).await {
        tracing::error!(%error, "the node cannot join a cluster");
    }
}

/// Where others reach a socket that may be bound to all addresses.
fn reachable(bound: SocketAddr, advertised: IpAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::new(advertised, bound.port()) } else { bound }
}
