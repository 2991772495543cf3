//! The server of a test's own that workers forward tasks to: it remembers which it was asked to do, and how often.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How often each task was run.
type Runs = Arc<Mutex<HashMap<String, u32>>>;

/// It takes no more when it is dropped.
pub struct Handler {
    pub address: SocketAddr,
    runs: Runs,
    task: JoinHandle<()>,
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Handler {
    /// At a free port; each task is done at once.
    pub async fn start(host: IpAddr) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("a loopback address can be bound");
        let address = listener.local_addr().expect("it is bound");
        let runs = Runs::default();
        let counted = runs.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = counted.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| run(request, &counted));
                    // A worker that was killed leaves it broken.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, runs, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// By task, how often it was run.
    pub fn runs(&self) -> HashMap<String, u32> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn run(request: Request<Incoming>, runs: &Runs) -> Result<Response<Full<Bytes>>, Infallible> {
    let id =
        request.headers().get("skep-task-id").and_then(|id| id.to_str().ok()).unwrap_or("none").to_owned();
    // What was not sent whole was not asked for.
    if request.into_body().collect().await.is_ok() {
        *runs.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"1"))))
}
