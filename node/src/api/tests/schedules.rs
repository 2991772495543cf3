use skep_state::schedule::{Fire, ScheduleOp, ScheduleOutcome};

use super::*;

async fn ask(served: &Served, method: Method, path: &str, body: &str) -> Answer {
    served.ask(method, path, &[("authorization", &format!("Bearer {TOKEN}"))], body.as_bytes()).await
}

const NIGHTLY: &str = r#"{"cron":"30 2 * * mon-fri","timezone":"Europe/Berlin","catch_up":false,
    "task":{"queue":"q","payload":{"b": 1.50},"priority":7,"delay":"1m 30s","unique":"night"}}"#;

#[tokio::test]
async fn a_schedule_is_set_shown_changed_and_taken_out() {
    let served = public().await;
    let put = ask(&served, Method::PUT, "/schedules/nightly", NIGHTLY).await;
    assert_eq!(
        (put.status, put.header("location")),
        (StatusCode::CREATED, "/schedules/nightly"),
        "{:?}",
        put.body
    );
    let shown = ask(&served, Method::GET, "/schedules/nightly", "").await.json();
    assert_eq!(shown, put.json());
    assert_eq!((&shown["cron"], &shown["timezone"]), (&"30 2 * * mon-fri".into(), &"Europe/Berlin".into()));
    assert_eq!((&shown["paused"], &shown["catch_up"]), (&false.into(), &false.into()));
    // The clock of this node is at the epoch, a Thursday.
    assert_eq!(
        (&shown["next"], &shown["last"]),
        (&"1970-01-01T01:30:00.000Z".into(), &serde_json::Value::Null)
    );
    let task = &shown["task"];
    assert_eq!((&task["delay"], &task["priority"]), (&"1m 30s".into(), &7.into()), "{task}");
    assert_eq!(
        (&task["unique"], &task["payload"]),
        (&"night".into(), &serde_json::json!({"b": 1.5})),
        "{task}"
    );
    // What is shown can be set again.
    let mut again = serde_json::json!({"cron": shown["cron"], "timezone": shown["timezone"], "task": task});
    again["paused"] = true.into();
    let put = ask(&served, Method::PUT, "/schedules/nightly", &again.to_string()).await;
    assert_eq!((put.status, &put.json()["task"]), (StatusCode::OK, task), "{:?}", put.body);
    assert_eq!(put.json()["next"], serde_json::Value::Null, "it is paused");
    ask(&served, Method::PUT, "/schedules/b", r#"{"every":90,"task":{"queue":"q"}}"#).await;
    let list = ask(&served, Method::GET, "/schedules", "").await.json();
    let names: Vec<_> = list["schedules"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["b", "nightly"]);
    assert_eq!((&list["schedules"][0]["every"], list["schedules"][0].get("task")), (&"1m 30s".into(), None));
    let gone = ask(&served, Method::DELETE, "/schedules/b", "").await;
    assert_eq!((gone.status, &gone.json()["removed"]), (StatusCode::OK, &"b".into()));
    for method in [Method::DELETE, Method::GET] {
        ask(&served, method, "/schedules/b", "").await.is_problem(ProblemKind::ScheduleNotFound);
    }
    ask(&served, Method::POST, "/schedules/b/run", "").await.is_problem(ProblemKind::ScheduleNotFound);
}

#[tokio::test]
async fn schedules_are_for_operators() {
    let served = public().await;
    ask(&served, Method::PUT, "/schedules/a", NIGHTLY).await;
    for (method, path) in [
        (Method::GET, "/schedules"),
        (Method::GET, "/schedules/a"),
        (Method::PUT, "/schedules/a"),
        (Method::DELETE, "/schedules/a"),
        (Method::POST, "/schedules/a/run"),
    ] {
        served.ask(method, path, &[], NIGHTLY.as_bytes()).await.is_problem(ProblemKind::NoOperator);
    }
    assert_eq!(ask(&served, Method::GET, "/schedules/a", "").await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_told() {
    let served = public().await;
    for (path, body, named) in [
        ("/schedules/a%20b", NIGHTLY, "name"),
        (
            "/schedules/a",
            r#"{"cron":"61 * * * *","task":{"queue":"q"}}"#,
            "cron: minute: \"61\" is not 0 to 59",
        ),
        ("/schedules/a", r#"{"every":"1s"}"#, "task"),
    ] {
        let refused = ask(&served, Method::PUT, path, body).await;
        refused.is_problem(ProblemKind::InvalidSchedule);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{path}: {detail}");
    }
    ask(&served, Method::PUT, "/schedules/a", "{").await.is_problem(ProblemKind::InvalidJson);
    ask(&served, Method::PUT, "/schedules/a", "").await.is_problem(ProblemKind::EmptyBody);
    let large = "x".repeat(200 * 1024);
    ask(&served, Method::PUT, "/schedules/a", &large).await.is_problem(ProblemKind::BodyTooLarge);
}

#[tokio::test]
async fn a_schedules_task_is_put_by_hand_and_a_key_makes_that_safe_to_repeat() {
    let served = public().await;
    ask(&served, Method::PUT, "/schedules/a", r#"{"every":90,"paused":true,"task":{"queue":"q"}}"#).await;
    let run = ask(&served, Method::POST, "/schedules/a/run", "").await;
    assert_eq!(run.status, StatusCode::CREATED, "{:?}", run.body);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(run.header("location"), format!("/tasks/{id}"));
    assert_eq!(served.get(&format!("/tasks/{id}")).await.json()["state"], "ready");
    let bearer = format!("Bearer {TOKEN}");
    let keyed = [("authorization", &*bearer), ("idempotency-key", "k")];
    let first = served.ask(Method::POST, "/schedules/a/run", &keyed, b"").await;
    assert_eq!(first.status, StatusCode::CREATED);
    ask(&served, Method::PUT, "/schedules/u", NIGHTLY).await;
    let run = ask(&served, Method::POST, "/schedules/u/run", "").await;
    assert_eq!(run.status, StatusCode::CREATED);
    let met = ask(&served, Method::POST, "/schedules/u/run", "").await;
    assert_eq!((met.status, met.json()), (StatusCode::OK, run.json()));
    let both = served.ask(Method::POST, "/schedules/u/run", &keyed, b"").await;
    both.is_problem(ProblemKind::InvalidSchedule);
}

#[tokio::test]
async fn what_has_come_of_fires_is_shown() {
    let served = public().await;
    let put = ask(&served, Method::PUT, "/schedules/a", r#"{"every":1,"task":{"queue":"q"}}"#).await;
    assert_eq!(put.status, StatusCode::CREATED);
    let state = served.fake.state.clone();
    let held = state.lock().unwrap().schedules.get("a").cloned().unwrap();
    let (revision, after_ms) = (held.revision, held.after_ms);
    let (name, at_ms) = ("a".into(), after_ms + 1);
    let fire = Fire { name, revision, after_ms, at_ms, passed: 2, runs: true, nonce: 9 };
    let outcome = served.fake.change_schedules(|_| ScheduleOp::Fire(fire)).await.unwrap();
    let ScheduleOutcome::Fired { id } = outcome else { panic!("{outcome:?}") };
    let shown = ask(&served, Method::GET, "/schedules/a", "").await.json();
    assert_eq!((&shown["fired"], &shown["missed"]), (&1.into(), &2.into()), "{shown}");
    assert_eq!(shown["last_task"], id.to_string());
    assert_eq!(served.get(&format!("/tasks/{id}")).await.json()["queue"], "q");
}
