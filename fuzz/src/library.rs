//! The gossip library as it runs in a program, fed with messages one at a time. What ends its task ends the
//! program: a panic there is one here.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatEnvelope, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion,
    spawn_chitchat,
};
use tokio::sync::mpsc;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub struct Library {
    handle: ChitchatHandle,
    said: mpsc::Sender<RecvOutcome>,
    changes: u64,
}

struct Wire(Mutex<Option<Inbox>>);

struct Inbox(mpsc::Receiver<RecvOutcome>);

fn nowhere() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

impl Library {
    pub async fn start(id: ChitchatId, gossip: &str) -> Self {
        let (said, heard) = mpsc::channel(1);
        let config = ChitchatConfig {
            chitchat_id: id,
            cluster_id: gossip.to_owned(),
            gossip_interval: Duration::from_millis(150),
            listen_addr: nowhere(),
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig::default(),
            marked_for_deletion_grace_period: Duration::from_secs(600),
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        };
        let keys = vec![("t".to_owned(), "0".to_owned())];
        let handle = spawn_chitchat(config, keys, &Wire(Mutex::new(Some(Inbox(heard))))).await.expect("it starts");
        Self { handle, said, changes: 0 }
    }

    /// Hears a message, and says something new of itself.
    pub async fn hear(&mut self, envelope: ChitchatEnvelope) {
        let outcome = RecvOutcome { from_addr: nowhere(), envelope, num_bytes_received: 0 };
        self.said.send(outcome).await.expect("the library runs");
        // Once it was taken, it is seen through in the same turn.
        while self.said.capacity() == 0 {
            tokio::task::yield_now().await;
        }
        self.changes += 1;
        let now = self.changes.to_string();
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set("t", now.clone())).await;
    }

    /// The members that it knows.
    pub async fn members(&self) -> Vec<ChitchatId> {
        self.handle.with_chitchat(|chitchat| chitchat.node_states().keys().cloned().collect()).await
    }
}

impl Transport for Wire {
    fn open<'a, 'b>(&'a self, _listen: SocketAddr) -> Boxed<'b, anyhow::Result<Box<dyn Socket>>>
    where
        'a: 'b,
        Self: 'b,
    {
        let inbox = self.0.lock().expect("one opens it").take();
        Box::pin(async move { Ok(Box::new(inbox.expect("it is opened once")) as Box<dyn Socket>) })
    }
}

impl Socket for Inbox {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(nowhere())
    }

    fn send<'a, 'b>(
        &'a mut self,
        _to: SocketAddr,
        _envelope: ChitchatEnvelope,
    ) -> Boxed<'b, anyhow::Result<SendOutcome>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { Ok(SendOutcome { num_bytes_sent: 0 }) })
    }

    fn recv<'a, 'b>(&'a mut self) -> Boxed<'b, anyhow::Result<RecvOutcome>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.0.recv().await.ok_or_else(|| anyhow::anyhow!("the fuzzer ends")) })
    }
}
