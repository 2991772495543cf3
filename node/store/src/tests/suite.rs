//! openraft's own tests of a log store and a state machine.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::tests::small;
use crate::{LogStore, StateMachine, StoreConfig, open};
use skep_raft::types::TypeConfig;

struct Builder {
    tiny: bool,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let config = if self.tiny { small(dir.path()) } else { StoreConfig::new(dir.path()) };
        let store = open(config).unwrap();
        Ok((dir, store.log, store.state_machine))
    }
}

#[tokio::test]
async fn openrafts_suite_passes() {
    Suite::test_all(Builder { tiny: false }).await.unwrap();
}

#[tokio::test]
async fn openrafts_suite_passes_with_tiny_segments() {
    Suite::test_all(Builder { tiny: true }).await.unwrap();
}
