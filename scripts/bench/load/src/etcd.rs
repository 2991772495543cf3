//! etcd's KV service over gRPC: one HTTP/2 connection, one request at a time.

use std::io;
use std::net::SocketAddr;

use crate::failure::Failure;
use crate::http2::Http2;
use crate::protobuf;

/// A connection.
#[derive(Debug)]
pub struct Etcd {
    http: Http2,
    request: Vec<u8>,
}

impl Etcd {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { http: Http2::open(address).await?, request: Vec::new() })
    }

    /// Puts one key.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.request.clear();
        protobuf::put_request(key, value, &mut self.request);
        let answer = self.call(b"/etcdserverpb.KV/Put").await?;
        match protobuf::unframed(&answer) {
            Some(message) if protobuf::is_put_response(message) => Ok(()),
            _ => Err(Failure::Protocol("no put response")),
        }
    }

    /// Reads one key, linearizably; the size of its value, or `None` where there is no such key.
    pub async fn range(&mut self, key: &[u8]) -> Result<Option<usize>, Failure> {
        self.request.clear();
        protobuf::range_request(key, &mut self.request);
        let answer = self.call(b"/etcdserverpb.KV/Range").await?;
        let answer = protobuf::unframed(&answer)
            .and_then(protobuf::range_response)
            .ok_or(Failure::Protocol("no range response"))?;
        Ok((answer.count == 1).then_some(answer.value_bytes))
    }

    async fn call(&mut self, path: &[u8]) -> Result<Vec<u8>, Failure> {
        let answer = self.http.call(path, &self.request).await?;
        match (answer.status, answer.grpc_status) {
            (Some(200), Some(0)) => Ok(answer.body),
            (Some(200), Some(status)) => Err(Failure::Grpc(status)),
            (Some(200), None) => Err(Failure::Protocol("no grpc-status")),
            (Some(status), _) => Err(Failure::Status(status)),
            (None, _) => Err(Failure::Protocol("no status")),
        }
    }
}
