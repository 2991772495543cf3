//! Connections: names that are looked up without libc, TCP, and TLS where the URL says https.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use skep_base::random::Random;
use skep_members::seeds::{Seed, resolve_now};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// Time to connect to one address, and for its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Most certificates that are trusted.
const CERTIFICATES_MAX: usize = 64;

/// Whose certificates are believed.
#[derive(Debug, Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Of certificates as PEM.
    pub fn of(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("it is no PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("a certificate cannot be used: {error}"))?;
            if roots.len() > CERTIFICATES_MAX {
                return Err(format!("it has more than {CERTIFICATES_MAX} certificates"));
            }
        }
        if roots.is_empty() {
            return Err("it has no certificate: PEM is expected".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// Makes connections.
#[derive(Debug, Clone)]
pub struct Connector {
    tcp: HttpConnector<Resolver>,
    trust: Option<Trust>,
}

impl Connector {
    pub fn new(trust: Option<Trust>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        Self { tcp, trust }
    }
}

type Answers<T> = Pin<Box<dyn Future<Output = Result<T, io::Error>> + Send>>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Answers<Stream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.tcp.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let trust = self.trust.clone();
        let connected = self.tcp.call(uri);
        Box::pin(async move {
            let tcp = connected.await.map_err(io::Error::other)?;
            if !is_tls {
                return Ok(Stream::Plain(tcp));
            }
            let Some(Trust(config)) = trust else {
                return Err(io::Error::other("nobody is named whose certificates are believed"));
            };
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let shaken = TlsConnector::from(config).connect(name, tcp.into_inner());
            match tokio::time::timeout(CONNECT_TIMEOUT, shaken).await {
                Ok(stream) => Ok(Stream::Tls(Box::new(TokioIo::new(stream?)))),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
            }
        })
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

macro_rules! either {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain(io) => {
                let $io = Pin::new(io);
                $call
            }
            Stream::Tls(io) => {
                let $io = Pin::new(io.as_mut());
                $call
            }
        }
    };
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buffer))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Looks names up without libc, and gives their addresses in another order each time.
#[derive(Debug, Clone)]
pub struct Resolver;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Answers<Self::Response>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            // The port is the connector's to set.
            let seed = Seed::parse(&format!("{}:1", name.as_str())).map_err(io::Error::other)?;
            let mut addresses = resolve_now(&[seed]).await;
            if addresses.is_empty() {
                return Err(io::Error::other(format!("{} has no address", name.as_str())));
            }
            shuffle(&mut addresses);
            Ok(addresses.into_iter())
        })
    }
}

fn shuffle(addresses: &mut [SocketAddr]) {
    static RANDOM: Mutex<Option<Random>> = Mutex::new(None);
    let mut random = RANDOM.lock().unwrap_or_else(PoisonError::into_inner);
    let random = random.get_or_insert_with(|| {
        let mut seed = [0; 8];
        // A weak seed makes the order predictable, no more.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        Random::new(u64::from_le_bytes(seed))
    });
    for at in (1..addresses.len()).rev() {
        addresses.swap(at, random.below(at + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_not_trusted() {
        let block = |text| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        for (pem, reason) in [
            ("no certificate".to_owned(), "no certificate"),
            (block("AAAA"), "cannot be used"),
            (block("!"), "no PEM"),
        ] {
            let error = Trust::of(pem.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{pem}: {error}");
        }
    }
}
