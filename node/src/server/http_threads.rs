//! Threads for clients beside the one that runs consensus: connections, heads, bodies, digests, JSON.
//!
//! On two cores there are none: handing each request between threads costs more there than it gains, and
//! what clients ask waits for no disk on the thread that they share.

use std::io;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::service::HandOver;

/// Clients' threads; without any, they run where consensus does.
pub struct HttpThreads(Option<Runtime>);

impl HttpThreads {
    /// Starts so many.
    pub fn start(threads: usize) -> io::Result<Self> {
        if threads == 0 {
            return Ok(Self(None));
        }
        let mut runtime = Builder::new_multi_thread();
        runtime.worker_threads(threads).thread_name("skep-http").enable_all().build().map(Some).map(Self)
    }

    /// Where clients' tasks run.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// How consensus answers them.
    pub fn hand_over(&self) -> HandOver {
        self.0.as_ref().map_or_else(HandOver::here, |runtime| HandOver::to(runtime.handle()))
    }

    /// Has a listener's connections come to these threads.
    pub fn adopt(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let Some(runtime) = &self.0 else { return Ok(listener) };
        let listener = listener.into_std()?;
        let _there = runtime.enter();
        TcpListener::from_std(listener)
    }
}

impl Drop for HttpThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How many there are where nothing is said, on so many cores.
pub fn by_default(cores: usize) -> usize {
    if cores <= 2 { 0 } else { cores - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consensus_keeps_a_core_where_there_are_several() {
        assert_eq!([1, 2, 3, 4, 16].map(by_default), [0, 0, 2, 3, 15]);
    }

    #[tokio::test]
    async fn a_listener_that_is_adopted_takes_its_connections_there() {
        let threads = HttpThreads::start(1).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = threads.adopt(listener).unwrap();
        let accepting = threads.handle().spawn(async move {
            let accepted = listener.accept().await.map(|(_, from)| from);
            (accepted, std::thread::current().name().map(str::to_owned))
        });
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (from, thread) = accepting.await.unwrap();
        assert_eq!(from.unwrap(), stream.local_addr().unwrap());
        assert_eq!(thread.as_deref(), Some("skep-http"));
    }
}
