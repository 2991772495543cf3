//! The world of the drivers: who runs, who sees whom from when on, who is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use skep_members::gossip::{NodeState, PeerRecord, Program, RaftRole};
use tempfile::TempDir;
use tokio::task::AbortHandle;
use tokio::time::Instant as TokioInstant;

use super::super::*;
use crate::formation::bootstrap::promise::majority;

/// Between two rounds of gossip and of Raft.
const BEAT: Duration = Duration::from_millis(20);
/// How long a dead node is still seen.
const SILENCE: Duration = Duration::from_millis(400);
/// Without this much of peace a view is not settled.
const PEACE: Duration = Duration::from_millis(200);
/// Longest time until one sees another.
const SEEN_WITHIN_MS: u64 = 600;
/// When a test gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where a proposer dies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crash {
    /// When it asks for that many times.
    AtAsk(usize),
    /// It has written its decision.
    BeforeInitialise,
    /// Gossip does not know yet.
    AfterInitialise,
}

#[derive(Clone)]
pub struct World(Arc<Mutex<Inner>>);

struct Inner {
    dice: u64,
    expect: u32,
    starting: usize,
    nodes: BTreeMap<NodeId, Node>,
    /// From when on the first sees the second.
    sees: BTreeMap<(NodeId, NodeId), TokioInstant>,
    lists: BTreeMap<ClusterId, Vec<NodeId>>,
    adopters: BTreeMap<ClusterId, BTreeSet<NodeId>>,
    crash: Option<(Crash, bool)>,
    asks: usize,
    cut_at_initialise: bool,
    cut_off: Option<NodeId>,
    healed: bool,
}

struct Node {
    dir: Arc<TempDir>,
    seeds_given: bool,
    running: Option<Running>,
    died: TokioInstant,
    view: watch::Sender<Arc<View>>,
    changed: TokioInstant,
    announced: Option<ClusterId>,
}

struct Running {
    bootstrap: Bootstrap,
    task: AbortHandle,
}

pub fn record(id: NodeId, cluster: Option<ClusterId>, expect: u32, leader: Option<NodeId>) -> PeerRecord {
    PeerRecord {
        id,
        program: Program::Node,
        state: NodeState::Joining,
        cluster,
        peer: ([127, 0, 0, 1], 7400).into(),
        http: None,
        admin: None,
        version: "0.1.0".into(),
        protocol: (1, 1),
        expect,
        raft: RaftRole::None,
        leader,
        term: 1,
        gateway: None,
        generation: 1,
    }
}

impl World {
    pub fn new(seed: u64, expect: u32) -> Self {
        let world = Self(Arc::new(Mutex::new(Inner {
            dice: seed,
            expect,
            starting: 0,
            nodes: BTreeMap::new(),
            sees: BTreeMap::new(),
            lists: BTreeMap::new(),
            adopters: BTreeMap::new(),
            crash: None,
            asks: 0,
            cut_at_initialise: false,
            cut_off: None,
            healed: false,
        })));
        let beating = Arc::downgrade(&world.0);
        tokio::spawn(async move {
            while let Some(world) = beating.upgrade().map(World) {
                world.gossip();
                world.speak().await;
                drop(world);
                sleep(BEAT).await;
            }
        });
        world
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Starts a new node at a random moment.
    pub fn start_within(&self, time: Duration) {
        let world = self.clone();
        let ms = {
            let mut inner = self.inner();
            inner.starting += 1;
            inner.roll(time.as_millis() as u64 + 1)
        };
        tokio::spawn(async move {
            sleep(Duration::from_millis(ms)).await;
            world.start_new(true);
            world.inner().starting -= 1;
        });
    }

    pub fn start_without_seeds(&self) {
        self.start_new(false);
    }

    fn start_new(&self, seeds_given: bool) {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let folder = DataFolder::open(dir.path()).unwrap();
        // What the store makes.
        std::fs::create_dir(dir.path().join("log")).unwrap();
        std::fs::write(dir.path().join("log/1"), "").unwrap();
        let id = folder.identity().node;
        let mut inner = self.inner();
        let now = TokioInstant::now();
        let others: Vec<_> = inner.nodes.keys().copied().collect();
        for other in others {
            for pair in [(id, other), (other, id)] {
                let delay = Duration::from_millis(inner.roll(SEEN_WITHIN_MS));
                inner.sees.insert(pair, now + delay);
            }
        }
        let view = watch::Sender::new(Arc::new(View {
            me: record(id, None, inner.expect, None),
            live: vec![],
            dead: vec![],
            settled_since: Instant::now(),
            trusted: true,
            proved: Default::default(),
        }));
        let node = Node { dir, seeds_given, running: None, died: now, view, changed: now, announced: None };
        inner.nodes.insert(id, node);
        drop(inner);
        self.run(id, folder);
    }

    fn run(&self, id: NodeId, folder: DataFolder) {
        let mut inner = self.inner();
        let expect = inner.expect;
        let node = inner.nodes.get_mut(&id).unwrap();
        let config = BootstrapConfig { expect, seeds_given: node.seeds_given };
        let bootstrap = Bootstrap::new(Arc::new(folder), config, node.view.subscribe());
        let (world, driver) = (self.clone(), bootstrap.clone());
        let task = tokio::spawn(async move {
            let way = Way { id, world: world.clone() };
            let announce = |cluster| {
                let mut inner = world.inner();
                inner.nodes.get_mut(&id).unwrap().announced = Some(cluster);
                inner.adopters.get_mut(&cluster).unwrap().insert(id);
            };
            // Its only error is the end of the world.
            let _ = driver.run(&way, &way, announce).await;
        });
        node.running = Some(Running { bootstrap, task: task.abort_handle() });
    }

    /// Kills a node; after a while it is started again, or a new one in its place.
    fn crash(&self, id: NodeId, lost: bool) {
        let mut inner = self.inner();
        let node = inner.nodes.get_mut(&id).unwrap();
        let Some(running) = node.running.take() else { return };
        running.task.abort();
        node.died = TokioInstant::now();
        node.announced = None;
        inner.starting += 1;
        let dir = inner.nodes[&id].dir.clone();
        let down = SILENCE / 2 + Duration::from_millis(inner.roll(600));
        let world = self.clone();
        tokio::spawn(async move {
            sleep(down).await;
            if lost {
                world.start_new(true);
            } else {
                let folder = loop {
                    match DataFolder::open(dir.path()) {
                        Ok(folder) => break folder,
                        // A write that was under way still holds it.
                        Err(IdentityError::Locked { .. }) => sleep(BEAT).await,
                        Err(error) => panic!("{error}"),
                    }
                };
                world.run(id, folder);
            }
            world.inner().starting -= 1;
        });
    }

    pub fn crash_once(&self, crash: Crash, lost: bool) {
        self.inner().crash = Some((crash, lost));
    }

    pub fn crashed(&self) -> bool {
        self.inner().crash.is_none()
    }

    /// Crashes the caller if this is where it shall.
    async fn may_crash(&self, id: NodeId, at: Crash) {
        let crash = self.inner().crash.take_if(|(crash, _)| *crash == at);
        if let Some((_, lost)) = crash {
            self.crash(id, lost);
            std::future::pending::<()>().await;
        }
    }

    pub fn cut_off_at_initialise(&self) {
        self.inner().cut_at_initialise = true;
    }

    pub fn heal(&self) {
        self.inner().healed = true;
    }

    pub async fn until_cut_off(&self) -> NodeId {
        self.until(|inner| inner.cut_off).await
    }

    /// One node that nothing drives.
    pub fn start_lonely(&self) -> (Bootstrap, PathBuf) {
        self.start_new(true);
        let inner = self.inner();
        let node = inner.nodes.values().next().unwrap();
        let running = node.running.as_ref().unwrap();
        running.task.abort();
        (running.bootstrap.clone(), node.dir.path().to_owned())
    }

    pub fn planned(&self, cluster: ClusterId) -> Vec<NodeId> {
        self.inner().lists[&cluster].clone()
    }

    pub fn established(&self) -> BTreeSet<ClusterId> {
        self.inner().established()
    }

    pub async fn waits(&self) -> Wait {
        let mut waiting = loop {
            let node = self
                .inner()
                .nodes
                .values()
                .next()
                .and_then(|node| node.running.as_ref())
                .map(|r| r.bootstrap.waiting());
            match node {
                Some(waiting) => break waiting,
                None => sleep(BEAT).await,
            }
        };
        let waits = waiting.wait_for(Option::is_some).await.unwrap().clone();
        waits.unwrap()
    }

    pub async fn all_in_one_cluster(&self) -> ClusterId {
        self.until(|inner| inner.one_cluster(None)).await
    }

    pub async fn one_cluster_of_all_but(&self, one: NodeId) -> ClusterId {
        self.until(|inner| inner.one_cluster(Some(one))).await
    }

    async fn until<T>(&self, reached: impl Fn(&Inner) -> Option<T>) -> T {
        let waited = timeout(PATIENCE, async {
            loop {
                let found = {
                    let inner = self.inner();
                    let established = inner.established();
                    assert!(established.len() <= 1, "{established:?} of {:?}", inner.lists);
                    reached(&inner)
                };
                match found {
                    Some(found) => return found,
                    None => sleep(BEAT).await,
                }
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not reached: {}", self.inner().describe()))
    }

    /// Brings every node's view up to date.
    fn gossip(&self) {
        let mut inner = self.inner();
        let now = TokioInstant::now();
        let ids: Vec<_> = inner.nodes.keys().copied().collect();
        for id in &ids {
            let (mut live, mut dead) = (vec![], vec![]);
            for other in ids.iter().filter(|other| *other != id) {
                if inner.sees[&(*id, *other)] > now {
                    continue;
                }
                let record = inner.record(*other);
                let node = &inner.nodes[other];
                let is_up = node.running.is_some() || now < node.died + SILENCE;
                if is_up && inner.are_connected(*id, *other) { live.push(record) } else { dead.push(record) }
            }
            let me = inner.record(*id);
            let node = inner.nodes.get_mut(id).unwrap();
            let before = node.view.borrow().clone();
            if !before.live.iter().map(|r| r.id).eq(live.iter().map(|r| r.id)) {
                node.changed = now;
            }
            let peaceful = now - node.changed >= PEACE;
            let settled_since = Instant::now() - Duration::from_secs(u64::from(peaceful));
            node.view.send_if_modified(|view| {
                let news = view.me != me || view.live != live || view.dead != dead;
                *view = Arc::new(View { me, live, dead, settled_since, trusted: true, ..(**view).clone() });
                news || peaceful
            });
        }
    }

    /// Lets the nodes of every initialised cluster speak Raft to its voters.
    async fn speak(&self) {
        let offers: Vec<_> = {
            let inner = self.inner();
            let mut offers = vec![];
            for (cluster, list) in &inner.lists {
                for to in list.iter().filter(|id| !inner.adopters[cluster].contains(id)) {
                    let speaks = |from: &&NodeId| inner.is_up(**from) && inner.are_connected(**from, *to);
                    let spoken_to = inner.adopters[cluster].iter().any(|from| speaks(&from));
                    if let Some(running) = inner.nodes[to].running.as_ref().filter(|_| spoken_to) {
                        offers.push((*cluster, *to, running.bootstrap.clone()));
                    }
                }
            }
            offers
        };
        for (cluster, to, bootstrap) in offers {
            if bootstrap.offer(cluster).await.is_ok() {
                self.inner().adopters.get_mut(&cluster).unwrap().insert(to);
            }
        }
    }
}

impl Inner {
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides.max(1)
    }

    fn is_up(&self, id: NodeId) -> bool {
        self.nodes[&id].running.is_some()
    }

    fn are_connected(&self, one: NodeId, other: NodeId) -> bool {
        self.healed || ![one, other].iter().any(|id| self.cut_off == Some(*id))
    }

    fn record(&self, id: NodeId) -> PeerRecord {
        let cluster = self.nodes[&id].announced;
        let established = cluster.filter(|cluster| self.established().contains(cluster));
        record(id, cluster, self.expect, established.map(|_| id))
    }

    fn established(&self) -> BTreeSet<ClusterId> {
        let quorate = |(cluster, list): (&ClusterId, &Vec<NodeId>)| {
            let adopters = list.iter().filter(|id| self.adopters[cluster].contains(id)).count();
            (adopters >= majority(list.len())).then_some(*cluster)
        };
        self.lists.iter().filter_map(quorate).collect()
    }

    /// The established cluster, where all that run, but `but`, belong to it.
    fn one_cluster(&self, but: Option<NodeId>) -> Option<ClusterId> {
        let cluster = *self.established().first()?;
        let up = self.nodes.iter().filter(|(id, node)| node.running.is_some() && but != Some(**id));
        let mut clusters = up.map(|(_, node)| node.announced);
        (self.starting == 0 && clusters.all(|of| of == Some(cluster))).then_some(cluster)
    }

    fn describe(&self) -> String {
        let mut text = format!("lists {:?}\nadopters {:?}\n", self.lists, self.adopters);
        for (id, node) in &self.nodes {
            let state = node.running.as_ref().map(|running| {
                let waiting = running.bootstrap.waiting().borrow().as_ref().map(ToString::to_string);
                (running.bootstrap.shared.folder.identity(), waiting)
            });
            text += &format!("{id}: {state:?}\n");
        }
        text
    }
}

/// A node's way to the others and to Raft.
struct Way {
    id: NodeId,
    world: World,
}

impl Ask for Way {
    async fn ask(&self, member: NodeId, ask: BootstrapAsk) -> Result<BootstrapAnswer, AskError> {
        let (at, delays) = {
            let mut inner = self.world.inner();
            inner.asks += 1;
            (inner.asks - 1, [inner.roll(30), inner.roll(30)].map(Duration::from_millis))
        };
        self.world.may_crash(self.id, Crash::AtAsk(at)).await;
        sleep(delays[0]).await;
        let there = {
            let inner = self.world.inner();
            let running = inner.nodes.get(&member).and_then(|node| node.running.as_ref());
            running.filter(|_| inner.are_connected(self.id, member)).map(|running| running.bootstrap.clone())
        };
        let answer = match there {
            Some(bootstrap) => bootstrap.answer(self.id, ask).await,
            None => return Err(AskError("nobody there".into())),
        };
        sleep(delays[1]).await;
        Ok(answer)
    }
}

impl Initialise for Way {
    async fn initialise(&self, members: &[NodeId]) -> Result<(), String> {
        self.world.may_crash(self.id, Crash::BeforeInitialise).await;
        {
            let mut inner = self.world.inner();
            let running = inner.nodes[&self.id].running.as_ref().ok_or("crashed")?;
            let cluster = running.bootstrap.shared.folder.identity().cluster.ok_or("not decided")?;
            let list = inner.lists.entry(cluster).or_insert_with(|| members.to_vec());
            assert_eq!(list, members, "a cluster is initialised with one list");
            inner.adopters.entry(cluster).or_default().insert(self.id);
            if std::mem::take(&mut inner.cut_at_initialise) {
                inner.cut_off = Some(self.id);
            }
        }
        self.world.may_crash(self.id, Crash::AfterInitialise).await;
        Ok(())
    }
}
