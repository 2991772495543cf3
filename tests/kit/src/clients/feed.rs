//! A reader of the live feed that resumes wherever it can, and keeps what it was given.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::wait::{tick, until};

/// A message as the reader got it.
#[derive(Debug, Clone)]
pub struct Heard {
    pub seq: u64,
    /// Its own, as in RFC 3339.
    pub time: String,
    pub at: Instant,
}

/// Ends with the value.
pub struct FeedReader {
    heard: Arc<Mutex<Account>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Account {
    messages: Vec<Heard>,
    /// Times that a connection was lost.
    losses: usize,
    goodbyes: Vec<String>,
}

impl FeedReader {
    /// Follows from `after` on, at the first of the addresses, then at the next.
    pub fn start(addresses: Vec<SocketAddr>, after: u64) -> Self {
        let heard = Arc::new(Mutex::new(Account::default()));
        let task = tokio::spawn(follow(addresses, after, heard.clone()));
        Self { heard, task }
    }

    pub fn messages(&self) -> Vec<Heard> {
        self.heard.lock().expect("no holder panics").messages.clone()
    }

    pub fn losses(&self) -> usize {
        self.heard.lock().expect("no holder panics").losses
    }

    pub fn goodbyes(&self) -> Vec<String> {
        self.heard.lock().expect("no holder panics").goodbyes.clone()
    }

    /// Waits until it has heard everything up to `seq`.
    pub async fn wait_for(&self, seq: u64, deadline: Duration) {
        let what = format!("a reader hears of message {seq}");
        until(&what, deadline, async || {
            let heard = self.heard.lock().expect("no holder panics");
            heard.messages.last().is_some_and(|last| last.seq >= seq).then_some(())
        })
        .await;
    }

    /// Each message once and in order, from the one after `after`, with none missing.
    #[track_caller]
    pub fn expect_all_after(&self, after: u64) {
        let seqs: Vec<u64> = self.messages().iter().map(|heard| heard.seq).collect();
        let expected: Vec<u64> = (after + 1..).take(seqs.len()).collect();
        let wrong = seqs.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert_eq!(wrong, None, "found and expected, of {} messages", seqs.len());
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(addresses: Vec<SocketAddr>, mut after: u64, heard: Arc<Mutex<Account>>) {
    for address in addresses.iter().cycle() {
        let Ok((mut socket, _)) = connect_async(format!("ws://{address}/messages/live?after={after}")).await
        else {
            tick().await;
            continue;
        };
        while let Some(Ok(frame)) = socket.next().await {
            let mut heard = heard.lock().expect("no holder panics");
            match frame {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).expect("frames are JSON");
                    after = message["seq"].as_u64().expect("a message has a seq");
                    let time = message["time"].as_str().expect("a message has a time").to_owned();
                    heard.messages.push(Heard { seq: after, time, at: Instant::now() });
                }
                Message::Close(Some(goodbye)) => heard.goodbyes.push(goodbye.reason.to_string()),
                _ => {}
            }
        }
        heard.lock().expect("no holder panics").losses += 1;
    }
}
