//! A client's handshake: what it asks for is read first, and then it is accepted with what is shown to who asks for that.
//!
//! Not cancel-safe: who gives up drops the connection.

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listen::tls::Certificates;

/// A record with the alert `unrecognized_name`, which is fatal (RFC 8446, sections 5.1 and 6; RFC 6066, section 3): rustls
/// knows no way to say it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It asks for a name of which nothing is here, or for none where each certificate has its name.
    UnknownName,
    Handshake,
}

pub async fn accept<S>(io: S, certificates: &Certificates) -> Result<TlsStream<S>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = LazyConfigAcceptor::new(Acceptor::default(), io).await;
    let mut start = hello.map_err(|_| Failed::Handshake)?;
    let Some(config) = certificates.choose(start.client_hello().server_name()) else {
        // Who hears it not has left.
        if start.io.write_all(&UNRECOGNIZED_NAME).await.is_ok() {
            let _ = start.io.shutdown().await;
        }
        return Err(Failed::UnknownName);
    };
    start.into_stream(config).await.map_err(|_| Failed::Handshake)
}
