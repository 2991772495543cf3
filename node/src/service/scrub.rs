//! Reads sealed segments again, one now and then, so that what is rotten is known while others have it.

use std::time::Duration;

use skep_store::{Reader, Scrub};

/// Runs for as long as the node; may be dropped at any await.
pub async fn run(reader: Reader, interval: Duration) {
    let mut scrub = Scrub::new(reader);
    loop {
        tokio::time::sleep(interval).await;
        let stepped = tokio::task::spawn_blocking(move || {
            let found = scrub.step();
            (scrub, found)
        });
        let Ok((back, found)) = stepped.await else { return };
        scrub = back;
        if let Some(error) = found {
            tracing::error!(
                %error,
                "messages on this node's disk are not as they were written; where other nodes have them, take its \
                 folder away, and let it come back with an empty one"
            );
        }
    }
}
