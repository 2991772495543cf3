//! The gateway's document on the admin address, and the watch of it on the public one.

mod certificates;
mod page;
mod purge;
mod sealed;
mod shifts;
mod sources;

use super::*;
use crate::kinds::gateway::GatewayApi as _;
use crate::service::ServiceError;
use crate::service::secrets::Stored;

const READER: &str = r#"{"routes":{"read":{"match":{"path":"/read"},"service":"reader"}},"services":{"reader":{"urls":["http://a:1"]}}}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

impl Served {
    async fn change(&self, method: Method, path: &str, more: &[(&str, &str)], body: &str) -> Answer {
        let bearer = bearer();
        let headers = [&[("authorization", &*bearer), JSON][..], more].concat();
        self.ask(method, path, &headers, body.as_bytes()).await
    }

    async fn see(&self, path: &str) -> Answer {
        self.change(Method::GET, path, &[], "").await
    }

    async fn put(&self, path: &str, more: &[(&str, &str)], body: &str) -> Answer {
        self.change(Method::PUT, path, more, body).await
    }

    /// One with a document, and its tag.
    async fn with_document() -> (Served, String) {
        let served = admin().await;
        let answer = served.put("/gateway", &[("if-none-match", "*")], READER).await;
        assert_eq!(answer.status, 201);
        let tag = answer.header("etag").to_owned();
        (served, tag)
    }
}

#[tokio::test]
async fn the_first_document_is_set_where_there_is_none_and_read_as_it_is_kept() {
    let (served, tag) = Served::with_document().await;
    assert_eq!(tag, format!("\"{:032x}.1\"", 0xab));
    let answer = served.see("/gateway").await;
    assert_eq!((&*answer.body, answer.header("etag")), (READER.as_bytes(), &*tag));
    let seen = served.change(Method::GET, "/gateway", &[("if-none-match", &tag)], "").await;
    assert_eq!(seen.status, 304);
    let again = served.put("/gateway", &[("if-none-match", "*")], "{}").await;
    again.is_problem(ProblemKind::PreconditionFailed);
}

#[tokio::test]
async fn where_nothing_is_configured_there_is_nothing() {
    let served = admin().await;
    for path in ["/gateway", "/gateway/routes/read"] {
        served.see(path).await.is_problem(ProblemKind::NoGateway);
    }
    let history = served.see("/gateway/history").await.json();
    assert_eq!((&history["revision"], &history["revisions"]), (&0.into(), &serde_json::json!([])));
    served.put("/gateway", &[("if-match", "*")], "{}").await.is_problem(ProblemKind::PreconditionFailed);
}

#[tokio::test]
async fn who_changes_the_whole_document_says_of_which_one_it_was_made() {
    let (served, tag) = Served::with_document().await;
    served.put("/gateway", &[], "{}").await.is_problem(ProblemKind::PreconditionRequired);
    let other = [("if-match", "\"000000000000000000000000000000ac.1\"")];
    served.put("/gateway", &other, "{}").await.is_problem(ProblemKind::PreconditionFailed);
    let toml = served
        .ask(
            Method::PUT,
            "/gateway?source=a%20file",
            &[("authorization", &*bearer()), ("content-type", "application/toml"), ("if-match", &*tag)],
            b"unmatched = \"not-found\"\n",
        )
        .await;
    let expected = serde_json::json!({
        "lineage": format!("{:032x}", 0xab),
        "revision": 2,
        "added": ["unmatched"],
        "changed": [],
        "removed": ["routes/read", "services/reader"],
    });
    assert_eq!((toml.status.as_u16(), toml.json()), (200, expected));
    served.put("/gateway", &[("if-match", &tag)], READER).await.is_problem(ProblemKind::PreconditionFailed);
    let history = served.see("/gateway/history").await.json();
    let sources: Vec<_> = history["revisions"].as_array().unwrap().iter().map(|it| &it["source"]).collect();
    assert_eq!(sources, ["a file", "api"]);
}

#[tokio::test]
async fn a_document_that_is_only_tried_changes_nothing() {
    let (served, tag) = Served::with_document().await;
    let answer = served.put("/gateway?dry-run", &[], "{}").await.json();
    assert_eq!((&answer["revision"], answer["removed"].as_array().unwrap().len()), (&1.into(), 2));
    assert_eq!(served.see("/gateway").await.header("etag"), tag);
    let same = served.put("/gateway", &[("if-match", &tag)], READER).await;
    assert_eq!(
        (same.status.as_u16(), &same.json()["revision"]),
        (200, &1.into()),
        "what says the same is none"
    );
}

#[tokio::test]
async fn each_fault_is_named_by_its_place_and_nothing_is_changed() {
    let (served, tag) = Served::with_document().await;
    let bad = r#"{"services":{"a":{"urls":7}},"routes":{"b":{"match":{"path":"x"},"service":"a"}},"x":1}"#;
    let answer = served.put("/gateway", &[("if-match", &tag)], bad).await;
    answer.is_problem(ProblemKind::InvalidGateway);
    let problem = answer.json();
    let places: Vec<_> = problem["faults"].as_array().unwrap().iter().map(|it| &it["pointer"]).collect();
    for place in ["/services/a/urls", "/routes/b/match/path", "/x"] {
        assert!(places.iter().any(|it| **it == place), "{place} in {problem}");
    }
    let dangling = r#"{"routes":{"b":{"match":{"path":"/x"},"service":"a"}}}"#;
    served.put("/gateway", &[("if-match", &tag)], dangling).await.is_problem(ProblemKind::GatewayClash);
    let twice = r#""read":{"match":{"path":"/read"},"service":"reader"},"again""#;
    let tie = READER.replace("\"read\"", twice);
    served.put("/gateway", &[("if-match", &tag)], &tie).await.is_problem(ProblemKind::GatewayClash);
    let large = " ".repeat(8 * 1024 * 1024 + 1);
    served.put("/gateway", &[("if-match", &tag)], &large).await.is_problem(ProblemKind::BodyTooLarge);
    assert_eq!(served.see("/gateway").await.body, READER);
}

#[tokio::test]
async fn one_object_is_read_set_and_taken_out() {
    let (served, tag) = Served::with_document().await;
    let answer = served.see("/gateway/services/reader").await;
    assert_eq!((&*answer.body, answer.header("etag")), (&br#"{"urls":["http://a:1"]}"#[..], &*tag));
    let new = served.put("/gateway/services/writer", &[], r#"{"urls":["http://b:1"]}"#).await;
    assert_eq!((new.status.as_u16(), &new.json()["added"]), (201, &serde_json::json!(["services/writer"])));
    let stale =
        served.put("/gateway/services/writer", &[("if-match", &tag)], r#"{"urls":["http://c:1"]}"#).await;
    stale.is_problem(ProblemKind::PreconditionFailed);
    let there = served.put("/gateway/services/writer", &[], r#"{"urls":["http://c:1"]}"#).await;
    assert_eq!((there.status.as_u16(), &there.json()["revision"]), (200, &3.into()));
    let held = served.change(Method::DELETE, "/gateway/services/reader", &[], "").await;
    held.is_problem(ProblemKind::GatewayClash);
    let gone = served.change(Method::DELETE, "/gateway/services/writer", &[], "").await;
    assert_eq!(
        (gone.status.as_u16(), &gone.json()["removed"]),
        (200, &serde_json::json!(["services/writer"]))
    );
    let again = served.change(Method::DELETE, "/gateway/services/writer", &[], "").await;
    again.is_problem(ProblemKind::NoGateway);
    served.see("/gateway/routers/read").await.is_problem(ProblemKind::NotFound);
}

#[tokio::test]
async fn a_document_of_the_past_is_the_newest_again_as_a_new_revision() {
    let (served, tag) = Served::with_document().await;
    served.put("/gateway", &[("if-match", &tag)], "{}").await;
    let back = |body: &'static str| served.change(Method::POST, "/gateway/rollback", &[], body);
    assert_eq!(back(r#"{"revision":1}"#).await.json()["revision"], 3);
    assert_eq!(served.see("/gateway").await.body, READER);
    back(r#"{"revision":9}"#).await.is_problem(ProblemKind::NoGateway);
    back(r#"{"revision":"1"}"#).await.is_problem(ProblemKind::InvalidRequest);
}

#[tokio::test]
async fn a_request_is_explained_by_the_document_that_is_kept() {
    let (served, _) = Served::with_document().await;
    let answer =
        served.change(Method::POST, "/gateway/explain", &[], r#"{"url":"http://x/read/1"}"#).await.json();
    let expected = serde_json::json!({
        "route": "read", "auth": null, "consumer": null, "limits": [], "policies": [], "outcome": "reader",
        "sent": "/read/1"
    });
    assert_eq!(answer, expected);
    let unclear = served.change(Method::POST, "/gateway/explain", &[], r#"{"uri":"http://x/read/1"}"#).await;
    unclear.is_problem(ProblemKind::InvalidRequest);
}

#[tokio::test]
async fn only_operators_read_and_change_the_document_and_no_web_page() {
    let (served, _) = Served::with_document().await;
    for (method, path) in [
        (Method::GET, "/gateway"),
        (Method::GET, "/gateway/services/reader"),
        (Method::GET, "/gateway/history"),
        (Method::POST, "/gateway/explain"),
        (Method::PUT, "/gateway?dry-run"),
        (Method::PUT, "/gateway/services/a"),
        (Method::DELETE, "/gateway/services/reader"),
        (Method::POST, "/gateway/rollback"),
    ] {
        let answer = served.ask(method.clone(), path, &[JSON], b"{}").await;
        answer.is_problem(ProblemKind::NoOperator);
    }
    let bearer = bearer();
    let plain = [("authorization", &*bearer), ("content-type", "text/plain")];
    let answer = served.ask(Method::PUT, "/gateway?dry-run", &plain, b"{}").await;
    answer.is_problem(ProblemKind::UnsupportedContentType);
    public().await.get("/gateway").await.is_problem(ProblemKind::NotFound);
}

#[tokio::test]
async fn of_a_document_that_cannot_be_read_nothing_is_said_or_made_and_another_takes_its_place() {
    let served = admin().await;
    let unreadable = Stored { document: Bytes::from_static(b"\xff{}"), keys: vec![] };
    served.fake.set_gateway(None, unreadable, "another version".into()).await.unwrap();
    served.see("/gateway/services/reader").await.is_problem(ProblemKind::OperationFailed);
    let question = r#"{"url":"http://x/read/1"}"#;
    let explained = served.change(Method::POST, "/gateway/explain", &[], question).await;
    explained.is_problem(ProblemKind::OperationFailed);
    let object = served.put("/gateway/services/writer", &[], r#"{"urls":["http://b:1"]}"#).await;
    object.is_problem(ProblemKind::OperationFailed);
    let whole = served.put("/gateway", &[("if-match", "*")], "{}").await;
    assert_eq!((whole.status.as_u16(), &whole.json()["revision"]), (200, &2.into()));
    assert_eq!(served.see("/gateway").await.body, "{}");
}

#[tokio::test]
async fn without_a_quorum_nothing_is_said_or_changed() {
    let (served, tag) = Served::with_document().await;
    served.fake.fail(ServiceError::Unavailable { detail: "no leader".into(), unprocessed: true });
    served.see("/gateway").await.is_problem(ProblemKind::Unavailable);
    served.put("/gateway", &[("if-match", &tag)], "{}").await.is_problem(ProblemKind::Unavailable);
}

#[tokio::test]
async fn who_has_shown_no_key_is_told_nothing_of_the_document() {
    let served = public().await;
    served.get("/-/gateway/watch").await.is_problem(ProblemKind::NoBalancer);
}

#[tokio::test]
async fn keys_go_in_and_what_is_kept_of_them_comes_out() {
    let (served, tag) = Served::with_document().await;
    let key = "alice-has-this-key-0001";
    let put = served.put("/gateway/consumers/alice", &[], &format!(r#"{{"keys":["{key}"]}}"#)).await;
    assert_eq!((put.status.as_u16(), &put.json()["added"][0]), (201, &"consumers/alice".into()));
    let kept = served.see("/gateway/consumers/alice").await;
    let shown = kept.json();
    let text = |answer: &Answer| String::from_utf8_lossy(&answer.body).into_owned();
    assert!(shown["keys"][0]["key"].as_str().unwrap().starts_with("sha256:"), "{shown}");
    let whole = served.see("/gateway").await;
    assert!(!text(&kept).contains(key) && !text(&whole).contains(key));
    let again = served.put("/gateway/consumers/alice", &[], &text(&kept)).await;
    assert_eq!(
        (again.status.as_u16(), again.header("etag")),
        (200, whole.header("etag")),
        "it says the same"
    );
    let bob = served.put("/gateway/consumers/bob", &[], &format!(r#"{{"keys":["{key}"]}}"#)).await;
    bob.is_problem(ProblemKind::GatewayClash);
    assert!(!text(&bob).contains(key), "{}", text(&bob));
    // What an operator asks about is not told back.
    let route = r#"{"match":{"path":"/x"},"service":"reader","auth":{"keys":true}}"#;
    assert_eq!(served.put("/gateway/routes/x", &[], route).await.status, 201);
    let question = format!(r#"{{"url":"http://a.test/x","headers":["x-api-key: {key}"]}}"#);
    let answer = served.change(Method::POST, "/gateway/explain", &[], &question).await;
    assert_eq!(answer.json()["consumer"], "alice");
    assert!(!text(&answer).contains(key), "{}", text(&answer));
    let wrong = question.replace(['[', ']'], "");
    let wrong = served.change(Method::POST, "/gateway/explain", &[], &wrong).await;
    wrong.is_problem(ProblemKind::InvalidRequest);
    assert!(!text(&wrong).contains(key), "{}", text(&wrong));
    let gone = served.change(Method::POST, "/gateway/rollback", &[], r#"{"revision":1}"#).await;
    assert_eq!((gone.status.as_u16(), &*tag), (200, &*format!("\"{:032x}.1\"", 0xab)));
}

#[tokio::test]
async fn passwords_go_in_and_their_hashes_come_out_and_the_same_again_is_no_change() {
    let (served, _) = Served::with_document().await;
    let given = r#"{"passwords":["hidden password",{"user":"b","password":"another hidden one"}]}"#;
    let put = served.put("/gateway/consumers/alice", &[], given).await;
    assert_eq!((put.status.as_u16(), &put.json()["added"][0]), (201, &"consumers/alice".into()));
    let text = |answer: &Answer| String::from_utf8_lossy(&answer.body).into_owned();
    let whole = served.see("/gateway").await;
    assert!(!text(&whole).contains("hidden"), "{}", text(&whole));
    assert_eq!(text(&whole).matches("$argon2id$v=19$m=19456,t=2,p=1$").count(), 2, "{}", text(&whole));
    let kept = text(&served.see("/gateway/consumers/alice").await);
    for again in [given, &kept] {
        let again = served.put("/gateway/consumers/alice", &[], again).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (200, whole.header("etag")), "no change");
    }
    let shown = served.see("/gateway/consumers/alice").await.json();
    let salts: Vec<_> =
        (0..2).map(|at| shown["passwords"][at]["password"].as_str().unwrap()[31..53].to_owned()).collect();
    assert_ne!(salts[0], salts[1]);
    let bob = served.put("/gateway/consumers/bob", &[], &given.replace("hidden p", "hidden q")).await;
    bob.is_problem(ProblemKind::GatewayClash);
    assert!(!text(&bob).contains("hidden"), "{}", text(&bob));
    let route = r#"{"match":{"path":"/x"},"service":"reader","auth":{"basic":true}}"#;
    assert_eq!(served.put("/gateway/routes/x", &[], route).await.status, 201);
    for (login, consumer) in
        [("YWxpY2U6aGlkZGVuIHBhc3N3b3Jk", "alice".into()), ("YWxpY2U6aGlkZGVuIHBhc3N3b3Jl", Value::Null)]
    {
        let question = format!(r#"{{"url":"http://a.test/x","headers":["authorization: Basic {login}"]}}"#);
        let answer = served.change(Method::POST, "/gateway/explain", &[], &question).await;
        assert_eq!(answer.json()["consumer"], consumer, "{}", text(&answer));
    }
}

#[tokio::test]
async fn who_wishes_so_is_answered_once_the_balancers_obey() {
    use skep_members::gossip::{GatewayAt, GatewayRevision, PeerRecord, Program, View};
    let (served, tag) = Served::with_document().await;
    let wish = [("if-match", &*tag), ("prefer", "wait=30")];
    let answer = served.put("/gateway?dry-run", &wish, "{}").await;
    assert!(answer.json()["of"].is_null(), "nothing was changed");
    let balancer = |revision: u64| {
        let view = served.fake.members.borrow().clone();
        let in_force = Some(GatewayRevision { lineage: 0xab, number: revision });
        let gateway = Some(GatewayAt { in_force, refused: None, purged: None });
        let id = skep_base::id::NodeId(7);
        let balancer = PeerRecord { id, program: Program::Balancer, gateway, ..view.me.clone() };
        served
            .fake
            .members
            .send_replace(std::sync::Arc::new(View { live: vec![balancer], ..(*view).clone() }));
    };
    balancer(1);
    let asking = served.put("/gateway", &wish, "{}");
    let obeying = async {
        // It is asked about once the document is kept.
        let mut newest = served.fake.newest_gateway();
        newest.wait_for(|it| it.is_some_and(|it| it.number == 2)).await.unwrap();
        balancer(2);
    };
    let (answer, ()) = tokio::join!(asking, obeying);
    let said = answer.json();
    assert_eq!(
        (&said["revision"], &said["seen_by"], &said["of"], &said["behind"]),
        (&2.into(), &1.into(), &1.into(), &serde_json::json!([])),
    );
    assert_eq!(answer.header("preference-applied"), "wait=30");
    let late = served.put(
        "/gateway/routes/gone",
        &[("prefer", "wait=0")],
        r#"{"match":{"path":"/gone"},"redirect":{"host":"a.test"}}"#,
    );
    let said = late.await.json();
    let id = "0000000000000007";
    assert_eq!(said["behind"], serde_json::json!([{ "id": id, "revision": 2, "why": "late" }]), "{said}");
    let plain = served
        .put("/gateway/routes/gone", &[], r#"{"match":{"path":"/gone"},"redirect":{"host":"b.test"}}"#)
        .await;
    assert!(plain.json()["of"].is_null() && plain.headers.get("preference-applied").is_none());
}

#[tokio::test]
async fn secrets_of_issuers_go_in_and_what_is_shown_of_them_is_their_digest() {
    let (served, tag) = Served::with_document().await;
    let text = |answer: &Answer| String::from_utf8_lossy(&answer.body).into_owned();
    let secret = "a hidden secret of thirty-two bytes";
    let issuer = format!(r#"{{"iss":"i","aud":"any","keys":[{{"kid":"k","secret":"{secret}"}}]}}"#);
    let put = served.put("/gateway/issuers/i", &[], &issuer).await;
    assert_eq!((put.status.as_u16(), &put.json()["added"][0]), (201, &"issuers/i".into()));
    // As it is kept, for balancers; and as it is shown.
    let kept = served.fake.gateway(|gateway| gateway.newest().unwrap().1.document.clone());
    assert!(String::from_utf8_lossy(&kept).contains(secret));
    let (one, whole) = (served.see("/gateway/issuers/i").await, served.see("/gateway").await);
    let history = served.see("/gateway/history").await;
    for shown in [&put, &one, &whole, &history] {
        assert!(!text(shown).contains("hidden"), "{}", text(shown));
    }
    assert!(one.json()["keys"][0]["secret"].as_str().unwrap().starts_with("sha256:"), "{}", text(&one));
    // What was shown means the same, one by one, whole, and after others came beside it.
    for (path, body, tag) in
        [("/gateway/issuers/i", &one, None), ("/gateway", &whole, Some(whole.header("etag")))]
    {
        let condition: Vec<_> = tag.map(|tag| ("if-match", tag)).into_iter().collect();
        let again = served.put(path, &condition, &text(body)).await;
        assert_eq!(
            (again.status.as_u16(), again.header("etag")),
            (200, whole.header("etag")),
            "{}",
            text(&again)
        );
    }
    let moved = served.put("/gateway/issuers/j", &[], &text(&one).replace("\"i\"", "\"j\"")).await;
    assert_eq!(moved.status, 201, "{}", text(&moved));
    let strange = text(&one).replace("sha256:", "sha256:0");
    let refused = served.put("/gateway/issuers/i", &[], &strange).await;
    refused.is_problem(ProblemKind::InvalidGateway);
    assert_eq!(refused.json()["faults"][0]["pointer"], "/issuers/i/keys/0/secret");
    let weak = served.put("/gateway/issuers/i", &[], &issuer.replace(secret, "hidden")).await;
    weak.is_problem(ProblemKind::InvalidGateway);
    assert!(!text(&weak).contains("hidden"), "{}", text(&weak));
    // Where it is gone, what was shown of it is nobody's; and a way back has it again.
    let document = served.see("/gateway").await;
    let back = served.change(Method::POST, "/gateway/rollback", &[], r#"{"revision":1}"#).await;
    assert_eq!((back.status.as_u16(), &*tag), (200, &*format!("\"{:032x}.1\"", 0xab)));
    let tag = back.header("etag").to_owned();
    let refused = served.put("/gateway", &[("if-match", &tag)], &text(&document)).await;
    refused.is_problem(ProblemKind::InvalidGateway);
    let back = served.change(Method::POST, "/gateway/rollback", &[], r#"{"revision":2}"#).await;
    assert_eq!(back.status, 200);
    let kept = served.fake.gateway(|gateway| gateway.newest().unwrap().1.document.clone());
    assert!(String::from_utf8_lossy(&kept).contains(secret));
}

#[tokio::test]
async fn the_gateways_token_reads_and_changes_the_document_and_its_objects_and_does_nothing_else() {
    let (served, tag) = Served::with_document().await;
    let bearer = format!("Bearer {GATEWAY_TOKEN}");
    let ask = async |method: Method, path: &str, condition: (&str, &str), body: &str| {
        let headers = [("authorization", &*bearer), JSON, condition];
        served.ask(method, path, &headers, body.as_bytes()).await
    };
    let any = ("x-any", "1");
    assert_eq!(ask(Method::GET, "/gateway", any, "").await.header("etag"), tag);
    let moved = READER.replace("/read", "/moved");
    assert_eq!(ask(Method::PUT, "/gateway", ("if-match", &tag), &moved).await.status, 200);
    let object = r#"{"urls":["http://b:1"]}"#;
    assert_eq!(ask(Method::PUT, "/gateway/services/b", any, object).await.status, 201);
    assert_eq!(ask(Method::GET, "/gateway/services/b", any, "").await.status, 200);
    assert_eq!(ask(Method::DELETE, "/gateway/services/b", any, "").await.status, 200);
    let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    for (method, path, body) in [
        (Method::GET, "/gateway/history".to_owned(), ""),
        (Method::POST, "/gateway/rollback".to_owned(), r#"{"revision":1}"#),
        (Method::POST, "/gateway/explain".to_owned(), r#"{"url":"http://a/"}"#),
        (Method::DELETE, format!("/messages/{digest}"), ""),
    ] {
        ask(method, &path, any, body).await.is_problem(ProblemKind::NoOperator);
    }
    let other = [("authorization", "Bearer another-token-of-somebody"), JSON];
    served.ask(Method::GET, "/gateway", &other, b"").await.is_problem(ProblemKind::NoOperator);
}
