//! A look at what the log has for the state machine, before consensus applies it again.
//!
//! A start applies what is known to be committed before there is anybody who could be asked for what the disk has
//! lost: an entry that needs a lost record would end each start. Whether one does is looked for first; where it does,
//! the node learns what is committed of its leader, and applies it among the others, who have the record.

use openraft::EntryPayload;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use skep_state::command::Op;

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
        let mut reader = self.log.get_log_reader().await;
        let mut next = self.state_machine.core().lock().last_applied.map_or(0, |last| last.index + 1);
        let mut dropped = Wanted::default();
        while next <= committed.index {
            let entries = reader.limited_get_log_entries(next, committed.index + 1).await.map_err(stopped)?;
            let Some(last) = entries.last() else { break };
            next = last.log_id.index + 1;
            let mut wanted = Wanted::default();
            for entry in &entries {
                let EntryPayload::Normal(command) = &entry.payload else { continue };
                for op in &*command.ops {
                    match op {
                        Op::DropMessages { .. } => dropped.note(op),
                        op => wanted.note(op),
                    }
                }
            }
            if !self.can_read(wanted).await? {
                return Ok(());
            }
        }
        // All at once: each drop begins where the one before has ended.
        self.can_read(dropped).await.map(drop)
    }

    /// Where it cannot, what is committed is forgotten.
    async fn can_read(&self, wanted: Wanted) -> Result<bool, StoreError> {
        let looked =
            on_thread(self.state_machine.core(), move |core| core.look_for(&wanted, Wait::ForDisk).map(drop));
        match looked.await {
            Err(error) if error.rotten_path().is_some() => {
                tracing::error!(%error, "the log is not applied again before other nodes can be asked");
                self.log.forget_committed();
                Ok(false)
            }
            looked => looked.map(|()| true),
        }
    }
}

fn stopped(error: std::io::Error) -> StoreError {
    StoreError::Stopped(error.to_string())
}
