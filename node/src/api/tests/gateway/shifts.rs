//! Shifts of routes on the admin address.

use serde_json::{Value, json};
use skep_state::level::Level;

use super::*;

const WEB: &str = r#"{"routes":{"one":{"match":{"path":"/one"},"service":"blue"},"web":{"match":{"path":"/"},"services":{"blue":100,"green":0,"red":9999}}},"services":{"blue":{"urls":["http://a:1"]},"green":{"urls":["http://a:2"]},"red":{"urls":["http://a:3"]}}}"#;
const SHIFT: &str = "/gateway/shifts/web";

async fn with_web() -> Served {
    let served = admin().await;
    assert_eq!(served.put("/gateway", &[("if-none-match", "*")], WEB).await.status, 201);
    served
}

fn asked(from: &str, to: &str, over_s: u64, abort: &str) -> String {
    json!({ "from": from, "to": to, "over_s": over_s, "abort": abort }).to_string()
}

impl Served {
    async fn begin(&self, body: &str) -> Answer {
        self.put(SHIFT, &[], body).await
    }

    async fn shift(&self) -> Value {
        self.see(SHIFT).await.json()
    }
}

#[tokio::test]
async fn a_shift_begins_is_shown_and_stopped_goes_on_and_goes_back() {
    let served = with_web().await;
    let tag = served.see("/gateway").await.header("etag").to_owned();
    served.see(SHIFT).await.is_problem(ProblemKind::NoGateway);
    let begun = served.begin(&asked("blue", "green", 60, "5xx>1.0%")).await;
    assert_eq!(begun.status, 201);
    let shift = begun.json();
    let of =
        ["route", "from", "to", "state", "share_percent", "over_s", "abort"].map(|name| shift[name].clone());
    assert_eq!(json!(of), json!(["web", "blue", "green", "running", 0.0, 60.0, "5xx>1%"]), "{shift}");
    assert_eq!(shift["seen"], json!({ "balancers": 0, "requests": 0, "failed": 0 }));
    assert_eq!(served.see("/gateway/shifts").await.json()["shifts"], json!([shift]));
    let again = served.begin(&asked("blue", "green", 60, "5xx>1%")).await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &shift["id"]), "sent again");
    served.begin(&asked("blue", "green", 61, "5xx>1%")).await.is_problem(ProblemKind::Refused);

    let post = async |what: &str| served.change(Method::POST, &format!("{SHIFT}/{what}"), &[], "{}").await;
    assert_eq!(post("stop").await.json()["state"], "stopped");
    post("stop").await.is_problem(ProblemKind::Refused);
    assert_eq!(post("resume").await.json()["state"], "running");
    let back = served.change(Method::DELETE, SHIFT, &[], "").await.json();
    assert_eq!((&back["state"], &back["why"]), (&"back".into(), &"an operator wished it".into()));
    served.change(Method::DELETE, SHIFT, &[], "").await.is_problem(ProblemKind::Refused);
    post("resume").await.is_problem(ProblemKind::Refused);
    assert_eq!(served.shift().await["state"], "back");
    assert_eq!(served.see("/gateway").await.header("etag"), tag, "all that is no change of the document");
    assert_eq!(served.begin(&asked("blue", "green", 10, "errors>50%")).await.status, 201, "another");
}

#[tokio::test]
async fn what_cannot_be_a_shift_is_said_to_be_none_and_nothing_begins() {
    let served = with_web().await;
    let good = asked("blue", "green", 60, "5xx>1%");
    for bad in [
        asked("blue", "green", 9, "5xx>1%"),
        asked("blue", "green", 86_401, "5xx>1%"),
        asked("blue", "green", u64::MAX, "5xx>1%"),
        asked("blue", "green", 60, "5xx"),
        asked("blue", "green", 60, "4xx>1%"),
        asked("blue", "blue", 60, "5xx>1%"),
        r#"{"from":"blue","over_s":60}"#.into(),
        r#"{"from":"blue","to":"green","over_s":60,"later":1}"#.into(),
        "{".into(),
    ] {
        served.begin(&bad).await.is_problem(ProblemKind::InvalidRequest);
    }
    for (from, to) in [("green", "blue"), ("blue", "x"), ("x", "green"), ("blue", "red")] {
        served.begin(&asked(from, to, 60, "5xx>1%")).await.is_problem(ProblemKind::Refused);
    }
    served.put("/gateway/shifts/x", &[], &good).await.is_problem(ProblemKind::NoGateway);
    let one = served.put("/gateway/shifts/one", &[], &good).await;
    one.is_problem(ProblemKind::Refused);
    assert!(one.json()["detail"].as_str().unwrap().contains("services = {blue = 100, green = 0}"));
    let large = format!("{good}{}", " ".repeat(4096));
    served.begin(&large).await.is_problem(ProblemKind::BodyTooLarge);
    for path in [SHIFT, "/gateway/shifts/web/stop"] {
        let method = if path == SHIFT { Method::DELETE } else { Method::POST };
        served.change(method, path, &[], "").await.is_problem(ProblemKind::NoGateway);
    }
    assert_eq!(served.see("/gateway/shifts").await.json()["shifts"], json!([]));
    let empty = admin().await;
    empty.begin(&good).await.is_problem(ProblemKind::NoGateway);
}

#[tokio::test]
async fn shifts_are_the_operators_alone() {
    let served = with_web().await;
    let good = asked("blue", "green", 60, "5xx>1%");
    for (method, path) in [
        (Method::GET, "/gateway/shifts"),
        (Method::GET, SHIFT),
        (Method::PUT, SHIFT),
        (Method::DELETE, SHIFT),
        (Method::POST, "/gateway/shifts/web/stop"),
        (Method::POST, "/gateway/shifts/web/resume"),
    ] {
        for other in ["", "Bearer another-token-of-nobody"] {
            let headers = [("authorization", other), JSON];
            let answer = served.ask(method.clone(), path, &headers, good.as_bytes()).await;
            answer.is_problem(ProblemKind::NoOperator);
        }
    }
    assert_eq!(served.see("/gateway/shifts").await.json()["shifts"], json!([]));
}

#[tokio::test]
async fn what_members_of_before_do_not_read_is_taken_once_all_do() {
    let served = admin().await;
    for said in [r#""sticky":"address""#, r#""mirror":{"service":"red"}"#] {
        let document = WEB.replace(
            r#""services":{"blue":100,"green":0"#,
            &format!(r#"{said},"services":{{"blue":100,"green":0"#),
        );
        served.fake.state.lock().unwrap().level = Some(Level(9));
        let none = [("if-none-match", "*")];
        served.put("/gateway", &none, &document).await.is_problem(ProblemKind::Unavailable);
        served.fake.state.lock().unwrap().level = None;
        let tried = served.put("/gateway?dry-run", &none, &document).await;
        assert_eq!(tried.status, 200, "{said}");
    }
}
