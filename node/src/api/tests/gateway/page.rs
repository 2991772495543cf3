//! The page of the gateway and what it shows.

use super::*;

#[tokio::test]
async fn browsers_get_the_page_of_the_gateway_and_programs_the_document() {
    let (served, tag) = Served::with_document().await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    // The page says nothing by itself, so it needs no token.
    let page = served.ask(Method::GET, "/gateway", &[("accept", browser)], b"").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    assert_eq!(page.header("vary"), "accept");
    let text = String::from_utf8_lossy(&page.body).into_owned();
    for named in text.split('"').filter(|it| it.starts_with("/assets/")) {
        let asset = served.ask(Method::GET, named, &[], b"").await;
        assert_eq!(asset.status.as_u16(), 200, "{named}");
    }
    for accept in ["*/*", "application/json", "text/*", "text/html;q=0.5, application/json"] {
        let answer = served.change(Method::GET, "/gateway", &[("accept", accept)], "").await;
        assert_eq!((&*answer.body, answer.header("etag")), (READER.as_bytes(), &*tag), "{accept}");
        assert_eq!(answer.header("vary"), "accept");
    }
    served.ask(Method::GET, "/gateway", &[], b"").await.is_problem(ProblemKind::NoOperator);
    served.ask(Method::GET, "/assets/queues.html", &[], b"").await.is_problem(ProblemKind::NotFound);
}

#[tokio::test]
async fn operators_alone_see_what_becomes_of_the_document() {
    use crate::service::figures::Heard;
    use skep_gateway::figures::Figures;
    use skep_members::gossip::{GatewayAt, PeerRecord, Program, View};
    let served = admin().await;
    let seen = served.see("/gateway/seen").await.json();
    let nothing = (&seen["revision"], &seen["time"], &seen["routes"]);
    assert_eq!(nothing, (&0.into(), &serde_json::Value::Null, &serde_json::json!([])));
    served.put("/gateway?source=a%20file", &[("if-none-match", "*")], READER).await;
    let id = skep_base::id::NodeId(7);
    let mut told = Figures { over_ms: 500, ..Figures::default() };
    told.all.recent = 10;
    told.all.answers[2] = 30;
    told.routes = vec![("read".into(), told.all)];
    served.fake.state.lock().unwrap().figures = [(id, Heard::new(told, std::time::Instant::now()))].into();
    let view = served.fake.members.borrow().clone();
    let gateway = Some(GatewayAt::default());
    let live = vec![PeerRecord { id, program: Program::Balancer, gateway, ..view.me.clone() }];
    served.fake.members.send_replace(std::sync::Arc::new(View { live, ..(*view).clone() }));
    // Twice, of which the second time the document is known.
    for _ in 0..2 {
        let answer = served.see("/gateway/seen").await;
        let seen = answer.json();
        assert_eq!(
            (answer.header("cache-control"), &seen["revision"], &seen["source"]),
            ("no-store", &1.into(), &"a file".into())
        );
        let route = &seen["routes"][0];
        assert_eq!((&route["name"], &route["requests_per_s"]), (&"read".into(), &20.0.into()));
        assert_eq!((&route["answers"]["2xx"], &seen["balancers"][0]["stand"]), (&30.into(), &"late".into()));
    }
    served.put("/gateway/routes/other", &[], r#"{"match":{"path":"/o"},"service":"reader"}"#).await;
    let seen = served.see("/gateway/seen").await.json();
    assert_eq!((&seen["revision"], &seen["of"]["routes"]), (&2.into(), &2.into()), "the newest");
    let of_gateway = format!("Bearer {GATEWAY_TOKEN}");
    for token in ["Bearer another-token-of-nobody", &of_gateway] {
        let answer = served.ask(Method::GET, "/gateway/seen", &[("authorization", token)], b"").await;
        answer.is_problem(ProblemKind::NoOperator);
    }
    served.ask(Method::GET, "/gateway/seen", &[], b"").await.is_problem(ProblemKind::NoOperator);
}
