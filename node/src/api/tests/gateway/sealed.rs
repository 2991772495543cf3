//! Documents whose secrets are kept sealed: put, shown, changed, tried, rolled back, explained.

use serde_json::json;
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;

use super::*;
use crate::service::secrets::Secrets;

const SECRET: &str = "a hidden secret of thirty-two bytes";
const OTHER: &str = "another hidden one of thirty-two bytes";

fn with_keys(lines: &[&str]) -> Secrets {
    let ring = KeyRing::parse(&lines.join("\n")).unwrap();
    Secrets::new(Some(Keys::of_node(ring.into()).unwrap()))
}

async fn served() -> Served {
    admin_of(Fake::default().with_secrets(with_keys(&[&KeyRing::generate_line()]))).await
}

fn issuer(secret: &str) -> String {
    json!({"iss": "i", "aud": "any", "keys": [{"kid": "k", "secret": secret}]}).to_string()
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

impl Served {
    /// As it lies in the state, and the data keys there.
    fn lies(&self) -> (String, Vec<u128>) {
        self.fake.gateway(|gateway| {
            let (_, told) = gateway.newest().unwrap();
            let keys = gateway.keys().map(|key| key.id).collect();
            (String::from_utf8_lossy(&told.document).into_owned(), keys)
        })
    }

    async fn with_secret() -> Served {
        let served = served().await;
        let document = format!(r#"{{"issuers":{{"i":{}}}}}"#, issuer(SECRET));
        let put = served.put("/gateway", &[("if-none-match", "*")], &document).await;
        assert_eq!(put.status, 201, "{}", text(&put));
        served
    }
}

#[tokio::test]
async fn a_secret_is_kept_sealed_and_what_is_shown_of_it_can_be_put_again() {
    let served = Served::with_secret().await;
    let (kept, keys) = served.lies();
    assert!(kept.contains("sealed1:") && !kept.contains("hidden") && keys.len() == 1, "{kept}");
    let (one, whole) = (served.see("/gateway/issuers/i").await, served.see("/gateway").await);
    for shown in [&one, &whole] {
        let shown = text(shown);
        assert!(shown.contains("\"sealed:") && !shown.contains("sealed1"), "{shown}");
    }
    let tag = whole.header("etag").to_owned();
    let document = format!(r#"{{"issuers":{{"i":{}}}}}"#, issuer(SECRET));
    for (path, body) in [
        ("/gateway/issuers/i", text(&one)),
        ("/gateway/issuers/i", issuer(SECRET)),
        ("/gateway", text(&whole)),
        ("/gateway", document.clone()),
        ("/gateway?dry-run", document),
    ] {
        let again = served.put(path, &[("if-match", &tag)], &body).await;
        let said = again.json();
        assert_eq!((again.status.as_u16(), again.header("etag")), (200, &*tag), "{said}");
        assert_eq!(said["changed"], json!([]), "equal secrets are equal: {said}");
    }
    let tried = served.put("/gateway/issuers/i?dry-run", &[], &issuer(OTHER)).await.json();
    assert_eq!(tried["changed"], json!(["issuers/i"]));
    let kept_one = served.lies();
    assert_eq!(kept_one, (kept, keys));
    // What nodes keep is for nobody to put.
    let stolen = served.put("/gateway", &[("if-match", &tag)], &kept_one.0).await;
    stolen.is_problem(ProblemKind::InvalidGateway);
    let question = r#"{"url":"http://x/read/1"}"#;
    assert_eq!(served.change(Method::POST, "/gateway/explain", &[], question).await.status, 200);
    let seen = served.see("/gateway/seen").await;
    assert_eq!(seen.json()["issuers"], json!([{"name": "i", "keys": 1}]), "{}", text(&seen));
}

#[tokio::test]
async fn a_way_back_has_the_secret_again_as_it_was_sealed() {
    let served = Served::with_secret().await;
    let first = served.lies();
    assert_eq!(served.put("/gateway/issuers/i", &[], &issuer(OTHER)).await.status, 200);
    let second = served.lies();
    assert!(second.0 != first.0 && second.1 == first.1, "under the same key");
    assert_eq!(served.change(Method::DELETE, "/gateway/issuers/i", &[], "").await.status, 200);
    let without = served.lies();
    assert!(!without.0.contains("sealed1") && without.1 == first.1, "the history names the key");
    for (revision, expected) in [(1, &first), (2, &second), (3, &without)] {
        let body = format!(r#"{{"revision":{revision}}}"#);
        let back = served.change(Method::POST, "/gateway/rollback", &[], &body).await;
        assert_eq!((back.status.as_u16(), &served.lies()), (200, expected), "{}", text(&back));
    }
}

#[tokio::test]
async fn what_cannot_be_opened_here_is_shown_and_kept_and_others_are_put_beside_it() {
    let served = Served::with_secret().await;
    let (kept, keys) = served.lies();
    // A node whose ring has not the key.
    let fake = served.fake.clone().with_secrets(with_keys(&[&KeyRing::generate_line()]));
    let other = admin_of(fake).await;
    let whole = text(&other.see("/gateway").await);
    assert_eq!(whole, text(&served.see("/gateway").await));
    let service = other.put("/gateway/services/w", &[], r#"{"urls":["http://a:1"]}"#).await;
    assert_eq!(service.status, 201, "{}", text(&service));
    let sealed = kept.split('"').find(|it| it.starts_with("sealed1:")).unwrap();
    let (now, keys_now) = other.lies();
    assert!(now.contains(sealed) && keys_now == keys, "{now}");
    let beside = other.put("/gateway/issuers/j", &[], &issuer(OTHER)).await;
    assert_eq!(beside.status, 201, "{}", text(&beside));
    let (now, keys_now) = other.lies();
    assert!(now.contains(sealed) && !now.contains("hidden") && keys_now.len() == 2, "{now}");
    // The secret itself makes it whole again, under a key that is opened here.
    let put = other.put("/gateway/issuers/i", &[], &issuer(OTHER)).await;
    assert_eq!(put.status, 200, "{}", text(&put));
    assert!(!other.lies().0.contains(sealed) && other.lies().1.len() == 2);
}

#[tokio::test]
async fn before_the_members_agree_a_secret_lies_open_as_it_did() {
    let served = served().await;
    served.fake.state.lock().unwrap().level = Some(skep_state::level::Level(8));
    let document = format!(r#"{{"issuers":{{"i":{}}}}}"#, issuer(SECRET));
    assert_eq!(served.put("/gateway", &[("if-none-match", "*")], &document).await.status, 201);
    assert!(served.lies().0.contains(SECRET) && served.lies().1.is_empty());
    let shown = served.see("/gateway").await;
    assert!(text(&shown).contains("sha256:"), "{}", text(&shown));
    // Once they do, the next document that is put is sealed; what was shown before means the same.
    served.fake.state.lock().unwrap().level = None;
    let put = served.put("/gateway/services/w", &[], r#"{"urls":["http://a:1"]}"#).await;
    assert_eq!((put.status.as_u16(), put.json()["changed"].clone()), (201, json!([])));
    assert!(!served.lies().0.contains("hidden"), "{}", served.lies().0);
    let tag = put.header("etag").to_owned();
    let object = serde_json::from_slice::<Value>(&shown.body).unwrap()["issuers"]["i"].to_string();
    let same = served.put("/gateway/issuers/i", &[("if-match", &tag)], &object).await;
    assert_eq!((same.status.as_u16(), same.header("etag")), (200, &*tag), "{}", text(&same));
}
