//! The operator verbs, with all that each needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use skep_proto::id::NodeId;

use super::args::{SnapshotArgs, VerbArgs};
use super::error::ConfigError;
use super::layers::{self, Layers};
use super::serve::{self, ADMIN_DEFAULT};
use super::values;

/// An operator verb; `admin` is where to connect to, `json` asks for JSON on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    Keygen { json: bool },
    Health { admin: SocketAddr, live: bool, json: bool },
    Members { admin: SocketAddr, json: bool },
    Peers { admin: SocketAddr, json: bool },
    TransferLeader { admin: SocketAddr, to: Option<NodeId>, json: bool },
    ForceLeave { admin: SocketAddr, id: NodeId, json: bool },
    Snapshot(SnapshotVerb),
    Recover { data: PathBuf, yes: bool, json: bool },
}

/// What to do with a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotVerb {
    Save { admin: SocketAddr, file: PathBuf, json: bool },
    Inspect { file: PathBuf, json: bool },
    Restore { admin: SocketAddr, file: PathBuf, json: bool },
}

pub(super) fn resolve(args: VerbArgs, layers: &Layers) -> Result<Verb, ConfigError> {
    let id = |text: &str| {
        values::node_id(text).map_err(|reason| ConfigError::Invalid { origin: "ID".into(), reason })
    };
    Ok(match args {
        VerbArgs::Keygen(output) => Verb::Keygen { json: output.json },
        VerbArgs::Health { live, output } => Verb::Health { admin: admin(layers)?, live, json: output.json },
        VerbArgs::Members(output) => Verb::Members { admin: admin(layers)?, json: output.json },
        VerbArgs::Peers(output) => Verb::Peers { admin: admin(layers)?, json: output.json },
        VerbArgs::TransferLeader { id: to, output } => Verb::TransferLeader {
            admin: admin(layers)?,
            to: to.as_deref().map(id).transpose()?,
            json: output.json,
        },
        VerbArgs::ForceLeave { id: text, output } => {
            Verb::ForceLeave { admin: admin(layers)?, id: id(&text)?, json: output.json }
        }
        VerbArgs::Snapshot(SnapshotArgs::Save { file, output }) => {
            Verb::Snapshot(SnapshotVerb::Save { admin: admin(layers)?, file: file.into(), json: output.json })
        }
        VerbArgs::Snapshot(SnapshotArgs::Inspect { file, output }) => {
            Verb::Snapshot(SnapshotVerb::Inspect { file: file.into(), json: output.json })
        }
        VerbArgs::Snapshot(SnapshotArgs::Restore { file, output }) => Verb::Snapshot(SnapshotVerb::Restore {
            admin: admin(layers)?,
            file: file.into(),
            json: output.json,
        }),
        VerbArgs::Recover { yes, output } => {
            Verb::Recover { data: serve::data(layers), yes, json: output.json }
        }
    })
}

/// Where the node's admin address is reached: one that binds every address is at loopback too.
fn admin(layers: &Layers) -> Result<SocketAddr, ConfigError> {
    let mut address = match layers.read(&layers::ADMIN, values::address)? {
        Some(address) => address,
        None => values::address(ADMIN_DEFAULT)
            .map_err(|reason| ConfigError::Invalid { origin: "--admin".into(), reason })?,
    };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}
