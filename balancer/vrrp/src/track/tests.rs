//! What is asked, how often, and what the answers come to.

use tokio::net::TcpListener;

use super::*;

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_is_tracked_is_read_with_what_its_failure_costs() {
    let track = |text: &str| Track::parse(text).unwrap();
    let ready = track("http://127.0.0.1:8000/-/ready");
    assert_eq!(ready.address, "127.0.0.1:8000".parse().unwrap());
    assert_eq!((ready.path.as_deref(), ready.cost), (Some("/-/ready"), Cost::Fault));
    assert_eq!(track("http://localhost weight=50").cost, Cost::Weight(50));
    assert_eq!(track("http://[::1]:81/").address, "[::1]:81".parse().unwrap());
    assert_eq!(track("tcp://10.0.0.1:443 fault").path, None);
    for text in [
        "",
        "ftp://1.2.3.4",
        "http://name/",
        "tcp://10.0.0.1",
        "tcp://10.0.0.1:1 weight=0",
        "tcp://10.0.0.1:1 fault x",
    ] {
        assert!(Track::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_lack_of_backends_is_believed_once_it_lasts_and_a_clear_no_at_once() {
    let (well, mut row) = (Some(Found::Well), Row::default());
    assert_eq!(row.next(None, Some(Found::Weak)), Some(Found::Weak), "nothing else is known");
    for _ in 0..3 {
        for _ in 2..WEAK_MIN {
            assert_eq!(row.next(well, Some(Found::Weak)), None);
        }
        assert_eq!(row.next(well, well), well);
    }
    let last = (0..WEAK_MIN).map(|_| row.next(well, Some(Found::Weak))).last();
    assert_eq!(last, Some(Some(Found::Weak)));
    let weak = Some(Found::Weak);
    assert_eq!([(); 3].map(|()| row.next(weak, well)), [None, None, well]);
    assert_eq!(row.next(well, Some(Found::Failed)), Some(Found::Failed));
    let mut row = Row::default();
    let mixed = [weak, None, weak, None].map(|answer| row.next(well, answer));
    assert_eq!(mixed, [None, None, None, weak], "now this, now that: never well");
}

#[test]
fn a_silent_one_is_weak_and_one_that_drains_does_so_until_another_answers() {
    let (well, weak, failed) = (Some(Found::Well), Some(Found::Weak), Some(Found::Failed));
    let mut row = Row::default();
    assert_eq!([(); 2].map(|()| row.next(well, None)), [None, weak]);
    let drains = Some(Found::Drains);
    for nothing in [None, Some(Found::Ended)] {
        for _ in 0..2 * WEAK_MIN {
            assert_eq!(row.next(drains, nothing), drains, "{nothing:?}");
        }
    }
    let mut row = Row::default();
    let found: Vec<_> = (0..WEAK_MIN).map(|_| row.next(failed, Some(Found::Ended))).collect();
    assert!(found.iter().rev().skip(1).all(|it| *it == failed) && found.last() == Some(&weak), "{found:?}");
    assert_eq!(row.next(failed, weak), weak, "it says that it can serve nobody");
    assert_eq!(row.next(weak, Some(Found::Ended)), weak);
    assert_eq!([(); 3].map(|()| row.next(failed, well)), [None, None, well]);
}

#[tokio::test]
async fn one_that_takes_connections_and_ends_them_is_asked_no_more_often_than_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut assessment = start(vec![Track::parse(&format!("http://{address}/")).unwrap()], None);
    let begun = Instant::now();
    let (mut asked, mut is_weak) = (0, false);
    while !is_weak && asked < 100 {
        tokio::select! {
            accepted = listener.accept() => {
                drop(accepted);
                asked += 1;
            }
            told = assessment.changed() => {
                told.unwrap();
                is_weak = assessment.borrow().weak.is_some();
            }
        }
    }
    assert!(is_weak, "it was never well: the first answer counts");
    while begun.elapsed() < 5 * INTERVAL {
        if let Ok(accepted) = timeout(INTERVAL, listener.accept()).await {
            drop(accepted);
            asked += 1;
        }
    }
    assert!(asked <= 12, "{asked} connections in half a second");
}

#[tokio::test]
async fn one_that_is_well_and_lets_nobody_stay_is_asked_no_more_often_than_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut assessment = start(vec![Track::parse(&format!("tcp://{address}")).unwrap()], None);
    let mut asked = 0;
    let count = async {
        loop {
            drop(listener.accept().await.unwrap());
            asked += 1;
        }
    };
    assert!(timeout(5 * INTERVAL, count).await.is_err());
    assert!(asked <= 12, "{asked} connections in half a second");
    let is_well = |it: &Assessment| it.fault.is_none() && it.weak.is_none();
    assert!(is_well(&assessment.borrow_and_update()));
}

#[tokio::test]
async fn a_proxy_that_is_full_is_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 512]).await;
            let body = format!("{{\"detail\":\"{FULL}\"}}");
            let _ = stream.write_all(format!("HTTP/1.1 503 X\r\n\r\n{body}").as_bytes()).await;
        }
    });
    let mut assessment = start(vec![Track::parse(&format!("http://{address}/")).unwrap()], None);
    let is_well = |it: &Assessment| it.fault.is_none() && it.weak.is_none();
    timeout(PATIENCE, assessment.wait_for(is_well)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_process_that_ends_is_noticed_before_the_next_question_is_due() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 200];
            // The connection that only waits says nothing.
            let asked = timeout(Duration::from_millis(20), stream.read(&mut head)).await;
            if matches!(asked, Ok(Ok(n)) if n > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            } else {
                held.push(stream);
            }
        }
    });
    let mut assessment = start(vec![Track::parse(&format!("http://{address}/")).unwrap()], None);
    assert!(assessment.borrow().fault.is_some(), "nothing is claimed before it has answered");
    let wait = |fault: bool| move |it: &Assessment| it.fault.is_some() == fault;
    timeout(PATIENCE, assessment.wait_for(wait(false))).await.unwrap().unwrap();
    server.abort();
    timeout(PATIENCE, assessment.wait_for(wait(true))).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_proxy_that_can_serve_nobody_is_weak_and_one_that_must_not_fails() {
    for (answer, weak) in [
        ("503 Service Unavailable\r\ncontent-length: 20\r\n\r\nno backend is ready\n", true),
        ("503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n", false),
        ("503 Service Unavailable\r\ncontent-length: 13\r\n\r\na core hangs\n", true),
        ("503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", true),
        ("503 Too many", true),
        ("500 Internal Server Error\r\n\r\nno backend is ready\n", false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
            }
        });
        let mut assessment = start(vec![Track::parse(&format!("http://{address}/")).unwrap()], None);
        let told = |it: &Assessment| {
            it.weak.is_some() || it.fault.as_ref().is_some_and(|why| why.ends_with("fails"))
        };
        let found = timeout(PATIENCE, assessment.wait_for(told)).await.unwrap().unwrap().clone();
        assert_eq!((found.weak.is_some(), found.fault.is_none()), (weak, weak), "{answer}: {found:?}");
        server.abort();
    }
}

#[tokio::test]
async fn the_proxys_own_health_and_weights_are_put_together() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (health, own) = watch::channel(Health::Well);
    let track = Track::parse(&format!("tcp://{refused} weight=50")).unwrap();
    let mut assessment = start(vec![track], Some(own));
    let found = assessment.wait_for(|it| it.penalty == 50).await.unwrap().clone();
    assert_eq!((found.fault, found.weak), (None, None));
    health.send_replace(Health::Weak("no backend is ready"));
    assessment.wait_for(|it| it.weak.is_some()).await.unwrap();
    health.send_replace(Health::Fault("draining"));
    assessment.wait_for(|it| it.fault.is_some() && it.weak.is_none()).await.unwrap();
}
