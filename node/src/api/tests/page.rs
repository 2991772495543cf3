//! The page, the API's document, the members, and what operators may do on the public address.

use super::*;

#[tokio::test]
async fn the_page_and_its_files_come_under_a_policy_that_admits_nothing_else() {
    let served = public().await;
    let page = served.get("/").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    for path in ["/", "/assets/page.css", "/assets/page.js", "/assets/feed.js", "/docs", "/assets/docs.js"] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let etag = answer.header("etag").to_owned();
        let again = served.ask(Method::GET, path, &[("if-none-match", &etag)], b"").await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    }
    let packed =
        served.ask(Method::GET, "/assets/swagger-ui.js", &[("accept-encoding", "gzip, br")], b"").await;
    assert_eq!((packed.header("content-encoding"), &packed.body[..2]), ("gzip", &[0x1f, 0x8b][..]));
    let plain =
        served.ask(Method::GET, "/assets/swagger-ui.js", &[("accept-encoding", "identity")], b"").await;
    plain.is_problem(ProblemKind::NotAcceptable);
}

#[tokio::test]
async fn the_document_describes_what_is_served() {
    let served = public().await;
    let document = served.get("/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            // These do not end.
            if path == "/messages/live" || path == "/workers/{worker}/stream" {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = served.ask(method, &path.replace("{digest}", FOO), &[], b"").await;
            let nothing_there = ProblemKind::NotFound.uri().as_bytes();
            let is_unknown = answer.body.windows(nothing_there.len()).any(|part| part == nothing_there);
            assert!(answer.status != 405 && !is_unknown, "{path}: {:?}", answer.body);
        }
    }
}

#[tokio::test]
async fn the_members_are_shown_with_how_busy_each_is() {
    let served = public().await;
    let members = served.get("/members").await.json();
    assert_eq!(members["node_id"], fake::NODE_ID);
    let member = &members["members"][0];
    let names: Vec<_> = member.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["id", "lag", "live_readers", "raft", "requests_per_second", "state", "version"]);
    assert_eq!(
        (&member["raft"], &member["lag"], &member["live_readers"]),
        (&"leader".into(), &0.into(), &0.into())
    );
    let own = served.get("/members/self").await.json();
    assert_eq!((&own["node_id"], &own["applied"]), (&fake::NODE_ID.into(), &7.into()));
}

#[tokio::test]
async fn everything_is_exported_to_operators_alone() {
    let served = public().await;
    served.post_json("/messages", r#"{"message":"foo"}"#).await;
    for path in ["/operator", "/export"] {
        served.get(path).await.is_problem(ProblemKind::NoOperator);
        let headers = [("authorization", "Bearer another-one-of-16-bytes")];
        served.ask(Method::GET, path, &headers, b"").await.is_problem(ProblemKind::NoOperator);
    }
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer)];
    assert_eq!(served.ask(Method::GET, "/operator", &headers, b"").await.status, 204);
    let export = served.ask(Method::GET, "/export", &headers, b"").await;
    assert_eq!(export.header("content-disposition"), "attachment; filename=\"skep-messages.ndjson\"");
    assert_eq!(export.json()["message"], "foo");
}
