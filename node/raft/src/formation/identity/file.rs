//! The text of `identity.json`: ids as hex, so that people and scripts can read it.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skep_base::id::{ClusterId, NodeId};

use super::{Identity, IdentityError, Promise};

/// The newest format that this program writes and reads.
const FORMAT: u16 = 1;

/// An id in its text form.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Text).map_err(serde::de::Error::custom)
    }
}

/// Read first: it alone must never change.
#[derive(Deserialize)]
struct Header {
    format: u16,
}

#[derive(Serialize, Deserialize)]
struct IdentityText {
    format: u16,
    node_id: Text<NodeId>,
    cluster_id: Option<Text<ClusterId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    planned_members: Option<Vec<Text<NodeId>>>,
    #[serde(default)]
    promise: Option<PromiseText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past_promises: Vec<PromiseText>,
    #[serde(default)]
    ballot: u64,
}

#[derive(Serialize, Deserialize)]
struct PromiseText {
    ballot: u64,
    proposer: Text<NodeId>,
    cluster_id: Text<ClusterId>,
    members: Vec<Text<NodeId>>,
}

impl From<&Promise> for PromiseText {
    fn from(promise: &Promise) -> Self {
        Self {
            ballot: promise.ballot,
            proposer: Text(promise.proposer),
            cluster_id: Text(promise.cluster),
            members: promise.members.iter().copied().map(Text).collect(),
        }
    }
}

impl From<PromiseText> for Promise {
    fn from(text: PromiseText) -> Self {
        Self {
            ballot: text.ballot,
            proposer: text.proposer.0,
            cluster: text.cluster_id.0,
            members: text.members.into_iter().map(|id| id.0).collect(),
        }
    }
}

pub(super) fn encode(path: &Path, identity: &Identity) -> Result<String, IdentityError> {
    let text = IdentityText {
        format: FORMAT,
        node_id: Text(identity.node),
        cluster_id: identity.cluster.map(Text),
        planned_members: identity.planned.as_ref().map(|ids| ids.iter().copied().map(Text).collect()),
        promise: identity.promise.as_ref().map(PromiseText::from),
        past_promises: identity.past.iter().map(PromiseText::from).collect(),
        ballot: identity.ballot,
    };
    let mut text = serde_json::to_string_pretty(&text).map_err(|error| unreadable(path, error))?;
    text.push('\n');
    Ok(text)
}

pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Identity, IdentityError> {
    let header: Header = serde_json::from_slice(bytes).map_err(|error| unreadable(path, error))?;
    if header.format > FORMAT {
        return Err(IdentityError::TooNew { path: path.into(), format: header.format, newest: FORMAT });
    }
    let text: IdentityText = serde_json::from_slice(bytes).map_err(|error| unreadable(path, error))?;
    Ok(Identity {
        node: text.node_id.0,
        cluster: text.cluster_id.map(|id| id.0),
        planned: text.planned_members.map(|ids| ids.into_iter().map(|id| id.0).collect()),
        promise: text.promise.map(Promise::from),
        past: text.past_promises.into_iter().map(Promise::from).collect(),
        ballot: text.ballot,
    })
}

fn unreadable(path: &Path, error: serde_json::Error) -> IdentityError {
    IdentityError::Unreadable { path: path.into(), detail: error.to_string() }
}
