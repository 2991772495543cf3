//! One Raft group of this node: consensus over the store, and what rests on it.
//!
//! [`Group::open`] is the table of its parts. The node opens one; nothing here is known by another
//! name than the handles that it gives out. Its tasks end with it.

mod announce;
mod calls;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use openraft::StorageHelper;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState};
use skep_raft::formation::bootstrap::driver::Bootstrap;
use skep_raft::membership::{reconciler, stops};
use skep_raft::network::Network;
use skep_raft::peers::Peers;
use skep_raft::resumption::Resumption;
use skep_raft::serve::RaftHandler;
use skep_raft::types::TypeConfig;
use skep_raft::wire::GroupId;
use skep_raft::witness::{Held, Witness};
use skep_raft::{compaction, failover};
use skep_store::{LogFlush, LogStatsHandle, Raft, Reader, Store, StoreConfig, StoreHealth, StoreMetrics};
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

use crate::service::due::Due;
use crate::service::equal::{self, Equal};
use crate::service::lateness;
use crate::service::operator::Operator;
use crate::service::proposer::{Carrier, Proposer};
use crate::service::pulse;
use crate::service::reached::{self, Reached};
use crate::service::read_index::{ReadIndexer, Vouching};
use crate::service::resumed;
use crate::service::retention::{Retention, RetentionConfig};
use crate::service::room::{self, Room};
use crate::service::schedules::firing::Firing;
use crate::service::scrub::{self, Scrubs};
use crate::service::sealing::Sealing;
use crate::service::secrets::Secrets;
use crate::service::shifts::leading::Leading;
use crate::service::tasks::dispatcher::{Beats, Dispatcher, Held as HeldLeases};
use crate::service::time::{self, Time};
use crate::service::{HandOver, Service, ServiceParts};
use crate::telemetry::Metrics;
use calls::Calls;

/// What a group is given.
pub struct Parts<'a> {
    pub node_id: NodeId,
    pub gossip: Gossip,
    pub peers: Peers,
    pub bootstrap: Bootstrap,
    pub metrics: &'a Metrics,
    /// What seals and opens what is secret in the state.
    pub secrets: Secrets,
    /// How clients are answered.
    pub hand_over: HandOver,
    pub settings: Settings,
}

/// What a group is told.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub request_timeout: Duration,
    pub idempotency_for: Duration,
    pub voters: u32,
    pub dead_grace: Duration,
    pub away_grace: Duration,
    pub retention: RetentionConfig,
    pub level_after: Duration,
    pub scrub_interval: Duration,
}

/// A running group.
pub struct Group {
    pub raft: Raft,
    /// What clients ask.
    pub service: Service,
    /// What operators ask.
    pub operator: Operator,
    pub store: OpenStore,
    pub tasks: JoinSet<()>,
}

/// What is known of a group's store.
#[derive(Clone)]
pub struct OpenStore {
    pub reader: Reader,
    pub log: LogStatsHandle,
    pub flush: LogFlush,
    pub health: Receiver<StoreHealth>,
    pub metrics: Arc<StoreMetrics>,
}

/// Opens a group's store in its folder. Before anybody hears of the node: it may take a while.
pub async fn open_store(
    folder: &Path,
    message_segments_held_max: usize,
    claim_files_held_max: usize,
) -> anyhow::Result<Store> {
    let config = StoreConfig { message_segments_held_max, claim_files_held_max, ..StoreConfig::new(folder) };
    Ok(tokio::task::spawn_blocking(move || skep_store::open(config)).await??)
}

/// The nodes that are members of the group, as its store has it.
pub async fn members(store: &mut Store) -> anyhow::Result<Vec<NodeId>> {
    let mut stored = StorageHelper::<TypeConfig, _, _>::new(&mut store.log, &mut store.state_machine);
    let members = stored.get_membership().await.context("reading who is a member")?;
    let stored = [members.committed(), members.effective()].into_iter();
    Ok(stored.flat_map(|stored| stored.membership().nodes().map(|(id, _)| NodeId(*id))).collect())
}

impl Group {
    /// Takes part, over a store that [`open_store`] has opened.
    pub async fn open(id: GroupId, store: Store, parts: Parts<'_>) -> anyhow::Result<Group> {
        let Parts { node_id, gossip, peers, bootstrap, metrics, secrets, hand_over: answers, settings } =
            parts;
        let mut store = store;
        store.look_before_replay().await?;
        // Before anything is applied that waits for a mend.
        let suspected = store.reader.take_suspected().context("the store is mended by somebody else")?;
        let (log, flush, held_vote) = (store.log.stats_handle(), store.log.flusher(), store.log.held_vote());
        let witness = Witness::default();
        let network = Network::new(peers.clone(), id, witness.clone());
        let config = Arc::new(skep_raft::config()?);
        let raft = Raft::new(node_id.0, config, network, store.log, store.state_machine)
            .await
            .context("starting Raft")?;
        // A snapshot may be on the disk before the log knows of it.
        let last = raft.with_raft_state(|state| state.log_ids.last().copied()).await?;
        let found = held_vote.held().map(|held| Held { last: held.last.max(last), ..held });
        let resumption = if found.is_some() { Resumption::asking() } else { Resumption::whole() };
        if !resumption.may_stand() {
            raft.runtime_config().elect(false);
        }
        let store =
            OpenStore { reader: store.reader, log, flush, health: store.health, metrics: store.metrics };
        let reader = store.reader.clone();

        let room = Room::default();
        let time = Time::start(node_id, reader.applied());
        let proposer = Proposer::start(Carrier {
            node_id,
            raft: raft.clone(),
            peers: peers.clone(),
            gossip: gossip.clone(),
            time: time.clone(),
            health: store.health.clone(),
            room: room.clone(),
            commit_latency: metrics.commit.clone(),
            hand_over: answers.clone(),
        });
        let read_indexer = ReadIndexer::start(
            node_id,
            raft.clone(),
            peers.clone(),
            Vouching { held_vote: held_vote.clone(), resumption: resumption.clone() },
            reader.applied(),
            answers,
        );
        let pulse = read_indexer.pulse().clone();
        let reached = Reached::of(raft.clone(), gossip.clone());
        let equal = Equal::default();
        let operator = Operator {
            node_id,
            raft: raft.clone(),
            gossip: gossip.clone(),
            peers: peers.clone(),
            proposer: proposer.clone(),
            read_indexer: read_indexer.clone(),
            reader: reader.clone(),
            time: time.clone(),
            secrets: secrets.clone(),
        };
        let held_leases = HeldLeases::default();
        let service = Service::new(ServiceParts {
            node_id,
            request_timeout: settings.request_timeout,
            idempotency_for: settings.idempotency_for,
            raft: raft.clone(),
            reader: reader.clone(),
            gossip: gossip.clone(),
            proposer: proposer.clone(),
            read_indexer: read_indexer.clone(),
            time: time.clone(),
            beats: Beats {
                node_id,
                raft: raft.clone(),
                peers: peers.clone(),
                gossip: gossip.clone(),
                held: held_leases.clone(),
            },
            health: store.health.clone(),
            waiting: bootstrap.waiting(),
            reached: reached.clone(),
            resumption: resumption.clone(),
            equal: equal.clone(),
            secrets: secrets.clone(),
        });
        let (stops, questions) = stops::channel();
        peers.serve(Arc::new(RaftHandler {
            raft: raft.clone(),
            group: id,
            snapshots: reader.clone(),
            resumption: resumption.clone(),
            calls: Arc::new(Calls {
                node_id,
                raft: raft.clone(),
                proposer: proposer.clone(),
                read_indexer: read_indexer.clone(),
                gossip: gossip.clone(),
                peers: peers.clone(),
                bootstrap,
                operator: operator.clone(),
                stops,
                witness: witness.clone(),
                held_vote: held_vote.clone(),
                health: store.health.clone(),
                held_leases: held_leases.clone(),
            }),
        }));

        let retention = Retention {
            node_id,
            raft: raft.clone(),
            gossip: gossip.clone(),
            reader: reader.clone(),
            proposer: proposer.clone(),
            time: time.clone(),
            config: settings.retention,
        };
        let dispatcher = Dispatcher {
            node_id,
            raft: raft.clone(),
            reader: reader.clone(),
            proposer: proposer.clone(),
            held: held_leases,
        };
        let firing = Firing {
            node_id,
            raft: raft.clone(),
            reader: reader.clone(),
            proposer: proposer.clone(),
            time: time.clone(),
            seen: Arc::default(),
        };
        firing.register(metrics);
        let leading = Leading { node_id, raft: raft.clone(), service: service.clone() };
        leading.register(metrics);
        let sealing = Sealing {
            node_id,
            raft: raft.clone(),
            reader: reader.clone(),
            proposer: proposer.clone(),
            secrets,
            pulse: pulse.clone(),
        };
        let level_after = settings.level_after;
        let due = Due {
            node_id,
            raft: raft.clone(),
            gossip: gossip.clone(),
            peers: peers.clone(),
            reader: reader.clone(),
            proposer,
            time: time.clone(),
            level_after,
        };
        let clocks = time::Asks { time, raft: raft.clone(), peers: peers.clone(), gossip: gossip.clone() };
        let hand_over = {
            let operator = operator.clone();
            move |to| {
                let operator = operator.clone();
                async move {
                    operator.transfer_leader(Some(to)).await.map(drop).map_err(|error| error.to_string())
                }
            }
        };
        let plan = reconciler::Settings::new(settings.voters, settings.dead_grace, settings.away_grace);
        let mut tasks = JoinSet::new();
        tasks.spawn(compaction::run(raft.clone(), store.log.clone(), peers.clone()));
        let is_there = {
            let (gossip, resumption) = (gossip.clone(), resumption.clone());
            move |id| {
                if id == node_id && !resumption.may_stand() {
                    return false;
                }
                let view = gossip.view().borrow().clone();
                let record = if id == node_id { Some(&view.me) } else { view.live(id) };
                record.is_some_and(|record| !matches!(record.state, NodeState::Draining | NodeState::Left))
            }
        };
        tasks.spawn(failover::run(node_id, raft.clone(), peers.clone(), is_there));
        let rooms = room::Asks {
            node_id,
            room,
            raft: raft.clone(),
            peers: peers.clone(),
            gossip: gossip.clone(),
            health: store.health.clone(),
        };
        tasks.spawn(room::run(rooms, hand_over.clone()));
        let compares = equal::Asks {
            node_id,
            equal: equal.clone(),
            raft: raft.clone(),
            peers: peers.clone(),
            gossip: gossip.clone(),
            reader: reader.clone(),
        };
        let scrubs = Scrubs {
            node_id,
            reader,
            raft: raft.clone(),
            peers: peers.clone(),
            gossip: gossip.clone(),
            equal,
            interval: settings.scrub_interval,
        };
        tasks.spawn(equal::run(compares, hand_over.clone()));
        tasks.spawn(reached::run(reached.clone(), peers.clone()));
        let resumed = resumed::Asks {
            node_id,
            raft: raft.clone(),
            peers,
            gossip: gossip.clone(),
            held: held_vote,
            found,
            reads: read_indexer.clone(),
            resumption: resumption.clone(),
        };
        tasks.spawn(resumed::run(resumed));
        let for_rounds = read_indexer.clone();
        let round = move |deadline| {
            let indexer = for_rounds.clone();
            // One that failed is followed by the next; why, the indexer's log says.
            async move { drop(indexer.round(deadline).await) }
        };
        tasks.spawn(pulse::run(pulse, raft.clone(), round));
        tasks.spawn(time::run(clocks, hand_over.clone()));
        tasks.spawn(announce::run(node_id, raft.clone(), gossip.clone(), reached, resumption, read_indexer));
        tasks.spawn(reconciler::run(node_id, raft.clone(), gossip, plan, questions, witness));
        tasks.spawn(retention.run());
        tasks.spawn(scrub::run(scrubs, suspected, hand_over));
        tasks.spawn(due.run());
        tasks.spawn(firing.run());
        tasks.spawn(sealing.run());
        tasks.spawn(leading.run());
        tasks.spawn(dispatcher.run());
        tasks.spawn(lateness::run(metrics.lateness.clone()));
        Ok(Group { raft, service, operator, store, tasks })
    }
}
