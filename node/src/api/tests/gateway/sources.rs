//! Parts of the document by whose they are: what a source puts, takes out, and takes from nobody.

use super::*;

const WEB: &str = r#"{"routes":{"web":{"match":{"path":"/web"},"service":"reader"}},"services":{"web":{"urls":["http://w:1"]}}}"#;

fn list<'a>(answer: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    answer[name].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
}

fn detail(answer: &Answer) -> String {
    answer.is_problem(ProblemKind::GatewayClash);
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_source_replaces_and_takes_out_its_own_and_nobody_elses() {
    let (served, tag) = Served::with_document().await;
    // What is whose is not asked: nobody else's is changed, so there is no condition.
    let put = served.put("/gateway/sources/web", &[], WEB).await;
    assert_eq!((put.status.as_u16(), list(&put.json(), "added")), (200, vec!["routes/web", "services/web"]));
    let object = served.see("/gateway/routes/web").await.json();
    assert_eq!(object["source"], "web");
    let own = served.see("/gateway/sources/web").await.json();
    assert_eq!((&own["routes"]["web"], own["routes"].as_object().unwrap().len()), (&object, 1));
    served.see("/gateway/sources/blue").await.is_problem(ProblemKind::NoGateway);

    let again = served.put("/gateway/sources/web", &[], WEB).await.json();
    assert_eq!(again["revision"], 2, "what says the same is none: {again}");
    served
        .put("/gateway/sources/web", &[("if-match", &tag)], WEB)
        .await
        .is_problem(ProblemKind::PreconditionFailed);
    let tried = served.put("/gateway/sources/web?dry-run", &[], "{}").await.json();
    assert_eq!(
        (&tried["revision"], list(&tried, "removed")),
        (&2.into(), vec!["routes/web", "services/web"])
    );

    // A whole document is as it always was: what was shown is put again, each with whose it is.
    let whole = served.see("/gateway").await;
    let shown = String::from_utf8(whole.body.to_vec()).unwrap();
    let same = served.put("/gateway?source=a%20file", &[("if-match", whole.header("etag"))], &shown).await;
    assert_eq!(same.json()["revision"], 2);
    let none = served.put("/gateway/sources/web", &[], "{}").await.json();
    assert_eq!(list(&none, "removed"), ["routes/web", "services/web"]);
    assert_eq!(served.see("/gateway").await.body, READER);
    let history = served.see("/gateway/history").await.json();
    let sources: Vec<_> = history["revisions"].as_array().unwrap().iter().map(|it| &it["source"]).collect();
    assert_eq!(sources, ["web", "web", "api"]);
}

#[tokio::test]
async fn what_another_source_has_is_told_by_name_and_taken_by_who_says_so() {
    let (served, _) = Served::with_document().await;
    served.put("/gateway/sources/web", &[], WEB).await;
    let wanted = r#"{"routes":{"web":{"match":{"path":"/w"},"service":"reader"}}}"#;
    let told = detail(&served.put("/gateway/sources/blue", &[], wanted).await);
    assert!(told.contains("routes/web") && told.contains("\"web\""), "{told}");
    // So it is with one object, which is the API's where it says nothing.
    let object = r#"{"match":{"path":"/w"},"service":"reader"}"#;
    let told = detail(&served.put("/gateway/routes/web", &[], object).await);
    assert!(told.contains("routes/web") && told.contains("\"web\""), "{told}");
    // What goes is of who says so, and of nobody else.
    for gone in
        ["/gateway/routes/web", "/gateway/routes/web?source=blue", "/gateway/routes/web?source=a%20file"]
    {
        let told = detail(&served.change(Method::DELETE, gone, &[], "").await);
        assert!(told.contains("?source=web"), "{told}");
    }
    detail(&served.change(Method::DELETE, "/gateway/routes/read?source=web", &[], "").await);
    let own = r#"{"match":{"path":"/w"},"service":"reader","source":"web"}"#;
    assert_eq!(served.put("/gateway/routes/web", &[], own).await.status, 200);
    served.put("/gateway/routes/web?take=no", &[], object).await.is_problem(ProblemKind::InvalidQuery);

    let taken = served.put("/gateway/sources/blue?take=true", &[], wanted).await.json();
    assert_eq!(list(&taken, "changed"), ["routes/web"]);
    let gone = served.put("/gateway/sources/web", &[], "{}").await.json();
    assert_eq!(list(&gone, "removed"), ["services/web"]);
    assert_eq!(served.put("/gateway/routes/web?take=true", &[], object).await.status, 200);
    assert!(served.see("/gateway/routes/web").await.json()["source"].is_null());
}

#[tokio::test]
async fn a_source_deletes_an_object_of_its_own_by_saying_which_it_is() {
    let (served, _) = Served::with_document().await;
    served.put("/gateway/sources/web", &[], WEB).await;
    let tried = served.change(Method::DELETE, "/gateway/routes/web?source=web&dry-run", &[], "").await;
    assert_eq!((tried.status.as_u16(), list(&tried.json(), "removed")), (200, vec!["routes/web"]));
    let gone = served.change(Method::DELETE, "/gateway/routes/web?source=web", &[], "").await;
    assert_eq!((gone.status.as_u16(), list(&gone.json(), "removed")), (200, vec!["routes/web"]));
    served.see("/gateway/routes/web").await.is_problem(ProblemKind::NoGateway);
    assert_eq!(served.see("/gateway/history").await.json()["revisions"][0]["source"], "web");
    // The API's is deleted by who says nothing, or that.
    let own = served.change(Method::DELETE, "/gateway/routes/read?source=api", &[], "").await;
    assert_eq!(own.status, 200);
}

#[tokio::test]
async fn a_part_of_no_document_is_one_with_what_it_needs_and_its_faults_are_told_by_their_place() {
    let (served, _) = Served::with_document().await;
    for (part, pointer) in [
        (r#"{"unmatched":"skep"}"#, "/unmatched"),
        (r#"{"defaults":{"https_only":true}}"#, "/defaults"),
        (r#"{"services":{"a":{"urls":["http://a:1"],"source":"b"}}}"#, "/services/a/source"),
        (r#"{"services":{"a":{"urls":7}}}"#, "/services/a/urls"),
    ] {
        let answer = served.put("/gateway/sources/web", &[], part).await;
        answer.is_problem(ProblemKind::InvalidGateway);
        assert_eq!(answer.json()["faults"][0]["pointer"], pointer);
    }
    for name in ["api", "kong", "a%20b"] {
        let answer = served.put(&format!("/gateway/sources/{name}"), &[], "{}").await;
        answer.is_problem(ProblemKind::InvalidRequest);
    }
    // What another's route needs is not taken out from under it.
    served.put("/gateway/sources/web", &[], WEB).await;
    let needs = r#"{"routes":{"blue":{"match":{"path":"/blue"},"service":"web"}}}"#;
    assert_eq!(served.put("/gateway/sources/blue", &[], needs).await.status, 200);
    let told = detail(&served.put("/gateway/sources/web", &[], "{}").await);
    assert!(told.contains("/routes/blue"), "{told}");
    // The first that there is may be a part.
    let empty = admin().await;
    let first = r#"{"services":{"web":{"urls":["http://w:1"]}}}"#;
    assert_eq!(empty.put("/gateway/sources/web", &[], first).await.status, 201);
    empty.ask(Method::PUT, "/gateway/sources/web", &[JSON], b"{}").await.is_problem(ProblemKind::NoOperator);
}
