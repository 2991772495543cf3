//! Answers that are compressed on their way to the client: whose, which, and what is said of them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use http_body_util::BodyExt;

use crate::harness::*;
use crate::http2::{full, h2, request, tls};

const DOCUMENT: &str = r#"
    services = {app.urls = ["http://127.0.0.1:1"], login.urls = ["http://127.0.0.1:2"]}
    consumers.ann.keys = ["0123456789abcdef"]
    [defaults]
    compress = {min = "100B", level = 3}
    [routes.app]
    service = "app"
    [routes.known]
    match.path = "/known"
    service = "app"
    auth.keys = true
    [routes.asked]
    match.path = "/asked"
    service = "app"
    ask = {service = "login", path = "/"}
    [routes.plain]
    match.path = "/plain"
    service = "app"
    compress = false
    [routes.stored]
    match.path = "/stored"
    service = "app"
    cache = true
    [routes.edited]
    match.path = "/edited"
    service = "app"
    response_headers.set = {cache-control = "no-transform"}
"#;

fn text() -> String {
    (0..2000).map(|n| format!("line {n} of a text that has some of everything\n")).collect()
}

/// An answer with these fields, each with its end, and a text.
fn with(fields: &str) -> String {
    let text = text();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{fields}content-length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// A service that answers each bodiless request by `answer`, of its head; and a balancer that compresses.
fn serving(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (Balancer, Scripted) {
    let app = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            served.send(answer(&head));
        }
    });
    let balancer = Balancer::start(&[]);
    let login = Scripted::plain("login");
    balancer.route(DOCUMENT, &[("app", &[app.address]), ("login", &[login.address])]);
    (balancer, app)
}

fn asking(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n")
}

/// The head and the body of an answer, as its framing has it.
fn whole(balancer: &Balancer, request: &str) -> (String, Vec<u8>) {
    let mut client = balancer.client();
    client.send(request);
    let mut bytes = Vec::new();
    client.0.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let body = bytes.split_off(end);
    let is_chunked = head.contains("transfer-encoding: chunked");
    (head, if is_chunked { dechunked(&body).0 } else { body })
}

/// The content of a chunked body as far as its chunks are whole, and what is behind the last.
fn dechunked(mut rest: &[u8]) -> (Vec<u8>, Option<String>) {
    let mut content = Vec::new();
    while let Some(end) = rest.windows(2).position(|it| it == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return (content, Some(String::from_utf8(rest.to_vec()).unwrap()));
        }
        let Some(piece) = rest.get(..size + 2) else { break };
        content.extend_from_slice(&piece[..size]);
        assert!(piece.ends_with(b"\r\n"));
        rest = &rest[size + 2..];
    }
    (content, None)
}

fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let of = |line: &'a str| line.split_once(": ").filter(|(it, _)| it.eq_ignore_ascii_case(name));
    head.lines().filter_map(of).map(|(_, value)| value).collect()
}

fn gunzipped(coded: &[u8]) -> String {
    let mut out = String::new();
    flate2::read::GzDecoder::new(coded).read_to_string(&mut out).unwrap();
    out
}

#[test]
fn an_answer_comes_in_the_coding_that_its_client_would_have_most() {
    let (balancer, app) = serving(|_| with("etag: \"a\"\r\naccept-ranges: bytes\r\n"));
    let (head, body) = whole(&balancer, &asking("/x", "accept-encoding: gzip, br\r\n"));
    assert_eq!(values(&head, "content-encoding"), ["gzip"], "{head}");
    assert_eq!(
        (values(&head, "etag"), values(&head, "vary")),
        (vec!["W/\"a--skep\""], vec!["accept-encoding"])
    );
    assert!(
        values(&head, "content-length").is_empty() && values(&head, "accept-ranges").is_empty(),
        "{head}"
    );
    assert!(gunzipped(&body) == text() && body.len() < text().len() / 3);
    let (head, body) = whole(&balancer, &asking("/x", "accept-encoding: gzip\r\naccept-encoding: zstd\r\n"));
    assert_eq!(values(&head, "content-encoding"), ["zstd"]);
    assert!(zstd::decode_all(body.as_slice()).unwrap() == text().as_bytes());
    for fields in ["", "accept-encoding: br, gzip;q=0\r\n", "accept-encoding: identity, gzip;q=0.5\r\n"] {
        let (head, body) = whole(&balancer, &asking("/x", fields));
        assert!(values(&head, "content-encoding").is_empty() && body == text().as_bytes(), "{fields}");
        assert_eq!((values(&head, "etag"), values(&head, "vary")), (vec!["\"a\""], vec!["accept-encoding"]));
        assert_eq!(values(&head, "content-length"), [text().len().to_string()]);
    }
    assert_eq!(app.heads().len(), 5);
    let stats = &balancer.stats;
    assert_eq!((stats.compressed_gzip.get(), stats.compressed_zstd.get()), (1, 1));
    wait("it is counted", || stats.compressed_bytes_in.get() == 2 * text().len() as u64);
    assert!(stats.compressed_bytes_out.get() < stats.compressed_bytes_in.get() / 3);
    // Its head alone says the same.
    let mut client = balancer.client();
    client.send("HEAD /x HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n");
    let head = client.rest();
    assert_eq!(
        (values(&head, "content-encoding"), values(&head, "etag")),
        (vec!["gzip"], vec!["W/\"a--skep\""])
    );
    assert!(values(&head, "content-length").is_empty(), "{head}");
}

#[test]
fn what_is_for_one_alone_is_not_compressed() {
    let (balancer, _) = serving(|head| match head {
        it if it.contains("/set") => with("set-cookie: a=b\r\n"),
        it if it.contains("/all") => with("cache-control: public, max-age=60\r\n"),
        _ => with(""),
    });
    for (target, fields, is_coded) in [
        ("/x", "", true),
        ("/x", "authorization: Basic x\r\n", false),
        ("/x", "cookie: a=b\r\n", false),
        ("/all", "cookie: a=b\r\n", true),
        ("/all", "authorization: Basic x\r\n", false),
        ("/set", "", false),
        ("/known", "x-api-key: 0123456789abcdef\r\n", false),
        ("/asked", "", false),
        ("/plain", "", false),
        ("/edited", "", false),
        ("/x", "cache-control: no-transform\r\n", false),
        ("/x", "range: bytes=0-1\r\n", false),
    ] {
        let (head, body) = whole(&balancer, &asking(target, &format!("accept-encoding: gzip\r\n{fields}")));
        assert_eq!(!values(&head, "content-encoding").is_empty(), is_coded, "{target} {fields}: {head}");
        assert_eq!(if is_coded { gunzipped(&body) } else { String::from_utf8(body).unwrap() }, text());
    }
    let old = "GET /x HTTP/1.0\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n";
    let (head, body) = whole(&balancer, old);
    assert!(values(&head, "content-encoding").is_empty() && body == text().as_bytes(), "{head}");
    let post = asking("/x", "accept-encoding: gzip\r\ncontent-length: 0\r\n").replace("GET", "POST");
    assert!(values(&whole(&balancer, &post).0, "content-encoding").is_empty());
}

#[test]
fn that_nothing_has_changed_is_told_by_the_tag_that_came_with_what_is_compressed() {
    let (balancer, app) = serving(|head| {
        // To the letter, as some services do.
        let is_had = head.to_ascii_lowercase().contains("if-none-match: \"a\"\r\n");
        let control = "cache-control: max-age=60\r\n";
        if is_had {
            format!("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n{control}\r\n")
        } else {
            with(&format!("etag: \"a\"\r\n{control}"))
        }
    });
    for (target, asked) in [("/x", 2), ("/stored", 1)] {
        let (head, _) = whole(&balancer, &asking(target, "accept-encoding: gzip\r\n"));
        let [tag] = values(&head, "etag")[..] else { panic!("{head}") };
        assert_eq!(tag, "W/\"a--skep\"");
        let fields = format!("accept-encoding: gzip\r\nif-none-match: {tag}\r\n");
        let (head, body) = whole(&balancer, &asking(target, &fields));
        assert!(head.starts_with("HTTP/1.1 304") && body.is_empty(), "{target}: {head}");
        assert_eq!((values(&head, "etag"), values(&head, "vary")), (vec![tag], vec!["accept-encoding"]));
        // Who has it as it is is told of that.
        let (head, _) =
            whole(&balancer, &asking(target, "accept-encoding: gzip\r\nif-none-match: \"a\"\r\n"));
        assert!(head.starts_with("HTTP/1.1 304") && values(&head, "etag") == ["\"a\""], "{target}: {head}");
        let count = app.heads().iter().filter(|it| it.contains(target)).count();
        assert_eq!(count, asked + usize::from(asked > 1), "{target}");
    }
}

#[test]
fn what_is_stored_is_as_it_came_and_each_client_gets_its_own_coding() {
    let (balancer, app) = serving(|_| with("cache-control: max-age=60\r\netag: \"a\"\r\n"));
    for fields in ["accept-encoding: gzip\r\n", "accept-encoding: zstd\r\n", "", "accept-encoding: gzip\r\n"]
    {
        let (head, body) = whole(&balancer, &asking("/stored", fields));
        let plain = match values(&head, "content-encoding")[..] {
            ["gzip"] => gunzipped(&body).into_bytes(),
            ["zstd"] => zstd::decode_all(body.as_slice()).unwrap(),
            _ => body,
        };
        assert!(plain == text().as_bytes(), "{fields}: {head}");
        assert_eq!(values(&head, "content-encoding").is_empty(), fields.is_empty());
        assert_eq!(values(&head, "vary"), ["accept-encoding"]);
    }
    assert_eq!(app.heads().len(), 1);
    let (head, body) = whole(&balancer, &asking("/stored", "accept-encoding: gzip\r\nrange: bytes=0-3\r\n"));
    assert!(
        head.starts_with("HTTP/1.1 206") && body == b"line" && values(&head, "etag") == ["\"a\""],
        "{head}"
    );
}

#[test]
fn what_comes_slowly_is_not_held_and_fields_behind_it_stay() {
    let go_on = Arc::new(AtomicBool::new(false));
    let may = go_on.clone();
    let app = Scripted::start(move |served| {
        served.head();
        let fields = "content-type: text/html\r\ntrailer: x-end\r\ntransfer-encoding: chunked\r\n";
        served.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n5\r\nfirst\r\n"));
        wait("the first piece is there", || may.load(SeqCst));
        served.send("6\r\n, last\r\n0\r\nx-end: 1\r\n\r\n");
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let mut client = balancer.client();
    client.send(asking("/x", "te: trailers\r\naccept-encoding: gzip\r\n"));
    let head = client.until("\r\n\r\n");
    assert_eq!(values(&head, "content-encoding"), ["gzip"], "{head}");
    let (mut bytes, mut piece) = (Vec::new(), [0; 1000]);
    loop {
        let n = client.0.read(&mut piece).unwrap();
        assert!(n > 0, "it ended");
        bytes.extend_from_slice(&piece[..n]);
        let (mut read, content) = ([0; 5], dechunked(&bytes).0);
        if flate2::read::GzDecoder::new(content.as_slice()).read_exact(&mut read).is_ok() {
            assert_eq!(&read, b"first");
            break;
        }
    }
    go_on.store(true, SeqCst);
    client.0.read_to_end(&mut bytes).unwrap();
    let (content, trailers) = dechunked(&bytes);
    assert_eq!(
        (gunzipped(&content).as_str(), trailers.as_deref()),
        ("first, last", Some("x-end: 1\r\n\r\n"))
    );
}

#[test]
fn an_answer_that_is_cut_is_not_made_whole() {
    let app = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5000\r\n\r\nbegin");
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let mut client = balancer.client();
    client.send(asking("/x", "accept-encoding: gzip\r\n"));
    let text = client.rest_or_reset();
    assert!(text.contains("content-encoding: gzip") && !text.ends_with("0\r\n\r\n"), "{text}");
}

#[test]
fn where_there_is_no_memory_for_it_an_answer_goes_as_it_is() {
    let app = Scripted::start(|served| {
        served.head();
        served.send(with(""));
    });
    let account = skep_balancer::core::account::Account::new(256 * 1024);
    let shared = skep_balancer::core::shared::Shared { account: Arc::new(account), ..Default::default() };
    let balancer = Balancer::of(&[], shared);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let (head, body) = whole(&balancer, &asking("/x", "accept-encoding: gzip\r\n"));
    assert!(values(&head, "content-encoding").is_empty() && body == text().as_bytes(), "{head}");
    assert_eq!(balancer.stats.compressed_full.get(), 1);
}

#[test]
fn a_long_answer_holds_no_core_and_gives_back_what_it_held() {
    let long = Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.contains("/short") {
                served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
                continue;
            }
            let text = text().repeat(200);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            served.send(head + &text);
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[long.address])]);
    let mut reader = balancer.client();
    reader.send(asking("/long", "accept-encoding: zstd\r\n"));
    // While it is coded, others are served.
    for _ in 0..20 {
        assert!(balancer.ask(&asking("/short", "")).ends_with("hi"));
    }
    let mut bytes = Vec::new();
    reader.0.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let content = dechunked(&bytes[end..]).0;
    assert!(zstd::decode_all(content.as_slice()).unwrap() == text().repeat(200).as_bytes());
    wait("what it held is given back", || balancer.shared.account.drawn() == 0);
}

#[tokio::test]
async fn http2_clients_get_it_too() {
    let (balancer, _) = serving(|_| with("etag: \"a\"\r\n"));
    let mut client = h2(tls(balancer.https, b"h2").await).await;
    let mut asked = request("GET", "/x", full(""));
    asked.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let answer = client.send_request(asked).await.unwrap();
    assert_eq!(
        (&answer.headers()["content-encoding"], &answer.headers()["etag"]),
        (&"gzip".parse().unwrap(), &"W/\"a--skep\"".parse().unwrap())
    );
    assert!(!answer.headers().contains_key("content-length"));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(gunzipped(&body) == text());
}
