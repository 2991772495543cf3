//! The operator verbs, with all that each needs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use serde::Serialize;
use skep_base::id::{IdParseError, NodeId};
use skep_base::settings::{ConfigError, Layers, Output};
use skep_console::token;
pub use skep_console::verbs::HealthOf;
use skep_gateway::explain::Question;
use skep_members::key::KeyRing;
use skep_members::seeds::Seed;
use skep_members::settings::{cluster_key, cluster_key_in};
use skep_state::task::is_queue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::{ClockArgs, ConfigArgs, PartArgs, SnapshotArgs, VerbArgs};
use super::serve;
use super::settings::{ADMIN, OPERATOR_TOKEN_FILE};
use super::shift::{self, ShiftVerb};

/// An operator verb; `admin` is where to connect to, `json` asks for JSON on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    Keygen {
        json: bool,
    },
    /// The edge keys of these.
    EdgeKey {
        keys: KeyRing,
        json: bool,
    },
    /// The workers' token of the first of these.
    WorkerToken {
        keys: KeyRing,
        json: bool,
    },
    Health {
        admin: SocketAddr,
        of: HealthOf,
        json: bool,
    },
    Members {
        admin: SocketAddr,
        json: bool,
    },
    Peers {
        admin: SocketAddr,
        json: bool,
    },
    Clock {
        admin: SocketAddr,
        json: bool,
    },
    Tasks {
        admin: SocketAddr,
        verb: TasksVerb,
        json: bool,
    },
    Config {
        /// A name means all addresses that it has.
        admin: Seed,
        /// The operators' token, as a field's value.
        token: Option<HeaderValue>,
        verb: ConfigVerb,
        json: bool,
    },
    /// Says what is wrong with a document, and asks nobody.
    CheckConfig {
        file: PathBuf,
        json: bool,
    },
    /// Makes a key for a consumer of the gateway, and asks nobody.
    MakeKey {
        consumer: String,
        json: bool,
    },
    /// Says what is kept of a password of a consumer of the gateway, and asks nobody.
    KeepPassword {
        consumer: String,
        user: Option<String>,
        json: bool,
    },
    /// Sets the time of what is written back, or says what that would do.
    MendTime {
        admin: SocketAddr,
        /// What the clocks agreed on when that was said; it is set back where there is one.
        shown_ms: Option<u64>,
        json: bool,
    },
    TransferLeader {
        admin: SocketAddr,
        to: Option<NodeId>,
        json: bool,
    },
    ForceLeave {
        admin: SocketAddr,
        id: NodeId,
        json: bool,
    },
    Snapshot(SnapshotVerb),
    Recover {
        data: PathBuf,
        yes: bool,
        json: bool,
    },
    /// Whether a folder's messages are as they were written.
    Verify {
        data: PathBuf,
        json: bool,
    },
    /// How far a folder's log goes.
    RecoverInspect {
        data: PathBuf,
        json: bool,
    },
}

/// What to show of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TasksVerb {
    Queues,
    Tasks { queue: String, state: Option<String>, limit: u16, after: Option<String> },
    Workers,
    Schedules,
}

/// What to do with the gateway's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigVerb {
    /// `wait_s`: how long balancers are waited for.
    Apply {
        file: PathBuf,
        part: Option<Part>,
        is_only_tried: bool,
        wait_s: Option<u64>,
    },
    Export,
    Explain {
        question: Question,
    },
    Shift {
        route: String,
        verb: ShiftVerb,
    },
    History,
    Rollback {
        revision: u64,
        wait_s: Option<u64>,
    },
    Purge {
        purge: Box<Purge>,
        wait_s: Option<u64>,
    },
}

/// Which stored answers go: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Purge {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// A part of the document: what one source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub source: String,
    /// What others have by the same names, too.
    pub takes: bool,
}

/// What to do with a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotVerb {
    Save { admin: SocketAddr, file: PathBuf, json: bool },
    Inspect { file: PathBuf, json: bool },
    Restore { admin: SocketAddr, file: PathBuf, json: bool },
}

pub(super) fn resolve(args: VerbArgs, layers: &Layers) -> Result<Verb, ConfigError> {
    let admin = || layers.address_to_ask(&ADMIN);
    Ok(match args {
        VerbArgs::Keygen(output) => Verb::Keygen { json: output.json },
        VerbArgs::EdgeKey { file, output } => Verb::EdgeKey { keys: keys(file, layers)?, json: output.json },
        VerbArgs::WorkerToken { file, output } => {
            Verb::WorkerToken { keys: keys(file, layers)?, json: output.json }
        }
        VerbArgs::Health { started, live, output } => {
            let of = match (started, live) {
                (true, _) => HealthOf::Started,
                (false, true) => HealthOf::Live,
                (false, false) => HealthOf::Ready,
            };
            Verb::Health { admin: admin()?, of, json: output.json }
        }
        VerbArgs::Members(output) => Verb::Members { admin: admin()?, json: output.json },
        VerbArgs::Peers(output) => Verb::Peers { admin: admin()?, json: output.json },
        VerbArgs::Clock { what: None, output } => Verb::Clock { admin: admin()?, json: output.json },
        VerbArgs::Clock { what: Some(ClockArgs::Mend { yes, agreed, output }), output: Output { json } } => {
            let shown_ms = shown_ms(yes, agreed.as_deref())?;
            Verb::MendTime { admin: admin()?, shown_ms, json: json || output.json }
        }
        VerbArgs::Queues(output) => {
            Verb::Tasks { admin: admin()?, verb: TasksVerb::Queues, json: output.json }
        }
        VerbArgs::Tasks { queue, state, limit, after, output } => {
            if !is_queue(&queue) {
                let reason = "expected 1 to 64 letters, digits, '.', '_' and '-'".into();
                return Err(ConfigError::Invalid { origin: "QUEUE".into(), reason });
            }
            let verb = TasksVerb::Tasks { queue, state, limit, after };
            Verb::Tasks { admin: admin()?, verb, json: output.json }
        }
        VerbArgs::Workers(output) => {
            Verb::Tasks { admin: admin()?, verb: TasksVerb::Workers, json: output.json }
        }
        VerbArgs::Schedules(output) => {
            Verb::Tasks { admin: admin()?, verb: TasksVerb::Schedules, json: output.json }
        }
        VerbArgs::Config(args) => config(args, layers)?,
        VerbArgs::TransferLeader { id: to, output } => Verb::TransferLeader {
            admin: admin()?,
            to: to.as_deref().map(node_id).transpose()?,
            json: output.json,
        },
        VerbArgs::ForceLeave { id: text, output } => {
            Verb::ForceLeave { admin: admin()?, id: node_id(&text)?, json: output.json }
        }
        VerbArgs::Snapshot(SnapshotArgs::Save { file, output }) => {
            Verb::Snapshot(SnapshotVerb::Save { admin: admin()?, file: file.into(), json: output.json })
        }
        VerbArgs::Snapshot(SnapshotArgs::Inspect { file, output }) => {
            Verb::Snapshot(SnapshotVerb::Inspect { file: file.into(), json: output.json })
        }
        VerbArgs::Snapshot(SnapshotArgs::Restore { file, output }) => {
            Verb::Snapshot(SnapshotVerb::Restore { admin: admin()?, file: file.into(), json: output.json })
        }
        VerbArgs::Verify(output) => Verb::Verify { data: serve::data(layers), json: output.json },
        VerbArgs::Recover { inspect: true, output, .. } => {
            Verb::RecoverInspect { data: serve::data(layers), json: output.json }
        }
        VerbArgs::Recover { yes, output, .. } => {
            Verb::Recover { data: serve::data(layers), yes, json: output.json }
        }
    })
}

fn config(args: ConfigArgs, layers: &Layers) -> Result<Verb, ConfigError> {
    let (verb, json) = match args {
        ConfigArgs::Check { file, output } => return Ok(Verb::CheckConfig { file, json: output.json }),
        ConfigArgs::Key { name: consumer, output } => {
            return Ok(Verb::MakeKey { consumer, json: output.json });
        }
        ConfigArgs::Password { name: consumer, user, output } => {
            return Ok(Verb::KeepPassword { consumer, user, json: output.json });
        }
        ConfigArgs::Apply { file, part, dry_run, wait, output } => {
            let part = part_of(part);
            (ConfigVerb::Apply { file, part, is_only_tried: dry_run, wait_s: wait }, output.json)
        }
        ConfigArgs::Diff { file, part, output } => {
            let part = part_of(part);
            (ConfigVerb::Apply { file, part, is_only_tried: true, wait_s: None }, output.json)
        }
        ConfigArgs::Export => (ConfigVerb::Export, true),
        ConfigArgs::Explain { url, method, header: headers, from, output } => {
            (ConfigVerb::Explain { question: Question { url, method, headers, from } }, output.json)
        }
        ConfigArgs::Shift(args) => {
            let (route, verb, json) = shift::resolve(args)?;
            (ConfigVerb::Shift { route, verb }, json)
        }
        ConfigArgs::History(output) => (ConfigVerb::History, output.json),
        ConfigArgs::Rollback { revision, wait, output } => {
            (ConfigVerb::Rollback { revision, wait_s: wait }, output.json)
        }
        ConfigArgs::Purge { url, prefix, route, service, group, all, wait, output } => {
            let purge = Purge { url, prefix, route, service, group, all: all.then_some(true) };
            (ConfigVerb::Purge { purge: purge.into(), wait_s: wait }, output.json)
        }
    };
    let token = token::to_send(layers, &OPERATOR_TOKEN_FILE)?;
    Ok(Verb::Config { admin: nodes_to_ask(layers)?, token, verb, json })
}

/// Where nodes are asked: as where one is, or a name with a port, as a stack has them.
fn nodes_to_ask(layers: &Layers) -> Result<Seed, ConfigError> {
    let name = layers.read(&ADMIN, |text| Ok(Seed::parse(text).ok()))?.flatten();
    match name {
        Some(name @ Seed::Name { .. }) => Ok(name),
        _ => layers.address_to_ask(&ADMIN).map(Seed::Address),
    }
}

fn part_of(PartArgs { source, take: takes }: PartArgs) -> Option<Part> {
    source.map(|source| Part { source, takes })
}

/// The cluster key, which an edge key is made of.
fn keys(file: Option<String>, layers: &Layers) -> Result<KeyRing, ConfigError> {
    const FILE: &str = "FILE";
    if let Some(file) = file {
        let path = if file == "-" { "/dev/stdin" } else { &file };
        return cluster_key_in(Path::new(path), FILE).map(|given| given.ring);
    }
    let (keys, _) = cluster_key(layers)?;
    keys.map(|given| given.ring).ok_or_else(|| ConfigError::Invalid {
        origin: FILE.into(),
        reason: "name the file with the cluster key whose edge key is asked for, or - for standard input"
            .into(),
    })
}

/// The time that was shown to who sets it back; whoever was shown none only looks.
fn shown_ms(yes: bool, agreed: Option<&str>) -> Result<Option<u64>, ConfigError> {
    let invalid = |origin: &str, reason: String| Err(ConfigError::Invalid { origin: origin.into(), reason });
    match (yes, agreed) {
        (false, None) => Ok(None),
        (true, None) => {
            invalid("--yes", "say with --agreed what time it is, as `skep-node clock mend` shows it".into())
        }
        (false, Some(_)) => invalid("--agreed", "it is for --yes".into()),
        (true, Some(text)) => match text.parse().ok().or_else(|| unix_ms(text)) {
            Some(shown_ms) => Ok(Some(shown_ms)),
            None => {
                invalid("--agreed", format!("{text:?} is no time: expected one as in 2026-11-21T03:10:00Z"))
            }
        },
    }
}

/// Of a time of RFC 3339.
fn unix_ms(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

fn node_id(text: &str) -> Result<NodeId, ConfigError> {
    text.parse().map_err(|error: IdParseError| ConfigError::Invalid {
        origin: "ID".into(),
        reason: error.to_string(),
    })
}
