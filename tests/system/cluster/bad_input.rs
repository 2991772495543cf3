//! One of each kind of bad input, at every node of a running cluster, which then still works.

use bytes::Bytes;
use hyper::Method;

use skep_kit::clients::http::Answer;
use skep_kit::clients::oracle::list;
use skep_kit::effort::machine_shared;
use skep_kit::{Client, Cluster};

const BODY_BYTES_MAX: usize = 1 << 20;

struct Case {
    what: &'static str,
    method: Method,
    path: String,
    content_type: &'static str,
    body: Bytes,
    statuses: &'static [u16],
}

fn post(what: &'static str, body: impl Into<Bytes>, statuses: &'static [u16]) -> Case {
    Case {
        what,
        method: Method::POST,
        path: "/messages".into(),
        content_type: "application/json",
        body: body.into(),
        statuses,
    }
}

fn request(what: &'static str, method: Method, path: &str, statuses: &'static [u16]) -> Case {
    Case { what, method, path: path.into(), content_type: "text/plain", body: Bytes::new(), statuses }
}

fn cases() -> Vec<Case> {
    let absent = "0".repeat(64);
    vec![
        post("no JSON", "{", &[400]),
        post("no message", r#"{"text":"foo"}"#, &[400, 422]),
        post("a message that is no string", r#"{"message":7}"#, &[400, 422]),
        post("a message that is null", r#"{"message":null}"#, &[400, 422]),
        post("an array", "[]", &[400, 422]),
        post("an empty body", "", &[400]),
        post("invalid UTF-8", Bytes::from_static(b"{\"message\":\"\xff\"}"), &[400]),
        post("deep nesting", "[".repeat(100_000), &[400]),
        post("a body over the limit", vec![b'x'; BODY_BYTES_MAX + 1], &[413]),
        Case {
            content_type: "application/octet-stream",
            ..post("raw bytes over the limit", vec![b'x'; BODY_BYTES_MAX + 1], &[413])
        },
        request("a digest that is none", Method::GET, "/messages/foo", &[400, 404]),
        request("a digest in capitals", Method::GET, &format!("/messages/{}", "A".repeat(64)), &[400, 404]),
        request("an absent digest", Method::GET, &format!("/messages/{absent}"), &[404]),
        request("an unknown path", Method::GET, "/nothing/here", &[404]),
        request("a path that climbs", Method::GET, "/messages/../../etc/passwd", &[400, 404]),
        request("a path with a wrong escape", Method::GET, "/messages/%ff%zz", &[400, 404]),
        request("a method that is not allowed", Method::DELETE, "/messages", &[405]),
        request("an unknown method", Method::from_bytes(b"BREW").expect("a token"), "/messages", &[405]),
        request("a limit of 0", Method::GET, "/messages?limit=0", &[400]),
        request("a limit that is no number", Method::GET, "/messages?limit=ten", &[400]),
        request("a negative after", Method::GET, "/messages?after=-1", &[400]),
        request("an after beyond 64 bits", Method::GET, "/messages?after=99999999999999999999999", &[400]),
    ]
}

async fn ask(client: &Client, case: &Case) -> Answer {
    let headers = [("content-type", case.content_type)];
    let result = client.send(case.method.clone(), &case.path, &headers, case.body.clone()).await;
    result.unwrap_or_else(|failure| panic!("{} at {}: {failure:?}", case.what, client.address))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_as_a_problem_and_harms_nothing() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    for client in cluster.clients() {
        for case in cases() {
            let answer = ask(&client, &case).await;
            assert!(case.statuses.contains(&answer.status), "{}: {answer:?}", case.what);
            let kind = answer.header("content-type");
            assert!(kind.starts_with("application/problem+json"), "{}: {answer:?}", case.what);
            let problem = answer.json();
            assert_eq!(
                problem["status"].as_u64(),
                Some(u64::from(answer.status)),
                "{}: {problem}",
                case.what
            );
            for field in ["type", "title", "detail"] {
                assert!(problem[field].is_string(), "{}: no {field} in {problem}", case.what);
            }
            assert!(!answer.header("skep-served-by").is_empty(), "{}: {answer:?}", case.what);
        }
    }
    for client in cluster.clients() {
        assert_eq!(list(&client).await.len(), 0, "nothing of it was stored");
    }
    cluster.node(1).http.put("still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_a_billion_is_bounded_and_the_largest_body_is_taken() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    let body = Bytes::from(vec![b'y'; BODY_BYTES_MAX]);
    let headers = [("content-type", "application/octet-stream")];
    for (client, status) in cluster.clients().iter().zip([201, 200, 200]) {
        let answer = client.send(Method::POST, "/messages", &headers, body.clone()).await.expect("an answer");
        assert_eq!(answer.status, status, "{answer:?}");
    }
    for client in cluster.clients() {
        let answer = client.get("/messages?limit=1000000000").await.expect("an answer");
        // Refused or cut to the most there is: both are bounded.
        assert!(matches!(answer.status, 200 | 400), "{} {}", answer.status, answer.body.len());
    }
}
