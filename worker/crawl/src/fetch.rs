//! One request to one site: resolved once, each address judged, connected to one that may be, and asked.
//!
//! Whatever is asked for goes through here: pages, what redirects lead to, `robots.txt`. Names and literals
//! take the same way, so that no address is connected to that `address` refuses. Nothing is sent but what
//! stands here: no cookies, no credentials, no referrer; no proxy of the environment is used.
//!
//! A [`Visit`] keeps one connection for as long as it stays with one origin. Each connection has a task that
//! ends with it. Dropping a future here closes what it had open.

pub mod decode;
mod names;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::address::{self, Allow, Refused};
use names::Names;

/// What the crawler calls itself.
pub const AGENT: &str = concat!("skep-worker/", env!("CARGO_PKG_VERSION"));
/// Its name in `robots.txt`.
pub const AGENT_NAME: &str = "skep-worker";
/// What is asked for.
const ACCEPTED: &str = "text/html, application/xhtml+xml, image/*;q=0.8, */*;q=0.1";
/// Time to connect to one address, with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Time until an answer's head is there, with all that comes before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Most fields of a head, and most bytes.
const FIELDS_MAX: usize = 256;
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Refused(#[from] Refused),
    /// It has none, or none that may be connected to: which of them is nobody's business who asks.
    #[error("{host} has no public address")]
    NoAddress { host: String },
    #[error("{host} cannot be looked up now")]
    LookUp { host: String },
    #[error("{to}: {reason}")]
    Connect { to: String, reason: String },
    #[error("no answer in {} s", HEAD_TIMEOUT.as_secs())]
    HeadTimeout,
    #[error("its body did not come in {} s", BODY_TIMEOUT.as_secs())]
    BodyTimeout,
    #[error("{0}")]
    Http(String),
}

/// An answer whose body was not read yet.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
}

/// A body, as it came.
#[derive(Debug)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// There is more than was read.
    pub is_cut: bool,
}

impl Answer {
    /// A field as text; what is no UTF-8 in it is replaced, as browsers do.
    pub fn field(&self, name: HeaderName) -> Option<String> {
        self.fields(name).next()
    }

    /// All fields of a name.
    pub fn fields(&self, name: HeaderName) -> impl Iterator<Item = String> + '_ {
        let values = self.headers.get_all(name).into_iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// Reads so many bytes of the body.
    pub async fn body(mut self, most: usize) -> Result<Body, Fault> {
        let read = async {
            let mut bytes = Vec::new();
            while let Some(frame) = self.body.frame().await {
                let frame = frame.map_err(|error| Fault::Http(causes(&error)))?;
                let Some(data) = frame.data_ref() else { continue };
                let room = most - bytes.len();
                bytes.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    return Ok(Body { bytes, is_cut: true });
                }
            }
            Ok(Body { bytes, is_cut: false })
        };
        timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(Fault::BodyTimeout))
    }
}

/// Asks sites. One for a process.
#[derive(Debug)]
pub struct Fetcher {
    names: Names,
    tls: Arc<ClientConfig>,
    allowed: Vec<Allow>,
}

impl Fetcher {
    /// `roots` are trusted beside Mozilla's.
    pub fn new(allowed: Vec<Allow>, roots: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in roots {
            store.add(root.clone())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { names: Names::system(), tls: Arc::new(tls), allowed })
    }

    /// Asks for a URL, which is one of http or https.
    pub async fn get(&self, visit: &mut Visit, url: &Url) -> Result<Answer, Fault> {
        timeout(HEAD_TIMEOUT, self.ask(visit, url)).await.unwrap_or(Err(Fault::HeadTimeout))
    }

    async fn ask(&self, visit: &mut Visit, url: &Url) -> Result<Answer, Fault> {
        let origin = url.origin().ascii_serialization();
        // One that was kept may be closed by now: then there is a new one.
        if let Some(mut kept) = visit.kept.take().filter(|it| it.origin == origin)
            && kept.sender.ready().await.is_ok()
            && let Ok(answer) = kept.sender.send_request(request(url)?).await
        {
            return Ok(visit.keep(kept, answer));
        }
        let mut opened = self.open(url, origin).await?;
        let answer = opened.sender.send_request(request(url)?).await;
        let answer = answer.map_err(|error| Fault::Http(causes(&error)))?;
        Ok(visit.keep(opened, answer))
    }

    async fn open(&self, url: &Url, origin: String) -> Result<Connection, Fault> {
        // Never the address: who posts a name is not told where it leads.
        let host = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        let failed = |reason| Fault::Connect { to: host.clone(), reason };
        let mut last = None;
        for to in self.addresses(url).await?.into_iter().take(ADDRESSES_MAX) {
            match timeout(CONNECT_TIMEOUT, self.connect(url, to, &origin)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(reason)) => last = Some(failed(reason)),
                Err(_) => last = Some(failed("no connection in time".to_owned())),
            }
        }
        Err(last.unwrap_or(Fault::NoAddress { host: origin }))
    }

    /// Where a URL may be fetched from. Every connection is to one of these: what was judged is what is
    /// connected to, whatever the name's servers say a moment later.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, Fault> {
        let no_address = |host: &str| Fault::NoAddress { host: host.to_owned() };
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses: Vec<IpAddr> = match url.host() {
            None => return Err(no_address(url.as_str())),
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            Some(Host::Domain(name)) => {
                let look_up = |_| Fault::LookUp { host: name.to_owned() };
                // A name of the machine's own domain is meant by nobody, unless such addresses are allowed.
                let found = self.names.look_up(name, self.allowed.is_empty()).await.map_err(look_up)?;
                if found.is_empty() {
                    return Err(no_address(name));
                }
                found
            }
        };
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in addresses {
            let to = SocketAddr::new(address, port);
            match address::judge(to, &self.allowed) {
                Ok(()) => allowed.push(to),
                Err(why) => refused = Some(why),
            }
        }
        match refused {
            Some(Refused::Address(..)) if allowed.is_empty() && url.domain().is_some() => {
                Err(no_address(url.domain().unwrap_or_default()))
            }
            Some(why) if allowed.is_empty() => Err(why.into()),
            _ => Ok(allowed),
        }
    }

    async fn connect(&self, url: &Url, to: SocketAddr, origin: &str) -> Result<Connection, String> {
        let tcp = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
        let _ = tcp.set_nodelay(true);
        if url.scheme() != "https" {
            return Connection::over(tcp, origin).await;
        }
        let name = match url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.trim_end_matches('.').to_owned()),
            _ => Ok(ServerName::from(to.ip())),
        };
        let name = name.map_err(|error| error.to_string())?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await;
        Connection::over(tls.map_err(|error| error.to_string())?, origin).await
    }
}

/// What stays open from one request to the next, as long as they are of one origin.
#[derive(Debug, Default)]
pub struct Visit {
    kept: Option<Connection>,
}

impl Visit {
    fn keep(&mut self, connection: Connection, answer: http::Response<Incoming>) -> Answer {
        self.kept = Some(connection);
        let (head, body) = answer.into_parts();
        Answer { status: head.status, headers: head.headers, body }
    }
}

/// A connection to an origin, and the task that has it.
#[derive(Debug)]
struct Connection {
    origin: String,
    sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<()>,
}

impl Connection {
    async fn over(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        origin: &str,
    ) -> Result<Self, String> {
        let mut builder = Builder::new();
        builder.max_headers(FIELDS_MAX).max_header_size(HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|it| causes(&it))?;
        // What goes wrong with it, the request or the body says, too.
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { origin: origin.to_owned(), sender, task })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn request(url: &Url) -> Result<Request<Empty<Bytes>>, Fault> {
    let invalid = |error: &dyn std::error::Error| Fault::Http(format!("{url} cannot be asked for: {error}"));
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let host = HeaderValue::from_str(host).map_err(|error| invalid(&error))?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    Request::get(if target.is_empty() { "/" } else { target })
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, ACCEPTED)
        .header(ACCEPT_ENCODING, decode::ACCEPTED)
        .body(Empty::new())
        .map_err(|error| invalid(&error))
}

/// An error with what caused it: the first says no more than that it failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
