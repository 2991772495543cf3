use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::tls::peer_tls;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

async fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buf = [0; 1024];
            let _ = stream.read(&mut buf).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

/// What comes to be said: on a busy machine one question or another is not answered in time.
async fn said(asked: &mut Asked) -> Health {
    for _ in 0..10 {
        if let Some(answer) = asked.ask().await {
            return answer.unwrap();
        }
    }
    panic!("no answer in time");
}

#[tokio::test]
async fn a_probe_tells_ready_from_not_ready_from_gone() {
    let asked = async |probe| said(&mut Asked::new(probe, ([127, 0, 0, 1], 1).into(), None)).await;
    let ready = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(asked(Probe::Readyz(ready)).await, Health::Up);
    let unready = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
    assert_eq!(asked(Probe::Readyz(unready)).await, Health::Unready);
    assert_eq!(asked(Probe::Connects(unready)).await, Health::Up);
    let missing = server(b"HTTP/1.0 404 Not Found\r\n\r\n").await;
    assert_eq!(asked(Probe::Answers(missing)).await, Health::Up);
    assert_eq!(asked(Probe::Check(missing, "/health".into())).await, Health::Unready);
    let other = server(b"220 mail.test ESMTP\r\n").await;
    assert_eq!(asked(Probe::Readyz(other)).await, Health::Unready);
    let silent = server(b"").await;
    assert_eq!(asked(Probe::Readyz(silent)).await, Health::Refused);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(asked(Probe::Readyz(gone)).await, Health::Refused);
    assert_eq!(asked(Probe::Connects(gone)).await, Health::Refused);
}

#[test]
fn one_refusal_or_silence_is_chance_two_are_believed_and_ones_own_lack_says_nothing() {
    let refused = || Some(Ok(Health::Refused));
    let unreachable = || Some(Ok(Health::Silent));
    let lack = || Some(Err(io::Error::from_raw_os_error(libc::EMFILE)));
    let mut row = Row::default();
    for (answer, believed) in [
        (refused(), None),
        (Some(Ok(Health::Up)), Some(Health::Up)),
        (refused(), None),
        (lack(), None),
        (refused(), Some(Health::Refused)),
        (Some(Ok(Health::Up)), Some(Health::Up)),
        (None, None),
        (lack(), None),
        (None, Some(Health::Silent)),
        (refused(), Some(Health::Refused)),
        (None, Some(Health::Refused)),
        (unreachable(), Some(Health::Silent)),
        (Some(Ok(Health::Unready)), Some(Health::Unready)),
        (lack(), None),
        (refused(), None),
        (None, Some(Health::Refused)),
        (Some(Ok(Health::Up)), Some(Health::Up)),
        (unreachable(), None),
        (None, Some(Health::Silent)),
    ] {
        let what = format!("{answer:?}");
        assert_eq!(row.next(answer).0, believed, "{what}");
    }
}

#[test]
fn who_cannot_be_reached_has_not_refused() {
    for (code, refuses) in [
        (libc::ECONNREFUSED, true),
        (libc::ECONNRESET, true),
        (libc::EHOSTUNREACH, false),
        (libc::ENETUNREACH, false),
        (libc::ETIMEDOUT, false),
    ] {
        assert_eq!(is_refusal(&io::Error::from_raw_os_error(code)), refuses, "{code}");
    }
    let mut row = Row::default();
    assert_eq!(row.next(Some(Ok(Health::Silent))), (None, TIMEOUT), "it is not asked in a busy loop");
}

/// Speaks TLS and answers while it is `open`, and then takes no more connections.
async fn sealed(keys: &KeyRing, open: watch::Receiver<bool>) -> SocketAddr {
    let acceptor = tokio_rustls::TlsAcceptor::from(peer_tls(keys).unwrap().for_http().server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut waiting = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            if !*open.borrow() {
                waiting.push(stream);
                continue;
            }
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut buf = [0; 1024];
            let _ = stream.read(&mut buf).await;
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test]
async fn who_takes_no_more_connections_is_well_by_its_own_word_where_it_has_proved_who_it_is() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let tls = BackendTls::of_members(Keys::of_edge(keys.clone().into()).unwrap());
    let (opening, open) = watch::channel(true);
    let http = sealed(&keys, open).await;
    let ready = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    for probe in [Probe::Readyz(ready), Probe::Connects(http)] {
        opening.send_replace(true);
        let mut asked = Asked::new(probe.clone(), http, Some(tls.clone()));
        // A proof that takes too long says nothing.
        for _ in 0..10 {
            if said(&mut asked).await == Health::Up {
                break;
            }
        }
        assert!(asked.trusted, "{probe:?}");
        opening.send_replace(false);
        for _ in 0..2 {
            asked.proof_asked = None;
            assert_eq!(said(&mut asked).await, Health::Up, "{probe:?}");
        }
        let mut never = Asked::new(probe.clone(), http, Some(tls.clone()));
        for _ in 0..2 {
            assert_eq!(said(&mut never).await, Health::Unready, "{probe:?}");
        }
        // Another comes in its place.
        let (_open, open) = watch::channel(true);
        asked.http = sealed(&KeyRing::insecure_loopback(), open).await;
        if let Probe::Connects(address) = &mut asked.probe {
            *address = asked.http;
        }
        let mut found = Health::Up;
        for _ in 0..10 {
            asked.proof_asked = None;
            found = said(&mut asked).await;
            if found != Health::Up {
                break;
            }
        }
        assert_eq!((found, asked.trusted), (Health::Untrusted, false), "{probe:?}");
    }
}

#[tokio::test]
async fn a_hung_backend_is_silent_after_two_time_outs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut target = crate::pools::source::fixed(&[address], None).remove(0);
    target.probe = Probe::Readyz(address);
    let mut quickest = Duration::MAX;
    // A busy machine may hold up one or another.
    for _ in 0..5 {
        let (results, mut incoming) = mpsc::channel(1);
        let begun = std::time::Instant::now();
        let probe = start(7, &target, None, results);
        assert_eq!(incoming.recv().await, Some((7, Health::Silent)));
        quickest = quickest.min(begun.elapsed());
        probe.abort();
        if quickest < Duration::from_millis(1800) {
            return;
        }
    }
    panic!("{quickest:?}");
}
