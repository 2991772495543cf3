//! What consensus asks of the store: a snapshot as chunks for a peer, one put together again of what
//! a peer sends, and how large the log is.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use skep_raft::compaction::LogSize;
use skep_raft::network::SnapshotSource;
use skep_raft::peers::SnapshotChunks;
use skep_raft::serve::SnapshotAssembler;

use crate::{LogStatsHandle, Reader, SnapshotData, SnapshotSink};

impl SnapshotSource for SnapshotData {
    fn into_chunks(self) -> SnapshotChunks {
        SnapshotData::into_chunks(self).boxed()
    }
}

/// A reader knows where a snapshot that arrives is put together.
impl SnapshotAssembler for Reader {
    type Snapshot = SnapshotData;

    fn assemble(&self, mut chunks: SnapshotChunks) -> BoxFuture<'static, std::io::Result<SnapshotData>> {
        let mut sink = SnapshotSink::new(self);
        async move {
            while let Some(chunk) = chunks.next().await {
                sink.write(chunk?).await?;
            }
            sink.finish().await
        }
        .boxed()
    }
}

impl LogSize for LogStatsHandle {
    fn bytes(&self) -> u64 {
        self.stats().entry_bytes
    }

    fn bytes_after(&self, index: u64) -> u64 {
        LogStatsHandle::bytes_after(self, Some(index))
    }

    fn index_at_bytes_from_end(&self, bytes: u64) -> Option<u64> {
        LogStatsHandle::index_at_bytes_from_end(self, bytes)
    }
}
