//! etcd's KV service as far as the load generator asks, over a real HTTP/2 server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use skep_load::protobuf;
use tokio::net::{TcpListener, TcpStream};

type Keys = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

#[derive(Debug, Clone)]
pub struct FakeEtcd {
    pub address: SocketAddr,
    pub keys: Keys,
}

/// Starts a server whose every `fail_every`-th request is answered `UNAVAILABLE`, with trailers only.
pub fn start(fail_every: Option<u64>) -> FakeEtcd {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let keys = Keys::default();
    let server = FakeEtcd { address, keys: keys.clone() };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, keys.clone(), fail_every));
            }
        });
    });
    server
}

async fn serve(stream: TcpStream, keys: Keys, fail_every: Option<u64>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut count: u64 = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        count += 1;
        let fails = fail_every.is_some_and(|n| count.is_multiple_of(n));
        tokio::spawn(handle(request, respond, keys.clone(), fails));
    }
}

async fn handle(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, keys: Keys, fails: bool) {
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        message.extend_from_slice(&chunk.unwrap());
    }
    let mut response = Response::new(());
    if fails {
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("14"));
        respond.send_response(response, true).unwrap();
        return;
    }
    let (key, value) = fields(protobuf::unframed(&message).unwrap());
    let mut answer = Vec::new();
    match path.as_str() {
        "/etcdserverpb.KV/Put" => {
            keys.lock().unwrap().insert(key, value);
            protobuf::put_response(&mut answer);
        }
        "/etcdserverpb.KV/Range" => {
            let keys = keys.lock().unwrap();
            let pair = keys.get(&key).map(|value| (key.as_slice(), value.as_slice()));
            protobuf::range_response_of(pair, &mut answer);
        }
        path => panic!("{path}"),
    }
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(answer.into(), false).unwrap();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    stream.send_trailers(trailers).unwrap();
}

/// The two byte fields of a request; each is shorter than 128 bytes here.
fn fields(mut message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut found = [Vec::new(), Vec::new()];
    while let [tag, len, rest @ ..] = message {
        let (value, rest) = rest.split_at(usize::from(*len));
        found[usize::from(tag >> 3) - 1] = value.to_vec();
        message = rest;
    }
    found.into()
}
