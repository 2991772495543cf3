//! TLS towards the backends of a pool, where it is asked for: with the cluster's keys, where both sides prove that
//! they belong to it, or by certificates that authorities have signed: of a file, of a gateway's document, or those of
//! the public web.
//!
//! Nothing falls back to plain HTTP: who does not speak TLS, or is another, gets no request. No tasks.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use skep_gateway::document::Tls;
use skep_members::in_force::Keys;
use skep_members::tls::HTTP_ALPN;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Most authorities that a file may have.
const AUTHORITIES_MAX: usize = 1024;

/// How backends are spoken to.
#[derive(Clone)]
pub struct BackendTls {
    trust: Trust,
    /// Each connection is proved by itself.
    anew: bool,
}

/// Whom it believes.
#[derive(Clone)]
enum Trust {
    /// Who has one of the keys in force.
    Members(Keys),
    /// Whose certificate hangs on those of a file, and names its address.
    Authorities(Arc<ArcSwap<ClientConfig>>),
    /// Whose certificate hangs on those of a service's authorities, and names what it says, or its address.
    Service(Result<Arc<ClientConfig>, String>, Option<ServerName<'static>>),
}

impl fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTls").field("mutual", &self.is_mutual()).finish_non_exhaustive()
    }
}

impl BackendTls {
    /// As a member of the cluster speaks to another.
    pub fn of_members(keys: Keys) -> Self {
        Self::by(Trust::Members(keys))
    }

    /// To servers whose certificates hang on those of a PEM file, and name their addresses.
    pub fn of_authorities(file: &Path) -> Result<Self, String> {
        Ok(Self::by(Trust::Authorities(Arc::new(ArcSwap::from_pointee(trusting(authorities(file)?)?)))))
    }

    /// As the servers of a service of the gateway say who they are. What cannot be obeyed believes nobody.
    pub fn of_service(tls: &Tls) -> Self {
        let name = tls.name.clone().map(ServerName::try_from).transpose();
        let (name, config) = match name {
            Ok(name) => (name, roots(tls).and_then(trusting).map(Arc::new)),
            Err(error) => (None, Err(format!("its name is none that a certificate has: {error}"))),
        };
        Self::by(Trust::Service(config, name))
    }

    fn by(trust: Trust) -> Self {
        Self { trust, anew: false }
    }

    /// The same, where a session that was proved before proves nothing: a certificate may be over since.
    pub fn proving(self) -> Self {
        Self { anew: true, ..self }
    }

    /// The same by the authorities that this file has now, from the next connection on. Only of one that was made
    /// of authorities.
    pub fn replace_authorities(&self, file: &Path) -> Result<(), String> {
        if let Trust::Authorities(config) = &self.trust {
            config.store(Arc::new(trusting(authorities(file)?)?));
        }
        Ok(())
    }

    /// Whether they are the servers of a service of the gateway.
    pub fn is_of_service(&self) -> bool {
        matches!(self.trust, Trust::Service(..))
    }

    /// Whether a backend has to believe this balancer, too.
    pub fn is_mutual(&self) -> bool {
        matches!(self.trust, Trust::Members(_))
    }

    /// The connection inside, once the other side has proved who it is.
    pub async fn connect(&self, stream: TcpStream, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let (mut config, name) = match &self.trust {
            Trust::Members(keys) => {
                let now = keys.now();
                (now.http.client.clone(), now.http.server_name.clone())
            }
            Trust::Authorities(config) => (config.load_full(), ServerName::IpAddress(address.ip().into())),
            Trust::Service(config, name) => {
                let name = name.clone().unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
                let config = config.clone();
                let config = config
                    .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, rustls::Error::General(why)))?;
                (config, name)
            }
        };
        if self.anew && !self.is_mutual() {
            Arc::make_mut(&mut config).resumption = Resumption::disabled();
        }
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        // A server that is not of the cluster may speak without saying what.
        if self.is_mutual() && stream.get_ref().1.alpn_protocol() != Some(HTTP_ALPN) {
            let error = rustls::Error::General("it speaks another protocol inside TLS".into());
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(stream)
    }
}

/// Those of a service.
fn roots(tls: &Tls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if tls.authorities.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in &tls.authorities {
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// Those of a PEM file.
fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let shown = file.display();
    let read = CertificateDer::pem_file_iter(file).map_err(|error| format!("{shown}: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in read.take(AUTHORITIES_MAX) {
        let certificate = certificate.map_err(|error| format!("{shown}: {error}"))?;
        roots.add(certificate).map_err(|error| format!("{shown}: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{shown} has no certificate"));
    }
    Ok(roots)
}

/// What believes those whose certificates hang on these.
fn trusting(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Why there is no TLS with who is there; None where an error says nothing of that.
pub fn distrust(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether that is the word of a backend that it does not take this balancer's certificate. Over TLS 1.3 it comes
/// where an answer would, and nothing that was sent before is read.
pub fn is_rejection(error: &io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let Some(rustls::Error::AlertReceived(alert)) = distrust(error) else { return false };
    matches!(
        alert,
        Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate
    )
}

/// A connection to a backend.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket, where what comes from it is what the backend says.
    pub fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) => None,
        }
    }

    /// Whether nothing has come that was not read, nor an end. Costs no system call where the kernel has
    /// reported nothing.
    pub fn is_quiet(&self) -> bool {
        let (socket, inside_is_quiet) = match self {
            Self::Plain(socket) => (socket, true),
            // It would have more, or its end, before the socket is asked.
            Self::Tls(stream) => (stream.get_ref().0, stream.get_ref().1.wants_read()),
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        inside_is_quiet
            && match socket.poll_read_ready(&mut cx) {
                Poll::Pending => true,
                Poll::Ready(_) => {
                    let mut byte = [0];
                    let read = socket.try_read(&mut byte);
                    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
                }
            }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => {
                // Who waits for an answer sees to it that all of the question goes out. Where it does not, an answer
                // may have come all the same.
                let flushed = Pin::new(&mut **stream).poll_flush(cx);
                match (Pin::new(stream).poll_read(cx, buf), flushed) {
                    (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                    (read, _) => read,
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
