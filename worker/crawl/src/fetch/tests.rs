use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{NameServer, Site, answer, html};

fn fetcher(allowed: &[&str]) -> Fetcher {
    Fetcher::new(allowed.iter().map(|it| it.parse().unwrap()).collect(), &[]).unwrap()
}

/// One that asks no other name server.
fn asking(server: &NameServer, allowed: &[&str]) -> Fetcher {
    let mut config = NameServerConfig::udp(server.address.ip());
    config.connections[0].port = server.address.port();
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    let mut fetcher = fetcher(allowed);
    fetcher.names = Names::Of(builder.build().unwrap());
    fetcher
}

async fn get(fetcher: &Fetcher, url: &str) -> Result<(StatusCode, Body), Fault> {
    let answer = fetcher.get(&mut Visit::default(), &Url::parse(url).unwrap()).await?;
    Ok((answer.status, answer.body(1_000_000).await?))
}

async fn body(fetcher: &Fetcher, url: &str) -> Vec<u8> {
    get(fetcher, url).await.unwrap().1.bytes
}

#[tokio::test]
async fn no_literal_of_a_refused_address_is_connected_to_however_it_is_written() {
    let site = Site::start(|_| html("x")).await;
    let v6 = Site::at("[::1]:0".parse().unwrap(), None, |_| html("x")).await;
    let port = site.address.port();
    let fetcher = fetcher(&[]);
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "0177.0.0.01",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "127。0。0。1",
        "127.0.0.2",
        "127.255.255.254",
        "0.0.0.0",
        "0",
        "localhost",
        "LocalHost.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[::]",
    ] {
        let result = get(&fetcher, &format!("http://{host}:{port}/")).await;
        let is_name = host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case("localhost.");
        let is_refused = match &result {
            Err(Fault::NoAddress { .. }) => is_name,
            Err(Fault::Refused(_)) => !is_name,
            _ => false,
        };
        assert!(is_refused, "{host}: {result:?}");
    }
    let result = get(&fetcher, &format!("http://[::1]:{}/", v6.address.port())).await;
    assert!(matches!(result, Err(Fault::Refused(_))), "{result:?}");
    // Not by another port, not by another scheme.
    for url in ["http://127.0.0.1/", "https://127.0.0.1/", "http://169.254.169.254/latest/meta-data/"] {
        let result = get(&fetcher, url).await;
        assert!(matches!(result, Err(Fault::Refused(Refused::Address(..)))), "{url}: {result:?}");
    }
    assert_eq!((site.connections(), v6.connections()), (0, 0));
}

#[tokio::test]
async fn what_is_allowed_is_asked_and_what_is_sent_names_nobody() {
    let site = Site::start(|_| html("x")).await;
    let fetcher = fetcher(&["127.0.0.0/8:*"]);
    let url = format!("http://user:secret@{}/a%20b?c", site.address);
    assert_eq!(body(&fetcher, &url).await, b"x");
    let expected = format!(
        "GET /a%20b?c HTTP/1.1\r\nhost: {}\r\nuser-agent: {AGENT}\r\naccept: {ACCEPTED}\r\naccept-encoding: {}",
        site.address,
        decode::ACCEPTED
    );
    assert_eq!(site.heads(), [expected]);
}

#[tokio::test]
async fn of_a_name_with_several_addresses_none_that_is_refused_is_connected_to() {
    let good = Site::at("127.0.0.2:0".parse().unwrap(), None, |_| html("good")).await;
    let bad =
        Site::at(SocketAddr::new([127, 0, 0, 3].into(), good.address.port()), None, |_| html("bad")).await;
    let addresses = vec![[127, 0, 0, 3].into(), [127, 0, 0, 2].into(), [10, 0, 0, 1].into()];
    let server = NameServer::start(vec![addresses]).await;
    let fetcher = asking(&server, &["127.0.0.2:*"]);
    let url = format!("http://site.example:{}/", good.address.port());
    assert_eq!(body(&fetcher, &url).await, b"good");
    assert_eq!((good.connections(), bad.connections()), (1, 0));
}

#[tokio::test]
async fn a_name_that_is_bound_anew_is_judged_anew() {
    let good =
        Site::at("127.0.0.2:0".parse().unwrap(), None, |_| answer(200, &[("Connection", "close")], "good"))
            .await;
    let bad =
        Site::at(SocketAddr::new([127, 0, 0, 3].into(), good.address.port()), None, |_| html("bad")).await;
    let server = NameServer::start(vec![vec![[127, 0, 0, 2].into()], vec![[127, 0, 0, 3].into()]]).await;
    let fetcher = asking(&server, &["127.0.0.2:*"]);
    let url = Url::parse(&format!("http://site.example:{}/", good.address.port())).unwrap();
    let mut visit = Visit::default();
    let first = fetcher.get(&mut visit, &url).await.unwrap();
    assert_eq!(first.body(10).await.unwrap().bytes, b"good");
    let second = fetcher.get(&mut visit, &url).await;
    let said = second.unwrap_err().to_string();
    assert_eq!(said, "site.example has no public address", "it does not tell which it has");
    assert_eq!((good.connections(), bad.connections()), (1, 0));
}

#[tokio::test]
async fn a_name_without_addresses_says_so() {
    let server = NameServer::start(vec![Vec::new()]).await;
    let result = get(&asking(&server, &[]), "http://nobody.example/").await;
    assert!(matches!(&result, Err(Fault::NoAddress { host }) if host == "nobody.example"), "{result:?}");
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_does_not_answer() {
    let site = Site::at("127.0.0.3:0".parse().unwrap(), None, |_| html("x")).await;
    let server = NameServer::start(vec![vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()]]).await;
    let fetcher = asking(&server, &["127.0.0.0/8:*"]);
    assert_eq!(body(&fetcher, &format!("http://a.example:{}/", site.address.port())).await, b"x");
}

#[tokio::test]
async fn one_connection_is_kept_for_one_origin_and_opened_anew_where_it_is_closed() {
    let site = Site::start(|path| match path {
        "/close" => answer(200, &[("Connection", "close")], "x"),
        _ => html("x"),
    })
    .await;
    let other = Site::start(|_| html("x")).await;
    let fetcher = fetcher(&["127.0.0.1:*"]);
    let mut visit = Visit::default();
    for (url, connections) in [
        (site.url("/"), 1),
        (site.url("/"), 1),
        (site.url("/close"), 1),
        (site.url("/"), 2),
        (other.url("/"), 2),
    ] {
        let answer = fetcher.get(&mut visit, &Url::parse(&url).unwrap()).await.unwrap();
        assert_eq!(answer.body(10).await.unwrap().bytes, b"x");
        assert_eq!(site.connections(), connections, "{url}");
    }
    assert_eq!(other.connections(), 1);
}

#[tokio::test]
async fn tls_is_of_whom_it_is_trusted_to_be() {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["site.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let site = Site::at("127.0.0.1:0".parse().unwrap(), Some(acceptor), |_| html("x")).await;
    let port = site.address.port();
    let server = NameServer::start(vec![vec![[127, 0, 0, 1].into()]]).await;
    let with = |roots: &[CertificateDer<'static>]| {
        let mut fetcher = Fetcher::new(vec!["127.0.0.1:*".parse().unwrap()], roots).unwrap();
        fetcher.names = asking(&server, &[]).names;
        fetcher
    };
    let trusting = with(&[cert.der().clone()]);
    for host in ["site.example", "127.0.0.1"] {
        assert_eq!(body(&trusting, &format!("https://{host}:{port}/")).await, b"x");
    }
    let heads = site.heads().len();
    for (fetcher, host) in [(&trusting, "other.example"), (&with(&[]), "site.example")] {
        let result = get(fetcher, &format!("https://{host}:{port}/")).await;
        assert!(matches!(result, Err(Fault::Connect { .. })), "{host}: {result:?}");
    }
    assert_eq!(site.heads().len(), heads, "nothing is sent to a stranger");
}

#[tokio::test]
async fn a_body_is_read_to_its_bound() {
    let site = Site::start(|_| html("0123456789")).await;
    let fetcher = fetcher(&["127.0.0.1:*"]);
    let url = Url::parse(&site.url("/")).unwrap();
    for (most, expected, is_cut) in [(10, &b"0123456789"[..], false), (9, b"012345678", true), (0, b"", true)]
    {
        let answer = fetcher.get(&mut Visit::default(), &url).await.unwrap();
        let body = answer.body(most).await.unwrap();
        assert_eq!((body.bytes.as_slice(), body.is_cut), (expected, is_cut));
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_and_one_that_is_none_are_faults() {
    let site = Site::start(|path| match path {
        "/long" => answer(200, &[("X", &"x".repeat(HEAD_BYTES_MAX))], ""),
        "/many" => answer(200, &vec![("X", "x"); FIELDS_MAX + 1], ""),
        "/none" => b"SSH-2.0-x\r\n\r\n".to_vec(),
        "/old" => b"HTTP/1.0 200 OK\r\n\r\nx".to_vec(),
        _ => Vec::new(),
    })
    .await;
    let fetcher = fetcher(&["127.0.0.1:*"]);
    for path in ["/long", "/many", "/none", "/hangs-up"] {
        let result = get(&fetcher, &site.url(path)).await;
        assert!(matches!(result, Err(Fault::Http(_))), "{path}: {result:?}");
    }
}

#[tokio::test]
async fn who_never_answers_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fetcher = fetcher(&["127.0.0.1:*"]);
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silent = async {
        let kept = listener.accept().await.unwrap();
        // From here on nothing happens but that time passes.
        tokio::time::pause();
        std::future::pending::<()>().await;
        drop(kept);
    };
    tokio::select! {
        result = get(&fetcher, &url) => assert!(matches!(result, Err(Fault::HeadTimeout)), "{result:?}"),
        () = silent => unreachable!("it never ends"),
    }
}
