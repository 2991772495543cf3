//! Verbs that need no running node.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use skep_members::key::KeyRing;
use skep_raft::formation::identity::DataFolder;

use super::{VerbError, print};
use crate::http::WorkerToken;

/// A fresh cluster key, as a line for a key file.
pub(super) fn keygen(as_json: bool, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    let key = KeyRing::generate_line();
    let edge = KeyRing::parse(&key).map_err(|error| VerbError::Refused(error.to_string()))?.edge_lines();
    print(out, as_json, &json!({ "key": key, "edge_key": edge.join("\n") }), &key)
}

/// The edge keys of a cluster's keys, as lines for an edge's key file.
pub(super) fn edge_key(keys: &KeyRing, as_json: bool, out: &mut (dyn Write + Send)) -> Result<(), VerbError> {
    let lines = keys.edge_lines();
    print(out, as_json, &json!({ "edge_keys": lines }), &lines.join("\n"))
}

/// The token that workers of a cluster are given, of the key that it seals with.
pub(super) fn worker_token(
    keys: &KeyRing,
    as_json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), VerbError> {
    let refused =
        || VerbError::Refused("an edge key has no token of workers: the cluster key is needed".into());
    let token = WorkerToken::of(keys).ok_or_else(refused)?;
    print(out, as_json, &json!({ "token": token }), &token)
}

/// Reads every message in the data folder of a stopped node; fails where one is not as it was written.
pub(super) async fn verify(data: &Path) -> Result<Value, VerbError> {
    let refused = |error: &dyn std::fmt::Display| VerbError::Refused(error.to_string());
    if !data.join("format").exists() {
        let what = data.display();
        return Err(VerbError::Refused(format!("{what} is no data folder of a node (--data)")));
    }
    let folder = DataFolder::open(data).map_err(|error| refused(&error))?;
    let dir = data.to_path_buf();
    let verified = tokio::task::spawn_blocking(move || skep_store::verify(&dir)).await;
    let verified = verified.map_err(|error| refused(&error))?.map_err(|error| refused(&error))?;
    drop(folder);
    if !verified.rotten.is_empty() {
        let all: Vec<_> = verified.rotten.iter().map(ToString::to_string).collect();
        return Err(VerbError::Refused(format!(
            "{} of {} files are not as they were written: {}; where other nodes have what is in them, take \
             this folder away and start the node with an empty one",
            all.len(),
            verified.segments + verified.claim_files + all.len() as u64,
            all.join("; ")
        )));
    }
    Ok(json!({
        "segments": verified.segments,
        "messages": verified.messages,
        "claim_files": verified.claim_files,
        "bytes": verified.bytes,
    }))
}

/// How far the log in the data folder of a stopped node goes.
pub(super) async fn inspect(data: &Path) -> Result<Value, VerbError> {
    let found = crate::recover::inspect(data).await.map_err(|error| VerbError::Refused(error.to_string()))?;
    Ok(json!({
        "node_id": found.node.to_string(),
        "cluster_id": found.cluster.map(|cluster| cluster.to_string()),
        "last_log_term": found.last.as_ref().map(|last| last.committed_leader_id().term),
        "last_log_index": found.last.as_ref().map(|last| last.index),
        "checkpoint_index": found.checkpoint.as_ref().map(|last| last.index),
    }))
}

/// Makes a new single-voter cluster from the data folder of a stopped node.
///
/// Without `yes` it says what it would do and changes nothing.
pub async fn recover(data: &Path, yes: bool) -> Result<Value, VerbError> {
    if !yes {
        return Err(VerbError::Refused(
            "this makes a new cluster from this folder alone: what only the lost nodes had acknowledged is \
             gone, and they must never come back with their old folders. Stop the node, make a copy of the \
             folder, then say it again with --yes"
                .into(),
        ));
    }
    let recovered =
        crate::recover::recover(data).await.map_err(|error| VerbError::Refused(error.to_string()))?;
    Ok(json!({
        "node_id": recovered.node.to_string(),
        "cluster_id": recovered.cluster.to_string(),
        "log_index": recovered.log_index,
        "next": "start the node with the same folder; give the other nodes empty folders",
    }))
}
