//! `snapshot save`, `inspect` and `restore`. A file appears under its name only when it is whole,
//! checked, and on disk.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use skep_base::id::NodeId;
use skep_console::client::Client;
use tokio::time::timeout;

use super::VerbError;

/// How long the node may take to make a snapshot, and each chunk to arrive.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a restore may take as a whole: every message goes through the log.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Bytes that are read from the file at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Saves a snapshot to a new file; answers its bytes.
pub(super) async fn save(admin: SocketAddr, path: &Path) -> Result<u64, VerbError> {
    let failed = |error: std::io::Error| file_error(path, &error);
    if path.exists() {
        return Err(file_error(path, &"the file is there already"));
    }
    let client = Client::new(admin, SNAPSHOT_TIMEOUT);
    let mut body = client.send(Method::GET, "/snapshot", None, Full::new(Bytes::new())).await?;
    let partial = Partial::create(path).map_err(failed)?;
    let mut bytes = 0;
    loop {
        let frame = timeout(SNAPSHOT_TIMEOUT, body.frame()).await;
        let frame = frame.map_err(|_| client.broken(&"no more bytes came"))?;
        let Some(frame) = frame else { break };
        if let Ok(chunk) = frame.map_err(|error| client.broken(&error))?.into_data() {
            (&partial.file).write_all(&chunk).map_err(failed)?;
            bytes += chunk.len() as u64;
        }
    }
    partial.file.sync_all().map_err(failed)?;
    // A backup that cannot be restored is worse than none.
    inspect(&partial.path)?;
    partial.keep(path).map_err(failed)?;
    Ok(bytes)
}

/// Checks a snapshot file, and says what it holds.
pub(super) fn inspect(path: &Path) -> Result<Value, VerbError> {
    let info = skep_store::inspect(path).map_err(|error| file_error(path, &error))?;
    let membership = info.header.membership.membership();
    let ids = |ids: &mut dyn Iterator<Item = u64>| ids.map(|id| NodeId(id).to_string()).collect::<Vec<_>>();
    Ok(json!({
        "messages": info.messages,
        "message_bytes": info.message_bytes,
        "file_bytes": info.file_bytes,
        "applied": info.header.last_log_id.map(|log_id| log_id.index),
        "term": info.header.last_log_id.map(|log_id| log_id.committed_leader_id().term),
        "voters": ids(&mut membership.voter_ids()),
        "learners": ids(&mut membership.learner_ids()),
    }))
}

/// Restores a snapshot file into an empty cluster.
pub(super) async fn restore(admin: SocketAddr, path: &Path) -> Result<Value, VerbError> {
    // Before the cluster is troubled with it.
    inspect(path)?;
    let mut file = File::open(path).map_err(|error| file_error(path, &error))?;
    let chunks = std::iter::from_fn(move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(count) => {
                chunk.truncate(count);
                Some(Ok::<_, std::io::Error>(Frame::data(Bytes::from(chunk))))
            }
            Err(error) => Some(Err(error)),
        }
    });
    let body = StreamBody::new(futures_util::stream::iter(chunks));
    let client = Client::new(admin, RESTORE_TIMEOUT);
    Ok(client
        .json(client.send(Method::POST, "/snapshot", Some("application/octet-stream"), body).await?)
        .await?)
}

fn file_error(path: &Path, reason: &dyn std::fmt::Display) -> VerbError {
    VerbError::File { path: path.display().to_string(), reason: reason.to_string() }
}

/// A file on its way; removed unless it is kept.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    fn create(path: &Path) -> std::io::Result<Self> {
        let mut name = OsString::from(path);
        name.push(".partial");
        let partial = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&partial)?;
        Ok(Self { file, path: partial })
    }

    /// Under its own name, unless something of that name came into being meanwhile.
    fn keep(self, path: &Path) -> std::io::Result<()> {
        match std::fs::hard_link(&self.path, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(error),
            // A file system without links.
            Err(_) => std::fs::rename(&self.path, path)?,
            Ok(()) => {}
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What stays behind is overwritten by the next save.
        let _ = std::fs::remove_file(&self.path);
    }
}
