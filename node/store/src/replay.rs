//! A look at what the log has for the state machine, before consensus applies it again.
//!
//! A start applies what is known to be committed before there is anybody who could be asked for what the disk has
//! lost: an entry that needs a lost record would end each start. Whether one does is looked for first; where it does,
//! the node learns what is committed of its leader, and applies it among the others, who have the record.

use openraft::EntryPayload;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};

use crate::Store;
use crate::error::StoreError;
use crate::machine::on_thread;
use crate::run::Wanted;
use crate::segments::Wait;

impl Store {
    /// Forgets what is committed, where what it needs cannot be read here. To be called once, before consensus
    /// starts; it reads the entries behind the last checkpoint.
    pub async fn look_before_replay(&mut self) -> Result<(), StoreError> {
        let Some(committed) = self.log.read_committed().await.map_err(stopped)? else { return Ok(()) };
        let core = self.state_machine.core().clone();
        let mut reader = self.log.get_log_reader().await;
        let mut next = core.lock().last_applied.map_or(0, |last| last.index + 1);
        while next <= committed.index {
            let entries = reader.limited_get_log_entries(next, committed.index + 1).await.map_err(stopped)?;
            let Some(last) = entries.last() else { break };
            next = last.log_id.index + 1;
            let mut wanted = Wanted::default();
            for entry in &entries {
                if let EntryPayload::Normal(command) = &entry.payload {
                    command.ops.iter().for_each(|op| wanted.note(op));
                }
            }
            let looked = on_thread(&core, move |core| core.look_for(&wanted, Wait::ForDisk).map(drop)).await;
            match looked {
                Err(error) if error.rotten_path().is_some() => {
                    tracing::error!(%error, "the log is not applied again before other nodes can be asked");
                    self.log.forget_committed();
                    return Ok(());
                }
                looked => looked?,
            }
        }
        Ok(())
    }
}

fn stopped(error: std::io::Error) -> StoreError {
    StoreError::Stopped(error.to_string())
}
