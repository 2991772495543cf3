//! Requests that a browser can be made to send, and heads that mean two things or nothing: raw, to a real
//! node.

use std::net::SocketAddr;
use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::effort::machine_shared;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// What comes back until the node closes, or has nothing more to say.
async fn answer(address: SocketAddr, request: &[u8]) -> String {
    answer_with(address, request, "").await
}

/// The same, of which this is waited for.
async fn answer_with(address: SocketAddr, request: &[u8], wanted: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    stream.write_all(request).await.expect("the node reads");
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    // The first of it within a while, the rest at once.
    let mut patience = PATIENCE;
    while let Ok(Ok(count)) = timeout(patience, stream.read(&mut piece)).await {
        if count == 0 {
            break;
        }
        text.extend_from_slice(&piece[..count]);
        if String::from_utf8_lossy(&text).contains(wanted) {
            patience = Duration::from_millis(100);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A request with these further lines of its head.
fn request(line: &str, host: SocketAddr, head: &str, body: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nhost: {host}\r\n{head}content-length: {}\r\n\r\n{body}", body.len()).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_writes_nothing_and_follows_nothing() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    cluster.args = vec!["--allow-origins".into(), "https://app.example".into()];
    cluster.start(1).wait_ready().await;
    let (http, admin) = (cluster.node(1).http.address, cluster.node(1).admin.address);
    cluster.node(1).http.put("a secret").await;
    let own = format!("origin: http://{http}\r\n");
    let foreign = "origin: https://evil.example\r\n".to_owned();
    for (head, allowed) in [
        (String::new(), true),
        (own.clone(), true),
        ("origin: https://app.example\r\nsec-fetch-site: cross-site\r\n".into(), true),
        (foreign.clone(), false),
        ("origin: null\r\n".into(), false),
        ("sec-fetch-site: cross-site\r\n".into(), false),
        (format!("{own}sec-fetch-site: same-site\r\n"), false),
    ] {
        for line in ["POST /write", "POST /messages", "POST /endpoint/"] {
            let said =
                answer(http, &request(line, http, &format!("{head}content-type: text/plain\r\n"), "1")).await;
            // What was there already is 200.
            let fine = if allowed { matches!(status(&said), 200 | 201) } else { status(&said) == 403 };
            assert!(fine, "{line} {head:?}: {said}");
        }
        let upgrade = format!(
            "{head}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        let wanted = if allowed { "a secret" } else { "" };
        let live = request("GET /messages/live?after=0", http, &upgrade, "");
        let said = answer_with(http, &live, wanted).await;
        assert_eq!(status(&said), if allowed { 101 } else { 403 }, "{head:?}: {said}");
        assert_eq!(said.contains("a secret"), allowed, "{head:?}: {said}");
    }

    // By a name that was made to point here, a page would be of this origin.
    let host = |name: &str| format!("GET /cluster HTTP/1.1\r\nhost: {name}\r\n\r\n").into_bytes();
    for (name, expected) in [
        (admin.to_string(), 200),
        ("localhost:9400".into(), 200),
        ("evil.example:9400".into(), 421),
        ("evil.example".into(), 421),
    ] {
        assert_eq!(status(&answer(admin, &host(&name)).await), expected, "{name}");
    }
    let snapshot = b"GET /snapshot HTTP/1.1\r\nhost: evil.example:9400\r\n\r\n";
    assert_eq!(status(&answer(admin, snapshot).await), 421);
    let scrape = b"GET /metrics HTTP/1.1\r\nhost: tasks.node:9400\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&answer(admin, scrape).await), 200, "figures are for whoever scrapes");
    let head = format!("{foreign}content-type: application/json\r\n");
    let moved = answer(admin, &request("POST /transfer-leader", admin, &head, "{}")).await;
    assert_eq!(status(&moved), 403, "{moved}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_mean_two_things_or_nothing_are_refused_and_nothing_is_stored() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    cluster.start(1).wait_ready().await;
    let http = cluster.node(1).http.address;
    let (digest, _) = cluster.node(1).http.put("one").await;
    let chunked = |head: &str| {
        format!(
            "POST /messages HTTP/1.1\r\nhost: a\r\n{head}content-type: text/plain\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
    };
    for (raw, expected) in [
        ("GET /read HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /read HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".into(), 400),
        ("GET /read HTTP/1.1\r\nhost: a b\r\n\r\n".into(), 400),
        ("GET /read HTTP/1.0\r\n\r\n".into(), 404),
        (chunked("transfer-encoding: gzip, chunked\r\n"), 501),
        (chunked("transfer-encoding: foo\r\ntransfer-encoding: chunked\r\n"), 501),
        (chunked("transfer-encoding: Chunked\r\n"), 201),
        (format!("GET /%6Dessages/{digest} HTTP/1.1\r\nhost: a\r\n\r\n"), 200),
        (format!("GET /messages/{digest} HTTP/1.1\r\nhost: a\r\nif-match: \"another\"\r\n\r\n"), 412),
        (format!("HEAD /messages/{digest} HTTP/1.1\r\nhost: a\r\nif-match: \"another\"\r\n\r\n"), 412),
        (format!("GET /messages/{digest} HTTP/1.1\r\nhost: a\r\nif-match: *\r\n\r\n"), 200),
        (format!("GET /messages/{digest} HTTP/1.1\r\nhost: a\r\nif-none-match: *\r\n\r\n"), 304),
        (
            format!("GET /messages/{digest} HTTP/1.1\r\nhost: a\r\nif-none-match: \"{digest}-json\"\r\n\r\n"),
            304,
        ),
        (format!("GET /messages/{digest} HTTP/1.1\r\nhost: a\r\nif-none-match: \"{digest}\"\r\n\r\n"), 200),
        (
            format!(
                "GET /messages/{digest} HTTP/1.1\r\nhost: a\r\naccept: text/plain\r\n\
                 if-none-match: \"{digest}\"\r\n\r\n"
            ),
            304,
        ),
    ] {
        let said = answer(http, raw.as_bytes()).await;
        assert_eq!(status(&said), expected, "{raw:?}: {said}");
    }
    let page = cluster.node(1).http.get("/messages?after=0&limit=10").await.expect("an answer").json();
    assert_eq!(page["messages"].as_array().expect("a page").len(), 2, "{page}");
}

/// RFC 6455, sections 4.2 and 7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_refused_and_ended_in_words_that_browsers_know() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    cluster.start(1).wait_ready().await;
    let http = cluster.node(1).http.address;
    let handshake = |version: &str, key: &str| {
        request(
            "GET /messages/live",
            http,
            &format!(
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: {version}\r\n\
                 sec-websocket-key: {key}\r\n"
            ),
            "",
        )
    };
    let refused = answer(http, &handshake("8", "dGhlIHNhbXBsZSBub25jZQ==")).await;
    assert_eq!(status(&refused), 400, "{refused}");
    assert!(refused.contains("sec-websocket-version: 13\r\n"), "{refused}");
    for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "!GhlIHNhbXBsZSBub25jZQ=="] {
        assert_eq!(status(&answer(http, &handshake("13", key)).await), 400, "{key:?}");
    }

    // A frame of a client, masked with zeros; what the node says when it ends the connection.
    let frame = |first: u8, payload: &[u8]| {
        let mut bytes = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        bytes.extend_from_slice(payload);
        bytes
    };
    let too_large = {
        let mut bytes = vec![0x82, 0x80 | 126, 0x20, 0x00, 0, 0, 0, 0];
        bytes.resize(bytes.len() + 0x2000, b'x');
        bytes
    };
    for (what, sent, code) in [
        ("a close", frame(0x88, &1000u16.to_be_bytes()), 1000u16),
        ("a reserved opcode", frame(0x83, b"x"), 1002),
        ("text that is not UTF-8", frame(0x81, b"\xff\xff"), 1007),
        ("a message that is too large", too_large, 1009),
    ] {
        let mut stream = TcpStream::connect(http).await.expect("the node listens");
        stream.write_all(&handshake("13", "dGhlIHNhbXBsZSBub25jZQ==")).await.expect("the node reads");
        let mut said = Vec::new();
        let mut byte = [0; 1];
        while !said.ends_with(b"\r\n\r\n") {
            timeout(PATIENCE, stream.read_exact(&mut byte)).await.expect("in time").expect("an answer");
            said.push(byte[0]);
        }
        assert_eq!(status(&String::from_utf8_lossy(&said)), 101, "{what}");
        stream.write_all(&sent).await.expect("the node reads");
        let mut rest = Vec::new();
        // A reset behind the close is an end, too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the node ends the connection");
        let close = rest.windows(4).rev().find(|bytes| bytes[0] == 0x88);
        let told = close.map(|bytes| u16::from_be_bytes([bytes[2], bytes[3]]));
        assert_eq!(told, Some(code), "{what}: {rest:?}");
    }
}
