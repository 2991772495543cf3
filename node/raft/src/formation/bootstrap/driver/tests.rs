//! Drivers on real folders in one process, in a world with delays, partial views, crashes and
//! partitions; Raft is reduced to who adopts what.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::*;

mod world;

use world::{Crash, World};

/// Many worlds at once: they mostly wait.
async fn worlds<F: Future<Output = ()>>(count: u64, world: impl Fn(u64) -> F) {
    join_all((0..count).map(world)).await;
}

#[tokio::test]
async fn nodes_started_one_by_one_with_partial_views_form_one_cluster() {
    worlds(24, |seed| async move {
        let nodes = [2, 3, 5, 9][seed as usize % 4];
        let world = World::new(seed, nodes as u32);
        for _ in 0..nodes {
            world.start_within(Duration::from_millis(1500));
        }
        let cluster = world.all_in_one_cluster().await;
        assert_eq!(world.planned(cluster).len(), nodes, "seed {seed}: of exactly those expected");
    })
    .await;
}

#[tokio::test]
async fn late_nodes_never_start_a_second_cluster() {
    worlds(16, |seed| async move {
        let world = World::new(seed, 3);
        for _ in 0..3 {
            world.start_within(Duration::from_millis(100));
        }
        // Some of them have a smaller id than those that are about to form the cluster.
        for _ in 0..4 {
            world.start_within(Duration::from_millis(1500));
        }
        world.all_in_one_cluster().await;
    })
    .await;
}

#[tokio::test]
async fn a_proposer_that_dies_at_any_step_leaves_one_cluster() {
    let crashes = [
        Crash::AtAsk(0),
        Crash::AtAsk(1),
        Crash::AtAsk(2),
        Crash::AtAsk(3),
        Crash::BeforeInitialise,
        Crash::AfterInitialise,
    ];
    worlds(4 * crashes.len() as u64, |seed| async move {
        let crash = crashes[seed as usize % crashes.len()];
        // Its folder comes back, or is lost and a new node takes its place.
        let lost = seed as usize / crashes.len() % 2 == 1;
        let world = World::new(seed, 3);
        world.crash_once(crash, lost);
        for _ in 0..3 {
            world.start_within(Duration::from_millis(300));
        }
        world.all_in_one_cluster().await;
        assert!(world.crashed(), "seed {seed}: {crash:?}");
    })
    .await;
}

#[tokio::test]
async fn a_proposer_behind_a_partition_and_its_replacement_form_one_cluster() {
    worlds(8, |seed| async move {
        let world = World::new(seed, 3);
        // It has every yes, initialises, and is cut off before it reaches anyone.
        world.cut_off_at_initialise();
        for _ in 0..3 {
            world.start_within(Duration::from_millis(100));
        }
        let lonely = world.until_cut_off().await;
        world.start_within(Duration::ZERO);
        world.one_cluster_of_all_but(lonely).await;
        world.heal();
        // Nothing that is offered now makes the lonely one's cluster get a quorum.
        world.one_cluster_of_all_but(lonely).await;
        assert_eq!(world.established().len(), 1, "seed {seed}");
    })
    .await;
}

#[tokio::test]
async fn a_yes_is_on_disk_before_it_is_said() {
    let world = World::new(1, 3);
    let (node, dir) = world.start_lonely();
    let members = BTreeSet::from([NodeId(0), NodeId(1), node.shared.folder.identity().node]);
    let members: Vec<_> = members.into_iter().collect();
    let cluster = ClusterId(9);
    let proposal = Proposal { ballot: 1, proposer: NodeId(0), cluster, members, expect: 3 };
    let answer = node.answer(NodeId(0), BootstrapAsk::Promise(proposal)).await;
    assert_eq!(answer, BootstrapAnswer::Yes);
    let text = std::fs::read_to_string(dir.join(crate::formation::identity::IDENTITY_FILE)).unwrap();
    assert!(text.contains(&cluster.to_string()), "{text}");
    assert_eq!(*node.cluster().borrow(), None);
    let refused = node.offer(ClusterId(8)).await;
    assert!(matches!(refused, Err(ClusterRefused::NotPromised(_))), "{refused:?}");
    node.offer(cluster).await.unwrap();
    assert_eq!(*node.cluster().borrow(), Some(cluster));
    let refused = node.offer(ClusterId(8)).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to cluster"), "{refused}");
}

#[tokio::test]
async fn a_node_without_seeds_that_expects_one_starts_alone() {
    let world = World::new(1, 1);
    world.start_without_seeds();
    let cluster = world.all_in_one_cluster().await;
    assert_eq!(world.planned(cluster).len(), 1);
    // The next ones have seeds, and join it.
    world.start_within(Duration::ZERO);
    world.start_within(Duration::ZERO);
    assert_eq!(world.all_in_one_cluster().await, cluster);
}

#[tokio::test]
async fn a_node_with_seeds_that_expects_one_waits_and_says_why() {
    let world = World::new(1, 1);
    world.start_within(Duration::ZERO);
    let waits = world.waits().await;
    assert_eq!(waits, Wait::NobodyToJoin);
    assert!(waits.is_trouble());
    assert!(world.established().is_empty());
}

/// Nodes that answer as they are told.
struct Answers {
    own: watch::Receiver<Option<ClusterId>>,
    asked: watch::Sender<usize>,
}

impl Ask for Answers {
    async fn ask(&self, _member: NodeId, _ask: BootstrapAsk) -> Result<BootstrapAnswer, AskError> {
        let own = *self.own.borrow();
        self.asked.send_modify(|asked| *asked += 1);
        own.map(BootstrapAnswer::HasCluster).ok_or(AskError("nobody there".into()))
    }
}

impl Initialise for Answers {
    async fn initialise(&self, _members: &[NodeId]) -> Result<(), String> {
        Ok(())
    }
}

/// An edge can write gossip; the node would belong to what it says for good.
#[tokio::test]
async fn a_cluster_that_gossip_alone_shows_is_not_joined() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Arc::new(DataFolder::open(dir.path()).unwrap());
    let forged = ClusterId(7);
    let live = vec![world::record(NodeId(9), Some(forged), 3, Some(NodeId(9)))];
    let me = world::record(folder.identity().node, None, 3, None);
    let view = View {
        me,
        live,
        dead: vec![],
        settled_since: Instant::now(),
        trusted: true,
        proved: Default::default(),
    };
    let (_view, seen) = watch::channel(Arc::new(view));
    let node = Bootstrap::new(folder, BootstrapConfig { expect: 3, seeds_given: true }, seen);
    let (own, answers) = watch::channel(None);
    let asked = watch::Sender::new(0);
    let mut asks = asked.subscribe();
    let driven = node.clone();
    let driver = tokio::spawn(async move {
        let answers = Answers { own: answers, asked };
        driven.run(&answers, &answers, |_| ()).await
    });
    let mut waiting = node.waiting();
    let unconfirmed = |wait: &Option<Wait>| *wait == Some(Wait::Unconfirmed(forged));
    waiting.wait_for(unconfirmed).await.unwrap();
    // Where it lasts, it is said as what waiting does not help.
    let unreached = |wait: &Option<Wait>| *wait == Some(Wait::Unreached(forged));
    assert!(waiting.wait_for(unreached).await.unwrap().as_ref().unwrap().is_trouble());
    // Of another cluster than gossip says.
    own.send_replace(Some(ClusterId(8)));
    let before = *asks.borrow_and_update();
    asks.wait_for(|asks| *asks >= before + 3).await.unwrap();
    assert_eq!(*node.cluster().borrow(), None);
    let text = std::fs::read_to_string(dir.path().join(crate::formation::identity::IDENTITY_FILE)).unwrap();
    assert!(!text.contains(&forged.to_string()), "{text}");
    own.send_replace(Some(forged));
    assert_eq!(driver.await.unwrap().unwrap(), forged);
}
