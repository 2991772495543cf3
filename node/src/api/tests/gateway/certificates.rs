//! Certificates of the document: their keys go in and do not come out, and members of the version before have none.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_state::level::Level;

use super::*;
use crate::service::secrets::Secrets;

struct Made {
    object: String,
    /// A line of the key.
    line: String,
}

/// One that is valid from 2020 until the begin of that year.
fn made(host: &str, until: i32) -> Made {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let (pem, line) = (key.serialize_pem(), key.serialize_pem().lines().nth(1).unwrap().to_owned());
    let certificate = params.self_signed(&key).unwrap().pem();
    Made { object: json!({ "certificate": certificate, "key": pem }).to_string(), line }
}

async fn served() -> Served {
    let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let secrets = Secrets::new(Some(Keys::of_node(ring.into()).unwrap()));
    let served = admin_of(Fake::default().with_secrets(secrets)).await;
    assert_eq!(served.put("/gateway", &[("if-none-match", "*")], READER).await.status, 201);
    served
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test]
async fn its_key_is_kept_sealed_and_shown_by_a_name_that_means_it_when_it_is_put_again() {
    let served = served().await;
    let a = made("a.test", 2100);
    let put = served.put("/gateway/certificates/a", &[], &a.object).await;
    assert_eq!((put.status.as_u16(), put.json()["added"].clone()), (201, json!(["certificates/a"])));
    let tag = put.header("etag").to_owned();
    let lies =
        served.fake.gateway(|it| String::from_utf8_lossy(&it.newest().unwrap().1.document).into_owned());
    assert!(lies.contains("sealed1:") && !lies.contains(&a.line), "{lies}");
    let (one, whole) = (served.see("/gateway/certificates/a").await, served.see("/gateway").await);
    let seen = served.see("/gateway/seen").await;
    for shown in [&one, &whole, &seen, &served.see("/gateway/history").await] {
        assert!(!text(shown).contains(&a.line) && !text(shown).contains("sealed1"), "{}", text(shown));
    }
    let expected = json!([{
        "name": "a",
        "hosts": ["a.test"],
        "not_before": "2020-01-01T00:00:00.000Z",
        "not_after": "2100-01-01T00:00:00.000Z",
        "absent": false,
    }]);
    assert_eq!((&seen.json()["certificates"], &seen.json()["of"]["certificates"]), (&expected, &json!(1)));
    for (path, body) in [
        ("/gateway/certificates/a", text(&one)),
        ("/gateway/certificates/a", a.object.clone()),
        ("/gateway", text(&whole)),
    ] {
        let again = served.put(path, &[("if-match", &tag)], &body).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (200, &*tag), "{}", text(&again));
    }
    let question = r#"{"url":"https://a.test/read/1"}"#;
    let explained = served.change(Method::POST, "/gateway/explain", &[], question).await.json();
    assert_eq!(explained["certificate"], "a", "{explained}");
    let told = served.fake.gateway(|it| it.newest().map(|(revision, _)| revision)).unwrap();
    assert_eq!(told.number, 2);
}

#[tokio::test]
async fn who_puts_one_that_clients_refuse_is_warned() {
    let served = served().await;
    let put =
        served.put("/gateway/certificates/past?dry-run", &[], &made("a.test", 2021).object).await.json();
    assert_eq!(put["warnings"][0]["pointer"], "/certificates/past", "{put}");
    let put = served.put("/gateway/certificates/past", &[], &made("a.test", 2021).object).await;
    assert_eq!((put.status.as_u16(), put.json()["warnings"].as_array().map(Vec::len)), (201, Some(1)));
    let put = served.put("/gateway/certificates/a", &[], &made("b.test", 2100).object).await;
    assert_eq!((put.status.as_u16(), put.json().get("warnings")), (201, None), "the other stays as it was");
}

#[tokio::test]
async fn who_puts_one_where_its_key_lies_open_is_warned() {
    let served = admin().await;
    assert_eq!(served.put("/gateway", &[("if-none-match", "*")], READER).await.status, 201);
    let put = served.put("/gateway/certificates/a", &[], &made("a.test", 2100).object).await.json();
    let warning = put["warnings"][0]["fault"].as_str().unwrap_or_default();
    assert!(warning.contains("lies open"), "{put}");
    assert!(text(&served.see("/gateway/certificates/a").await).contains("sha256:"));
}

#[tokio::test]
async fn one_whose_key_no_key_here_opens_is_seen_to_be_absent_until_one_does() {
    let served = served().await;
    assert_eq!(served.put("/gateway/certificates/a", &[], &made("a.test", 2100).object).await.status, 201);
    let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let other = Secrets::new(Some(Keys::of_node(ring.into()).unwrap()));
    let other = admin_of(served.fake.clone().with_secrets(other)).await;
    for (node, expected) in [(&served, false), (&other, true)] {
        let seen = node.see("/gateway/seen").await.json();
        assert_eq!(seen["certificates"][0]["absent"], expected, "{seen}");
    }
}

#[tokio::test]
async fn before_the_members_agree_there_are_none() {
    let served = served().await;
    served.fake.state.lock().unwrap().level = Some(Level(9));
    let a = made("a.test", 2100);
    for path in ["/gateway/certificates/a", "/gateway/certificates/a?dry-run"] {
        let refused = served.put(path, &[], &a.object).await;
        refused.is_problem(ProblemKind::Unavailable);
        assert!(!text(&refused).contains(&a.line), "{}", text(&refused));
    }
    let service = served.put("/gateway/services/w", &[], r#"{"urls":["http://a:1"]}"#).await;
    assert_eq!(service.status, 201, "all else goes on");
    served.fake.state.lock().unwrap().level = None;
    assert_eq!(served.put("/gateway/certificates/a", &[], &a.object).await.status, 201);
}
