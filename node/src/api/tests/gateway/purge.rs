//! Purges: what is said of them at the admin address, and what balancers are told.

use skep_gateway::purge::Purge;

use super::*;

async fn purge(served: &Served, body: &str) -> Answer {
    served.change(Method::POST, "/gateway/purge", &[], body).await
}

#[tokio::test]
async fn a_purge_is_kept_in_its_one_form_and_has_the_next_number() {
    let (served, _) = Served::with_document().await;
    for (number, body, kept) in [
        (1, r#"{"url":"https://A.test:8443/x?y"}"#, r#"{"url":"http://a.test/x?y"}"#),
        (2, r#"{"prefix":"/x/"}"#, r#"{"prefix":"/x/"}"#),
        (3, r#"{"route":"read"}"#, r#"{"route":"read"}"#),
        (4, r#"{"service":"reader"}"#, r#"{"service":"reader"}"#),
        (5, r#"{"service":"skep"}"#, r#"{"service":"skep"}"#),
        (6, r#"{"group":"a b"}"#, r#"{"group":"a b"}"#),
        (7, r#" {"all":true}"#, r#"{"all":true}"#),
        (8, r#"{"all":true}"#, r#"{"all":true}"#),
    ] {
        let answer = purge(&served, body).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, serde_json::json!({ "purge": number })));
        let said = served.fake.purges(|purges| {
            let all: Vec<_> = purges.since(number - 1).unwrap().collect();
            all
        });
        let expected = skep_state::purge::Purge::Said(Bytes::copy_from_slice(kept.as_bytes()));
        assert_eq!(said, [(number, expected)], "{body}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_where_it_is_and_nothing_is_purged() {
    let (served, _) = Served::with_document().await;
    for (body, pointer) in [
        ("{}", ""),
        (r#"{"url":"/x"}"#, "/url"),
        (r#"{"prefix":"/x?y"}"#, "/prefix"),
        (r#"{"group":""}"#, "/group"),
        (r#"{"all":false}"#, "/all"),
        (r#"{"message":1}"#, ""),
    ] {
        let answer = purge(&served, body).await;
        answer.is_problem(ProblemKind::InvalidGateway);
        assert_eq!(answer.json()["faults"][0]["pointer"], pointer, "{body}");
    }
    for (body, pointer) in [(r#"{"route":"gone"}"#, "/route"), (r#"{"service":"gone"}"#, "/service")] {
        let answer = purge(&served, body).await;
        answer.is_problem(ProblemKind::GatewayClash);
        assert_eq!(answer.json()["faults"][0]["pointer"], pointer, "{body}");
    }
    let long = " ".repeat(20_000);
    purge(&served, &long).await.is_problem(ProblemKind::BodyTooLarge);
    let none = served.ask(Method::POST, "/gateway/purge", &[JSON], br#"{"all":true}"#).await;
    none.is_problem(ProblemKind::NoOperator);
    let bearer = bearer();
    let plain = [("authorization", &*bearer), ("content-type", "text/plain")];
    let answer = served.ask(Method::POST, "/gateway/purge", &plain, br#"{"all":true}"#).await;
    answer.is_problem(ProblemKind::UnsupportedContentType);
    served.fake.fail(ServiceError::Unavailable { detail: "no leader".into(), unprocessed: true });
    purge(&served, r#"{"all":true}"#).await.is_problem(ProblemKind::Unavailable);
    assert_eq!(served.fake.purges(|purges| purges.last()), 0);
}

#[tokio::test]
async fn who_wishes_so_is_answered_once_the_balancers_obey_the_purge() {
    use skep_members::gossip::{GatewayAt, GatewayRevision, PeerRecord, Program, View};
    let (served, _) = Served::with_document().await;
    let balancer = |purged: u64| {
        let view = served.fake.members.borrow().clone();
        let purged = Some(GatewayRevision { lineage: 0, number: purged });
        let gateway = Some(GatewayAt { purged, ..GatewayAt::default() });
        let id = skep_base::id::NodeId(7);
        let live = vec![PeerRecord { id, program: Program::Balancer, gateway, ..view.me.clone() }];
        served.fake.members.send_replace(std::sync::Arc::new(View { live, ..(*view).clone() }));
    };
    balancer(0);
    let wish = [("prefer", "wait=30")];
    let asking = served.change(Method::POST, "/gateway/purge", &wish, r#"{"all":true}"#);
    let obeying = async {
        served.fake.last_purge().wait_for(|last| *last == 1).await.unwrap();
        balancer(1);
    };
    let (answer, ()) = tokio::join!(asking, obeying);
    let expected = serde_json::json!({ "purge": 1, "seen_by": 1, "of": 1, "behind": [] });
    assert_eq!((answer.json(), answer.header("preference-applied")), (expected, "wait=30"));
    let late =
        served.change(Method::POST, "/gateway/purge", &[("prefer", "wait=0")], r#"{"all":true}"#).await;
    let behind = serde_json::json!([{ "id": "0000000000000007", "purge": 1, "why": "late" }]);
    assert_eq!(late.json()["behind"], behind);
}

#[test]
fn what_is_kept_says_what_was_said() {
    for said in [r#"{"url":"http://a.test/%61?x"}"#, r#"{"prefix":"https://[::1]:8080/x"}"#] {
        let purge = Purge::read(said).unwrap();
        assert_eq!(Purge::told(&purge.json()), purge);
    }
}
