//! What of stored answers is not used any more, by more than their URLs.
//!
//! In force by number: each rule has one, and each stored answer knows up to which it was held to them. Where that is the
//! newest, a look at it costs one load that no core writes; else it is held to those that came since. So a rule walks
//! through nothing; what it is for is let go as it is found, or by who sweeps (see `super::Cache::sweep`), some at a time.
//! Groups of one origin are found by their number, not looked through: services name as many as they like.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use skep_cache::key;
use skep_gateway::document::SKEP;
use skep_gateway::path::Read;
use tokio::sync::{Notify, watch};

use super::Realm;
use super::stored::Head;
use crate::core::following::Position;

/// Rules that are kept. What was held to none of these is not used.
pub const RULES_MAX: usize = 1024;
/// Groups of one service's origins that are kept: what of that service has groups, and was held to none of them, is not used.
pub const GROUPS_MAX: usize = 1024;
/// Services of which groups are kept. Where there are more, none of what has groups is used.
const SERVICES_MAX: usize = 256;
/// Messages that are known to have been taken out one by one: as many as a cluster takes out so above its floor.
const REMOVED_MAX: usize = 16_384;

/// What a name is in rules and realms: a digest of it, the same in every process.
pub fn mark(name: &[u8]) -> u64 {
    let digest = digest::digest(&digest::SHA256, name);
    u64::from_be_bytes(digest.as_ref().first_chunk().copied().unwrap_or_default())
}

/// Which stored answers are not used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    All,
    /// Of this host, where one is named.
    Prefix {
        host: Option<String>,
        path: String,
    },
    Route(u64),
    Service(u64),
    /// Of this group, of all origins.
    Group(u64),
}

/// What comes to the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Rule(Rule),
    /// A group of one origin.
    Group(u64, Origin),
    /// This message was taken out,
    Message(u64),
    /// or all up to this one.
    Messages(u64),
}

/// Where a group is one (RFC 9875, 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub service: u64,
    pub secure: bool,
    pub host: Box<[u8]>,
}

/// What a group of an origin is kept by: two that meet cost a fetch.
fn grouped(group: u64, secure: bool, host: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (group, secure, host).hash(&mut hasher);
    hasher.finish()
}

/// A stored answer, as rules look at it.
#[derive(Debug)]
pub struct Subject<'a> {
    host: &'a [u8],
    path: &'a [u8],
    /// In the form that is matched, where that is another: that of a raw route is as it came.
    matched: OnceCell<Option<String>>,
    realm: Realm,
    /// None before it is known.
    head: Option<&'a Head>,
}

impl<'a> Subject<'a> {
    pub fn new(key: &'a [u8], realm: Realm, head: Option<&'a Head>) -> Self {
        let mut parts = key::parts(key);
        let (host, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Self { host, path, matched: OnceCell::new(), realm, head }
    }

    fn matched(&self) -> Option<&str> {
        let read = || Some(Read::raw(self.path).ok()?.matched().to_owned());
        self.matched.get_or_init(|| if self.path.contains(&b'%') { read() } else { None }).as_deref()
    }

    fn begins(&self, so: &str) -> bool {
        self.path.starts_with(so.as_bytes()) || self.matched().is_some_and(|it| it.starts_with(so))
    }
}

impl Rule {
    fn is_of(&self, it: &Subject<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Prefix { host, path } => {
                host.as_ref().is_none_or(|host| host.as_bytes() == it.host) && it.begins(path)
            }
            Self::Route(route) => *route == it.realm.route,
            Self::Service(service) => *service == it.realm.service,
            // What it is of is not known yet: it may be of this one.
            Self::Group(group) => it.head.is_none_or(|head| head.groups.contains(group)),
        }
    }
}

/// The groups of one service's origins.
#[derive(Debug, Clone, Default)]
struct Groups {
    last: HashMap<u64, u64>,
    newest: u64,
    gone: u64,
}

/// Messages that were taken out.
#[derive(Debug, Clone, Default)]
struct Messages {
    /// Up to this one;
    floor: u64,
    /// and these, the latest last.
    removed: VecDeque<u64>,
    are_removed: HashSet<u64>,
    /// Of the last rule that was one of messages, and of the last of which it is not known any more which it was.
    newest: u64,
    gone: u64,
}

/// The rules that are in force.
#[derive(Debug, Clone, Default)]
struct Rules {
    /// Of the last.
    number: u64,
    /// Of the last that is not kept.
    gone: u64,
    kept: VecDeque<(u64, Arc<Rule>)>,
    groups: Arc<HashMap<u64, Groups>>,
    /// Of the last of groups of services that are not kept.
    groups_gone: u64,
    messages: Arc<Messages>,
}

impl Rules {
    /// Whether it is not used any more, that was held to those up to `since`.
    fn have(&self, it: &Subject<'_>, since: u64) -> bool {
        if since < self.gone || self.have_message(it, since) || self.have_group(it, since) {
            return true;
        }
        let mut newer = self.kept.iter().rev().take_while(|(number, _)| *number > since);
        newer.any(|(_, rule)| rule.is_of(it))
    }

    fn have_group(&self, it: &Subject<'_>, since: u64) -> bool {
        if it.head.is_some_and(|head| head.groups.is_empty()) {
            return false;
        }
        if since < self.groups_gone {
            return true;
        }
        let Some(of) = self.groups.get(&it.realm.service) else { return false };
        let is_newer = |group: &u64| {
            of.last.get(&grouped(*group, it.realm.secure, it.host)).is_some_and(|number| *number > since)
        };
        since < of.gone || it.head.map_or(of.newest > since, |head| head.groups.iter().any(is_newer))
    }

    /// Of nodes: a message that was taken out stays so, whatever a node that lags says. What does not say which it is may
    /// be any.
    fn have_message(&self, it: &Subject<'_>, since: u64) -> bool {
        if it.realm.service != *NODES {
            return false;
        }
        let messages = &self.messages;
        match it.head.and_then(|head| head.message) {
            Some(seq) => {
                since < messages.gone || seq <= messages.floor || messages.are_removed.contains(&seq)
            }
            None => messages.newest > since,
        }
    }

    fn take(&mut self, change: Change, number: u64) {
        match change {
            // It says what all of them say.
            Change::Rule(Rule::All) => {
                self.kept.clear();
                self.gone = number;
            }
            Change::Rule(rule) => {
                // The same again stands for the one before.
                self.kept.retain(|(_, it)| **it != rule);
                self.kept.push_back((number, Arc::new(rule)));
                if self.kept.len() > RULES_MAX
                    && let Some((gone, _)) = self.kept.pop_front()
                {
                    self.gone = gone;
                }
            }
            Change::Group(group, Origin { service, secure, host }) => {
                let groups = Arc::make_mut(&mut self.groups);
                if groups.len() >= SERVICES_MAX && !groups.contains_key(&service) {
                    groups.clear();
                    self.groups_gone = number;
                }
                let of = groups.entry(service).or_default();
                if of.last.len() >= GROUPS_MAX {
                    of.last.clear();
                    of.gone = of.newest;
                }
                of.last.insert(grouped(group, secure, &host), number);
                of.newest = number;
            }
            Change::Message(seq) => {
                let messages = Arc::make_mut(&mut self.messages);
                messages.newest = number;
                if seq > messages.floor && messages.are_removed.insert(seq) {
                    messages.removed.push_back(seq);
                }
                if messages.removed.len() > REMOVED_MAX
                    && let Some(oldest) = messages.removed.pop_front()
                {
                    messages.are_removed.remove(&oldest);
                    messages.gone = number;
                }
            }
            Change::Messages(upto) => {
                let messages = Arc::make_mut(&mut self.messages);
                messages.newest = number;
                let floor = messages.floor.max(upto);
                messages.floor = floor;
                messages.removed.retain(|seq| *seq > floor);
                messages.are_removed.retain(|seq| *seq > floor);
            }
        }
    }
}

/// The mark of the nodes.
static NODES: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| mark(SKEP.as_bytes()));

/// All rules of a process.
#[derive(Debug, Default)]
pub struct Purges {
    number: AtomicU64,
    rules: ArcSwap<Rules>,
    writing: Mutex<()>,
    /// Says that there is something to sweep.
    pub swept: Notify,
    /// The last purge of a cluster's that is obeyed, and whose it is; None where nothing was heard.
    pub heard: watch::Sender<Option<Position>>,
}

impl Purges {
    /// That of the last rule that is in force.
    pub fn number(&self) -> u64 {
        self.number.load(Acquire)
    }

    /// Up to which it is held now, that was held to those up to `since`; None where it is not used any more.
    pub fn hold(&self, it: &Subject<'_>, since: u64) -> Option<u64> {
        if since >= self.number() {
            return Some(since);
        }
        let rules = self.rules.load();
        (!rules.have(it, since)).then_some(rules.number)
    }

    /// The same of what is about to be stored: what a node says of a message that was taken out is not stored, however
    /// late it asked.
    pub fn hold_new(&self, it: &Subject<'_>, since: u64) -> Option<u64> {
        let rules = self.rules.load();
        (!rules.have(it, since)).then_some(rules.number.max(since))
    }

    /// Puts a rule in force.
    pub fn add(&self, rule: Rule) {
        self.add_all([Change::Rule(rule)]);
    }

    /// Several at once: they are as dear as one.
    pub fn add_all(&self, added: impl IntoIterator<Item = Change>) {
        let mut added = added.into_iter().peekable();
        if added.peek().is_some() {
            self.change(|rules, number| added.for_each(|change| rules.take(change, number)));
        }
    }

    /// Everything, of another cluster's numbers: of its messages nothing is known.
    pub fn begin_anew(&self) {
        self.change(|rules, number| *rules = Rules { gone: number, ..Rules::default() });
    }

    fn change(&self, change: impl FnOnce(&mut Rules, u64)) {
        let turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rules.load_full();
        let number = before.number + 1;
        let mut next = (*before).clone();
        change(&mut next, number);
        next.number = number;
        self.rules.store(Arc::new(next));
        // Behind them: who reads the number finds them.
        self.number.store(number, Release);
        drop(turn);
        self.swept.notify_one();
    }
}

/// What was purged, from the start on.
#[derive(Debug, Default)]
pub struct PurgeCounts {
    pub all: AtomicU64,
    pub url: AtomicU64,
    pub prefix: AtomicU64,
    pub route: AtomicU64,
    pub service: AtomicU64,
    pub group: AtomicU64,
    pub message: AtomicU64,
    /// Everything, as not all purges were heard.
    pub missed: AtomicU64,
}

impl PurgeCounts {
    /// Each by its word.
    pub fn each(&self) -> [(&'static str, u64); 8] {
        [
            ("all", &self.all),
            ("url", &self.url),
            ("prefix", &self.prefix),
            ("route", &self.route),
            ("service", &self.service),
            ("group", &self.group),
            ("message", &self.message),
            ("missed", &self.missed),
        ]
        .map(|(word, count)| (word, count.load(Relaxed)))
    }
}
