//! The admin API.

use super::*;

async fn post(served: &Served, path: &str, body: &str) -> Answer {
    served.post_json(path, body).await
}

#[tokio::test]
async fn health_says_live_always_and_ready_or_why_not() {
    let served = admin().await;
    assert_eq!(served.get("/livez").await.status, 200);
    assert_eq!(served.get("/readyz").await.status, 200);
    served.fake.state.lock().unwrap().not_ready = Some("joining".into());
    assert_eq!(served.get("/livez").await.status, 200);
    let answer = served.get("/readyz").await;
    answer.is_problem(ProblemKind::NotReady);
    assert_eq!(answer.json()["detail"], "joining");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(served.get("/startedz").await.status, 200, "being started is another question");
    served.fake.state.lock().unwrap().not_started = Some("joining".into());
    served.get("/startedz").await.is_problem(ProblemKind::NotReady);
}

#[tokio::test]
async fn metrics_are_openmetrics_or_plain_text_as_is_asked_for() {
    let served = admin().await;
    let accept = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    let answer = served.ask(Method::GET, "/metrics", &accept, b"").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("skep_build_info") && text.ends_with("# EOF\n"));
    let answer = served.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("skep_build_info") && !text.contains("# EOF"));
}

#[tokio::test]
async fn the_cluster_is_shown_as_the_contract_has_it() {
    let served = admin().await;
    let cluster = served.get("/cluster").await.json();
    let members: Vec<_> = cluster.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["applied", "cluster_id", "committed", "leader", "members", "node_id", "term"]);
    let member: Vec<_> = cluster["members"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(member, ["http", "id", "peer", "raft", "role", "state", "version"]);
}

#[tokio::test]
async fn peers_are_listed() {
    let served = admin().await;
    let peers = served.get("/peers").await.json();
    assert_eq!(peers["peers"][0]["matched"], 7);
}

#[tokio::test]
async fn leadership_is_handed_to_the_one_named_or_to_whoever_is_best() {
    let served = admin().await;
    for (body, leader) in [
        (r#"{"to":"00000000000000c3"}"#, "00000000000000c3"),
        (r#"{"to":null}"#, "00000000000000b2"),
        ("{}", "00000000000000b2"),
    ] {
        let answer = post(&served, "/transfer-leader", body).await;
        assert_eq!((answer.status.as_u16(), answer.json()["leader"].as_str()), (200, Some(leader)));
    }
    let refused = post(&served, "/transfer-leader", r#"{"to":"00000000000000a1"}"#).await;
    refused.is_problem(ProblemKind::Refused);
}

#[tokio::test]
async fn a_node_is_removed_by_its_id() {
    let served = admin().await;
    let answer = post(&served, "/force-leave", r#"{"id":"00000000000000c3"}"#).await;
    assert_eq!(answer.json()["removed"], "00000000000000c3");
    assert_eq!(served.fake.state.lock().unwrap().removed.len(), 1);
}

#[tokio::test]
async fn a_bad_operators_request_is_refused() {
    let served = admin().await;
    for body in ["", "{}", "[]", r#"{"id":7}"#, r#"{"id":"7"}"#, r#"{"id":"00000000000000c3","x":1}"#] {
        post(&served, "/force-leave", body).await.is_problem(ProblemKind::InvalidRequest);
    }
    post(&served, "/transfer-leader", r#"{"too":null}"#).await.is_problem(ProblemKind::InvalidRequest);
    let large = format!(r#"{{"id":"{}"}}"#, "0".repeat(5000));
    post(&served, "/force-leave", &large).await.is_problem(ProblemKind::BodyTooLarge);
    assert!(served.fake.state.lock().unwrap().removed.is_empty());
}

#[tokio::test]
async fn the_time_of_what_is_written_is_set_back_by_a_post_alone() {
    let served = admin().await;
    let looked_at = served.get("/clock/mend").await.json();
    let fields: Vec<_> = looked_at.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["agreed_ms", "ahead", "mended", "messages", "newest_ms"]);
    assert_eq!((&looked_at["ahead"], &looked_at["mended"]), (&true.into(), &false.into()));
    for unclear in ["{}", r#"{"agreed_ms":7,"to":7}"#] {
        post(&served, "/clock/mend", unclear).await.is_problem(ProblemKind::InvalidRequest);
    }
    post(&served, "/clock/mend", r#"{"agreed_ms":7}"#).await.is_problem(ProblemKind::Refused);
    assert!(!served.fake.state.lock().unwrap().is_time_mended);
    let as_shown = format!(r#"{{"agreed_ms":{}}}"#, looked_at["agreed_ms"]);
    assert_eq!(post(&served, "/clock/mend", &as_shown).await.json()["mended"], true);
    post(&served, "/clock/mend", &as_shown).await.is_problem(ProblemKind::Refused);
}

#[tokio::test]
async fn a_change_in_a_content_type_that_a_web_page_can_send_is_refused() {
    let served = admin().await;
    let body = br#"{"id":"00000000000000c3"}"#;
    for headers in [&[][..], &[("content-type", "text/plain")]] {
        for path in ["/force-leave", "/transfer-leader", "/clock/mend", "/snapshot"] {
            let answer = served.ask(Method::POST, path, headers, body).await;
            answer.is_problem(ProblemKind::UnsupportedContentType);
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_streamed_out_and_in() {
    let served = admin().await;
    let answer = served.get("/snapshot").await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.body, "snapshot");
    let headers = [("content-type", "application/octet-stream")];
    let large = vec![7; 3 * 1024 * 1024];
    let restored = served.ask(Method::POST, "/snapshot", &headers, &large).await;
    assert_eq!(restored.json()["messages"], 7);
    assert_eq!(served.fake.state.lock().unwrap().restored, large);
}

#[tokio::test]
async fn a_snapshot_that_fails_on_the_way_ends_the_connection_early() {
    let served = admin().await;
    served.fake.state.lock().unwrap().snapshot_fails = true;
    let answer = served.raw(b"GET /snapshot HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn the_public_address_has_no_operators_routes_and_the_admin_address_no_messages() {
    let (public, admin) = (public().await, admin().await);
    for path in ["/transfer-leader", "/force-leave", "/snapshot", "/peers", "/cluster", "/metrics"] {
        public.get(path).await.is_problem(ProblemKind::NotFound);
    }
    admin.get("/messages").await.is_problem(ProblemKind::NotFound);
    admin.get("/force-leave").await.is_problem(ProblemKind::MethodNotAllowed);
}

#[tokio::test]
async fn a_message_is_removed_with_the_operators_token_alone_and_is_gone_then() {
    let served = admin().await;
    MessageApi::put_message(&served.fake, "text/plain".into(), "foo".into(), None).await.unwrap();
    let path = format!("/messages/{FOO}");
    for token in ["", "Bearer", "Bearer another-token-of-16", "Basic YTpi"] {
        let answer = served.ask(Method::DELETE, &path, &[("authorization", token)], b"").await;
        answer.is_problem(ProblemKind::NoOperator);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer)];
    let removed = served.ask(Method::DELETE, &path, &headers, b"").await;
    assert_eq!((removed.status.as_u16(), removed.json()["removed"].as_u64()), (200, Some(1)));
    served.ask(Method::DELETE, &path, &headers, b"").await.is_problem(ProblemKind::MessageGone);
    let absent = served.ask(Method::DELETE, &format!("/messages/{ABSENT}"), &headers, b"").await;
    absent.is_problem(ProblemKind::MessageNotFound);
    served.ask(Method::DELETE, "/messages/x", &headers, b"").await.is_problem(ProblemKind::InvalidDigest);
}

#[tokio::test]
async fn without_a_token_nobody_is_an_operator() {
    let served =
        serve_app(ServeLimits::default(), |fake, metrics| admin_app(fake, Tokens::default(), metrics)).await;
    let headers = [("authorization", "Bearer any-token-at-all")];
    let answer = served.ask(Method::DELETE, &format!("/messages/{FOO}"), &headers, b"").await;
    answer.is_problem(ProblemKind::NoOperators);
}
