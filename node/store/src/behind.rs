//! The writers of what is applied: one of each kind of records, so that none waits behind another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreError;
use crate::health::{HealthSender, Writer};
use crate::segments::{WriteBehind, Writing};

pub(crate) struct Behind {
    pub messages: Arc<WriteBehind>,
    pub claims: Arc<WriteBehind>,
    pub payloads: Arc<WriteBehind>,
    _writing: [Writing; 3],
}

impl Behind {
    pub(crate) fn start(health: &Arc<HealthSender>, full_retry_interval: Duration) -> io::Result<Behind> {
        let start = |who| WriteBehind::start(who, health.clone(), full_retry_interval);
        let (messages, writes_messages) = start(Writer::Messages)?;
        let (claims, writes_claims) = start(Writer::Claims)?;
        let (payloads, writes_payloads) = start(Writer::Payloads)?;
        let writing = [writes_messages, writes_claims, writes_payloads];
        Ok(Behind { messages, claims, payloads, _writing: writing })
    }

    /// Waits until there is room for more of what a run has. Cancel-safe.
    pub(crate) async fn room(&self, messages: bool, claims: bool, payloads: bool) -> Result<(), StoreError> {
        if messages {
            self.messages.room().await?;
        }
        if claims {
            self.claims.room().await?;
        }
        if payloads {
            self.payloads.room().await?;
        }
        Ok(())
    }

    /// Waits until all that came before is in the files. Fails, and can be called again, on a full disk. Blocks.
    pub(crate) fn drain(&self) -> Result<(), StoreError> {
        self.messages.drain()?;
        self.claims.drain()?;
        self.payloads.drain()
    }

    /// Gives up what is not written: all of it is replaced.
    pub(crate) fn forget(&self) {
        self.messages.forget();
        self.claims.forget();
        self.payloads.forget();
    }

    /// Bytes that wait to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.messages.bytes() + self.claims.bytes() + self.payloads.bytes()
    }
}
