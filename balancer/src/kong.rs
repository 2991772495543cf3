//! The door for who speaks Kong's administration, of its version 0.4: what it asks for is put into the gateway's document
//! that the cluster keeps, and answered as Kong does.
//!
//! ```text
//! door -> nodes           who may ask; the document at a node, and until it is in force here
//!     `-> resources       what is asked of a document, and what becomes of both
//!           apis, consumers, passwords -> plugins, asked -> entities -> body, fields, answer
//! ```
//!
//! All but `door` and `nodes` is pure. On the control runtime: one listener, with a task for each of few connections. A
//! request that is dropped may have changed the document.

mod answer;
mod apis;
mod asked;
mod body;
mod consumers;
mod door;
mod entities;
mod fields;
mod nodes;
mod passwords;
mod plugins;
mod resources;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderValue;
use skep_gateway::document::{SKEP, Target, TargetHost};

pub use door::Door;

/// Most aliases, and names of the door.
const LIST_MAX: usize = 64;

/// How the door is told to be.
#[derive(Clone)]
pub struct Config {
    pub address: SocketAddr,
    /// What it may be asked by, beside loopback.
    pub names: Vec<String>,
    pub aliases: Aliases,
    /// What nodes know it by: a field's value.
    pub token: HeaderValue,
}

/// Without the token.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address)
            .field("names", &self.names)
            .field("aliases", &self.aliases)
            .finish_non_exhaustive()
    }
}

/// Targets that are the nodes themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases(Arc<[String]>);

impl Aliases {
    /// Of `HOST:PORT=skep` each.
    pub fn of(texts: &[String]) -> Result<Self, String> {
        if texts.len() > LIST_MAX {
            return Err(format!("{} are too many: at most {LIST_MAX}", texts.len()));
        }
        let alias = |text: &String| {
            let fault = || format!("{text:?} is no alias: expected as in reader:5000={SKEP}");
            let (target, service) = text.split_once('=').ok_or_else(fault)?;
            if service != SKEP {
                return Err(fault());
            }
            Target::read(&format!("http://{target}")).map(|it| it.authority()).map_err(|_| fault())
        };
        texts.iter().map(alias).collect::<Result<Vec<_>, _>>().map(|all| Self(all.into()))
    }

    fn have(&self, target: &Target) -> bool {
        !target.is_tls && self.0.contains(&target.authority())
    }
}

/// Where requests must never lead, since whoever is let in there changes what all do: the door itself, and the addresses
/// of the cluster's members that are not for clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed(Arc<[SocketAddr]>);

impl Closed {
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(addresses.into_iter().collect())
    }

    /// Of names only this machine's own is known.
    fn has(&self, target: &Target) -> bool {
        let is_own = |address: IpAddr| address.is_loopback() || address.is_unspecified();
        self.0.iter().filter(|it| it.port() == target.port).any(|it| {
            let closed = it.ip().to_canonical();
            match &target.host {
                TargetHost::Address(given) => closed == given.to_canonical() || closed.is_unspecified(),
                TargetHost::Name(name) => name == "localhost" && is_own(closed),
            }
        })
    }
}

/// The names that a door may be asked by.
pub fn names(texts: &[String]) -> Result<Vec<String>, String> {
    if texts.len() > LIST_MAX {
        return Err(format!("{} are too many: at most {LIST_MAX}", texts.len()));
    }
    match texts.iter().find(|it| !skep_gateway::host::is_name(it)) {
        Some(text) => Err(format!("{text:?} is no name of a host: expected as in kong")),
        None => Ok(texts.iter().map(|it| it.to_ascii_lowercase()).collect()),
    }
}
