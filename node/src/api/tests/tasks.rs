use super::*;

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

impl Served {
    async fn put_task(&self, body: &str) -> String {
        let answer = self.post_json("/tasks", body).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn claim(&self, worker: &str, number: u64) -> Answer {
        let asked = serde_json::json!({"worker": worker, "number": number, "queues": ["q"], "wait": "0s"});
        self.post_json("/claim", &asked.to_string()).await
    }

    /// The only task of a claim, and its fence.
    async fn take(&self, worker: &str, number: u64) -> (String, u64) {
        let answer = self.claim(worker, number).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let task = &answer.json()["tasks"][0];
        (task["id"].as_str().unwrap().to_owned(), task["fence"].as_u64().unwrap())
    }

    async fn as_operator(&self, method: Method, path: &str, body: &str) -> Answer {
        self.ask(method, path, &[("authorization", &bearer())], body.as_bytes()).await
    }
}

#[tokio::test]
async fn a_task_is_put_claimed_and_done_and_whoever_asks_is_told_what_came_of_it() {
    let served = public().await;
    let put = served.post_json("/tasks", r#"{"queue":"q","kind":"sum","payload":[1, 2]}"#).await;
    assert_eq!(put.status, 201);
    let id = put.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(put.header("location"), format!("/tasks/{id}"));
    let claimed = served.claim("w", 1).await.json();
    let task = &claimed["tasks"][0];
    assert_eq!((&task["id"], &task["kind"], &task["try"]), (&id.clone().into(), &"sum".into(), &1.into()));
    assert_eq!((&task["payload"], &task["timeout"]), (&serde_json::json!([1, 2]), &300.0.into()));
    let end = format!(r#"{{"fence":{},"result":{{"sum":3}}}}"#, task["fence"]);
    for _ in 0..2 {
        let ended = served.post_json(&format!("/tasks/{id}/complete"), &end).await;
        assert_eq!((ended.status, &ended.json()["state"]), (StatusCode::OK, &"done".into()));
    }
    let shown = served.get(&format!("/tasks/{id}?wait=10s")).await.json();
    assert_eq!((&shown["state"], &shown["result"]["sum"]), (&"done".into(), &3.into()), "{shown}");
    assert!(shown.get("payload").is_none(), "{shown}");
}

#[tokio::test]
async fn whole_numbers_may_be_written_with_a_point_everywhere() {
    let served = public().await;
    served.put_task(r#"{"queue":"q","priority":5.0,"retries":5e0,"delay":0.0,"timeout":60.0}"#).await;
    let asked = r#"{"worker":"w","number":1.0,"queues":["q"],"max":1e0,"holds":[7.0],"wait":0}"#;
    assert_eq!(served.post_json("/claim", asked).await.status, 200);
    let settings = r#"{"length_max":1e3,"active_max":8.0,"per_key":2.0,"key_pause":1.0}"#;
    let set = served.as_operator(Method::PUT, "/queues/q", settings).await;
    assert_eq!((set.status, &set.json()["length_max"]), (StatusCode::OK, &1000.into()), "{:?}", set.body);
    for (body, named) in [
        (r#"{"queue":"q","priority":5.5}"#, "whole number"),
        (r#"{"queue":"q","retries":-1}"#, "not below 0"),
        (r#"{"queue":"q","retries":1e9}"#, "up to 65535"),
        (r#"{"queue":"q","priority":"5"}"#, "whole number"),
    ] {
        let refused = served.post_json("/tasks", body).await;
        refused.is_problem(ProblemKind::InvalidTask);
        assert!(refused.json()["detail"].as_str().unwrap().contains(named), "{body}: {:?}", refused.body);
    }
}

#[tokio::test]
async fn a_claim_waits_for_a_task_and_takes_it_as_it_comes() {
    let served = std::sync::Arc::new(public().await);
    let waiting = tokio::spawn({
        let served = served.clone();
        async move {
            let asked = r#"{"worker":"w","number":1,"queues":["p","q"],"wait":"30s"}"#;
            served.post_json("/claim", asked).await
        }
    });
    served.metrics_show("skep_tasks_claims_waiting 1.0").await;
    let id = served.put_task(r#"{"queue":"q"}"#).await;
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, &answer.json()["tasks"][0]["id"]), (StatusCode::OK, &id.into()));
    served.metrics_show("skep_tasks_claims_waiting 0.0").await;
}

impl Served {
    pub(super) async fn metrics_show(&self, line: &str) {
        use skep_console::metrics::{Form, encode};
        let looking = async {
            loop {
                let text = encode(self.metrics.registry(), Form::OpenMetrics).unwrap();
                if text.lines().any(|shown| shown == line) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let seen = tokio::time::timeout(std::time::Duration::from_secs(20), looking).await;
        assert!(seen.is_ok(), "{line} is not shown");
    }
}

#[tokio::test]
async fn a_claim_that_waits_is_answered_when_the_node_drains() {
    let served = std::sync::Arc::new(public().await);
    let waiting = tokio::spawn({
        let served = served.clone();
        async move { served.post_json("/claim", r#"{"worker":"w","number":1,"queues":["q"]}"#).await }
    });
    served.metrics_show("skep_tasks_claims_waiting 1.0").await;
    served.stage.send_replace(Stage::Draining);
    assert_eq!(waiting.await.unwrap().status, 204);
}

#[tokio::test]
async fn a_claim_whose_number_is_over_is_answered_at_once_though_there_are_tasks() {
    let served = std::sync::Arc::new(public().await);
    let asked = |wait: &str| format!(r#"{{"worker":"w","number":1,"queues":["q"],"wait":"{wait}"}}"#);
    let soon = std::time::Duration::from_secs(20);
    // Two of one number: one is over, and the other one waits on.
    let waiting = tokio::spawn({
        let (served, asked) = (served.clone(), asked("60s"));
        async move { served.post_json("/claim", &asked).await }
    });
    served.metrics_show("skep_tasks_claims_waiting 1.0").await;
    assert_eq!(served.post_json("/claim", &asked("0s")).await.status, 204);
    let id = served.put_task(r#"{"queue":"q"}"#).await;
    let called = tokio::time::timeout(soon, waiting).await.expect("it is called");
    assert_eq!(called.unwrap().status, 204);
    let again = tokio::time::timeout(soon, served.post_json("/claim", &asked("60s"))).await;
    assert_eq!(again.expect("it waits for nothing").status, 204);
    assert_eq!(served.take("w", 2).await.0, id);
}

#[tokio::test]
async fn a_reader_waits_for_its_task_whatever_happens_to_others() {
    let served = std::sync::Arc::new(public().await);
    let id = served.put_task(r#"{"queue":"q"}"#).await;
    let (_, fence) = served.take("w", 1).await;
    let path = format!("/tasks/{id}?wait=60s");
    let waiting = tokio::spawn({
        let (served, path) = (served.clone(), path.clone());
        async move { served.get(&path).await }
    });
    served.metrics_show("skep_tasks_readers_waiting 1.0").await;
    served.put_task(r#"{"queue":"q"}"#).await;
    served.metrics_show("skep_tasks_readers_waiting 1.0").await;
    let complete = format!("/tasks/{id}/complete");
    served.post_json(&complete, &format!(r#"{{"fence":{fence},"result":"r"}}"#)).await;
    let shown = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
    assert_eq!(shown.expect("it is told").unwrap().json()["result"], "r");
    served.metrics_show("skep_tasks_readers_waiting 0.0").await;
}

#[tokio::test]
async fn many_claims_that_wait_get_one_task_each() {
    let served = std::sync::Arc::new(public().await);
    let waiting: Vec<_> = (0..20)
        .map(|worker| {
            let served = served.clone();
            tokio::spawn(async move {
                let asked = format!(r#"{{"worker":"w{worker}","number":1,"queues":["q"],"wait":"30s"}}"#);
                served.post_json("/claim", &asked).await
            })
        })
        .collect();
    served.metrics_show("skep_tasks_claims_waiting 20.0").await;
    let tasks = vec![r#"{"queue":"q"}"#; 20].join(",");
    let put = served.post_json("/tasks", &format!("[{tasks}]")).await;
    assert_eq!((put.status, put.json()["ids"].as_array().unwrap().len()), (StatusCode::CREATED, 20));
    let mut ids = std::collections::BTreeSet::new();
    for waiting in waiting {
        ids.insert(waiting.await.unwrap().json()["tasks"][0]["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn the_fence_of_another_claim_is_refused_and_so_is_a_task_that_has_ended() {
    let served = public().await;
    let id = served.put_task(r#"{"queue":"q"}"#).await;
    let (_, fence) = served.take("w", 1).await;
    let complete = format!("/tasks/{id}/complete");
    served
        .post_json(&complete, &format!(r#"{{"fence":{}}}"#, fence + 1))
        .await
        .is_problem(ProblemKind::LeaseLost);
    let released =
        served.post_json(&format!("/tasks/{id}/release"), &format!(r#"{{"fence":{fence}}}"#)).await;
    assert_eq!(released.json()["state"], "ready");
    let (_, newer) = served.take("v", 1).await;
    served.post_json(&complete, &format!(r#"{{"fence":{fence}}}"#)).await.is_problem(ProblemKind::LeaseLost);
    assert_eq!(served.post_json(&complete, &format!(r#"{{"fence":{newer}}}"#)).await.status, 200);
    let failed = served.post_json(&format!("/tasks/{id}/fail"), &format!(r#"{{"fence":{newer}}}"#)).await;
    failed.is_problem(ProblemKind::TaskFinished);
}

#[tokio::test]
async fn a_beat_says_what_is_the_workers_no_more() {
    let served = public().await;
    let kept = served.put_task(r#"{"queue":"q"}"#).await;
    let (_, one) = served.take("w", 1).await;
    served.put_task(r#"{"queue":"q"}"#).await;
    let asked = format!(r#"{{"worker":"w","number":2,"queues":["q"],"wait":0,"holds":[{one}]}}"#);
    let claimed = served.post_json("/claim", &asked).await.json();
    let (id, two) =
        (claimed["tasks"][0]["id"].as_str().unwrap(), claimed["tasks"][0]["fence"].as_u64().unwrap());
    let cancelled = served.as_operator(Method::DELETE, &format!("/tasks/{id}"), "").await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (StatusCode::OK, &"cancelled".into()));
    let beat = served.post_json("/workers/w/beat", &format!(r#"{{"holds":[{one},{two}]}}"#)).await;
    assert_eq!(beat.json(), serde_json::json!({"lost": [two]}));
    assert_eq!(served.fake.state.lock().unwrap().beats, [one, one, two]);
    let progress = format!(r#"{{"fence":{one},"progress":{{"done":0.5}}}}"#);
    assert_eq!(served.post_json(&format!("/tasks/{kept}/progress"), &progress).await.status, 200);
    assert_eq!(served.get(&format!("/tasks/{kept}")).await.json()["progress"]["done"], 0.5);
}

#[tokio::test]
async fn what_operators_do_wants_their_token() {
    let served = public().await;
    let id = served.put_task(r#"{"queue":"q","retries":0}"#).await;
    for (method, path) in [
        (Method::DELETE, format!("/tasks/{id}")),
        (Method::POST, format!("/tasks/{id}/retry")),
        (Method::PUT, "/queues/q".to_owned()),
    ] {
        served.ask(method, &path, &[], b"{}").await.is_problem(ProblemKind::NoOperator);
    }
    let (_, fence) = served.take("w", 1).await;
    let failed = format!(r#"{{"fence":{fence},"error":"no such file"}}"#);
    assert_eq!(served.post_json(&format!("/tasks/{id}/fail"), &failed).await.json()["state"], "dead");
    assert_eq!(served.get(&format!("/tasks/{id}")).await.json()["error"], "no such file");
    let retried = served.as_operator(Method::POST, &format!("/tasks/{id}/retry"), "").await;
    assert_eq!(retried.json()["state"], "ready");
    let set = served.as_operator(Method::PUT, "/queues/q", r#"{"paused":true,"length_max":1}"#).await;
    assert_eq!(set.status, 200, "{:?}", set.body);
    assert_eq!(served.claim("w", 2).await.status, 204);
    let full = served.post_json("/tasks", r#"{"queue":"q"}"#).await;
    full.is_problem(ProblemKind::QueueFull);
    assert_eq!(full.header("retry-after"), "1");
    let queues = served.get("/queues").await.json();
    let queue = &queues["queues"][0];
    assert_eq!((&queue["queue"], &queue["paused"], &queue["ready"]), (&"q".into(), &true.into(), &1.into()));
    assert_eq!((&queue["length_max"], &queue["active_max"]), (&1.into(), &Value::Null));
    assert_eq!((&queue["put"], &queue["failed"], &queue["died"]), (&1.into(), &1.into(), &1.into()));
}

#[tokio::test]
async fn browsers_get_the_page_of_the_queues_and_programs_what_it_shows() {
    let served = public().await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, content_type) in [
        (browser, "text/html; charset=utf-8"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
    ] {
        let answer = served.get_accepting("/queues", accept).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::OK, content_type),
            "{accept}"
        );
    }
    let page = served.get_accepting("/queues", browser).await;
    assert_eq!(page.header("vary"), "accept");
    let known = [("accept", browser), ("if-none-match", page.header("etag"))];
    assert_eq!(served.ask(Method::GET, "/queues", &known, b"").await.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn any_json_is_the_payload_of_a_task_of_a_queue() {
    let served = public().await;
    let put = served.post_json("/queues/q", r#"{"any": 1.50}"#).await;
    assert_eq!(put.status, 201);
    let claimed = served.claim("w", 1).await;
    let text = String::from_utf8_lossy(&claimed.body).into_owned();
    assert!(text.contains(r#""payload":{"any": 1.50}"#), "{text}");
    served.post_json("/queues/q", "{").await.is_problem(ProblemKind::InvalidJson);
    for path in ["/queues/a%20b", "/queues/%ff"] {
        served.post_json(path, "1").await.is_problem(ProblemKind::InvalidTask);
    }
}

#[tokio::test]
async fn what_is_no_task_or_no_claim_is_refused_with_its_reason() {
    let served = public().await;
    for (path, body, kind) in [
        ("/tasks", "", ProblemKind::EmptyBody),
        ("/tasks", "{", ProblemKind::InvalidJson),
        ("/tasks", "{}", ProblemKind::InvalidTask),
        ("/tasks", r#"{"queue":"q","priority":11}"#, ProblemKind::InvalidTask),
        ("/claim", r#"{"worker":"w","number":0,"queues":["q"]}"#, ProblemKind::InvalidTask),
        ("/claim", r#"{"worker":"w","number":1,"queues":[]}"#, ProblemKind::InvalidTask),
        ("/claim", r#"{"worker":"w","number":1,"queues":["q"],"wait":"2m"}"#, ProblemKind::InvalidTask),
        ("/claim", r#"{"worker":"","number":1,"queues":["q"]}"#, ProblemKind::InvalidTask),
        ("/tasks/1/complete", r#"{"fence":1}"#, ProblemKind::InvalidTask),
        ("/workers/w/beat", r#"{"holds":["a"]}"#, ProblemKind::InvalidTask),
        ("/workers/w/beat", "[[]]", ProblemKind::InvalidTask),
    ] {
        served.post_json(path, body).await.is_problem(kind);
    }
    let never = "00000000-0000-8007-8000-000000000001";
    served.get(&format!("/tasks/{never}")).await.is_problem(ProblemKind::TaskNotFound);
    served.get("/tasks/1").await.is_problem(ProblemKind::InvalidTask);
    served.get(&format!("/tasks/{never}?wait=2m")).await.is_problem(ProblemKind::InvalidQuery);
    served.claim("w", 5).await;
    served.claim("w", 4).await.is_problem(ProblemKind::InvalidTask);
    let both = [("idempotency-key", "k")];
    let body = br#"{"queue":"q","unique":"u"}"#;
    served.ask(Method::POST, "/tasks", &both, body).await.is_problem(ProblemKind::InvalidTask);
}

#[tokio::test]
async fn operators_look_through_the_tasks_of_a_queue_a_part_at_a_time() {
    let served = public().await;
    served.get("/queues/q/tasks").await.is_problem(ProblemKind::NoOperator);
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(served.put_task(&format!(r#"{{"queue":"q","payload":{{"n":{number}}}}}"#)).await);
    }
    served.put_task(r#"{"queue":"other"}"#).await;
    let (active, _) = served.take("w", 1).await;
    let (mut seen, mut path) = (Vec::new(), "/queues/q/tasks?limit=2&state=ready".to_owned());
    loop {
        let part = served.as_operator(Method::GET, &path, "").await.json();
        let tasks = part["tasks"].as_array().unwrap().clone();
        assert!(tasks.len() <= 2 && tasks.iter().all(|task| task["state"] == "ready"), "{part}");
        seen.extend(tasks.iter().map(|task| (task["id"].clone(), task["payload"]["n"].clone())));
        let Some(after) = part["after"].as_str() else { break };
        path = format!("/queues/q/tasks?limit=2&state=ready&after={after}");
    }
    let expected: Vec<(Value, Value)> =
        ids.iter().enumerate().skip(1).map(|(n, id)| (id.as_str().into(), n.into())).collect();
    assert_eq!((seen, active), (expected, ids[0].clone()));
    let none = served.as_operator(Method::GET, "/queues/none/tasks", "").await;
    assert_eq!(none.json(), serde_json::json!({"tasks": [], "after": null}));
    for query in ["state=x", "limit=0", "limit=1001"] {
        let answer = served.as_operator(Method::GET, &format!("/queues/q/tasks?{query}"), "").await;
        answer.is_problem(ProblemKind::InvalidQuery);
    }
    for path in ["/queues/a%20b/tasks", "/queues/q/tasks?after=1"] {
        served.as_operator(Method::GET, path, "").await.is_problem(ProblemKind::InvalidTask);
    }
}

#[tokio::test]
async fn a_queue_is_purged_of_what_is_in_a_state_and_its_dead_are_tried_again() {
    let served = public().await;
    served
        .ask(Method::DELETE, "/queues/q/tasks?state=dead", &[], b"")
        .await
        .is_problem(ProblemKind::NoOperator);
    served.ask(Method::POST, "/queues/q/retry", &[], b"").await.is_problem(ProblemKind::NoOperator);
    let mut dead = Vec::new();
    for number in 0..3 {
        served.put_task(r#"{"queue":"q","retries":0}"#).await;
        let (id, fence) = served.take("w", number + 1).await;
        served.post_json(&format!("/tasks/{id}/fail"), &format!(r#"{{"fence":{fence},"error":"e"}}"#)).await;
        dead.push(id);
    }
    let other = served.put_task(r#"{"queue":"other"}"#).await;
    let retried = served.as_operator(Method::POST, "/queues/q/retry", "").await;
    assert_eq!(retried.json(), serde_json::json!({"changed": 3}));
    let (id, fence) = served.take("w", 4).await;
    for query in ["", "?state=done", "?state=cancelled"] {
        let answer = served.as_operator(Method::DELETE, &format!("/queues/q/tasks{query}"), "").await;
        answer.is_problem(ProblemKind::InvalidQuery);
    }
    for (state, count) in [("dead", 0), ("ready", 2), ("active", 1), ("active", 0)] {
        let path = format!("/queues/q/tasks?state={state}");
        let purged = served.as_operator(Method::DELETE, &path, "").await;
        assert_eq!(purged.json(), serde_json::json!({ "changed": count }), "{state}");
    }
    let late = served.post_json(&format!("/tasks/{id}/complete"), &format!(r#"{{"fence":{fence}}}"#)).await;
    late.is_problem(ProblemKind::TaskFinished);
    for id in dead {
        assert_eq!(served.get(&format!("/tasks/{id}")).await.json()["state"], "cancelled");
    }
    assert_eq!(served.get(&format!("/tasks/{other}")).await.json()["state"], "ready");
}

#[tokio::test]
async fn workers_are_listed_with_what_each_holds_and_the_admin_address_asks_for_no_token() {
    let (public, admin) = (public().await, admin().await);
    public.get("/workers").await.is_problem(ProblemKind::NoOperator);
    let id = public.put_task(r#"{"queue":"q","kind":"sum"}"#).await;
    let (_, fence) = public.take("w1", 1).await;
    public.claim("w2", 1).await;
    let first = public.as_operator(Method::GET, "/workers?limit=1", "").await.json();
    assert_eq!((&first["workers"][0]["worker"], &first["after"]), (&"w1".into(), &"w1".into()));
    let held = &first["workers"][0]["holds"][0];
    assert_eq!((&held["id"], &held["fence"], &held["kind"]), (&id.into(), &fence.into(), &"sum".into()));
    assert_eq!((&first["workers"][0]["slots"], &first["workers"][0]["beat"]), (&Value::Null, &Value::Null));
    let beat = public.post_json("/workers/w3/beat", r#"{"slots":8.0,"version":"1.2.3"}"#).await;
    assert_eq!(beat.status, 200, "{:?}", beat.body);
    for body in [r#"{"slots":0}"#, r#"{"slots":2147483648}"#, r#"{"version":""}"#, r#"{"version":"a b"}"#] {
        public.post_json("/workers/w3/beat", body).await.is_problem(ProblemKind::InvalidTask);
    }
    let third = public.as_operator(Method::GET, "/workers?after=w2", "").await.json()["workers"][0].clone();
    assert_eq!((&third["slots"], &third["version"]), (&8.into(), &"1.2.3".into()), "{third}");
    assert!(third["beat"].is_string() && third["claimed"].is_null(), "{third}");
    let quiet = async |worker: &str, body: &str| {
        public.as_operator(Method::POST, &format!("/workers/{worker}/quiet"), body).await
    };
    public.post_json("/workers/w3/quiet", r#"{"quiet":true}"#).await.is_problem(ProblemKind::NoOperator);
    quiet("w9", r#"{"quiet":true}"#).await.is_problem(ProblemKind::WorkerNotFound);
    quiet("w3", r#"{"quiet":1}"#).await.is_problem(ProblemKind::InvalidTask);
    let asked = quiet("w3", r#"{"quiet":true}"#).await.json();
    assert_eq!(asked, serde_json::json!({"worker": "w3", "quiet": true}));
    for wrong in [r#"{"quiet":null}"#, r#"{"version":null}"#, r#"{"slots":null}"#, r#"{"slots":1.5}"#] {
        public.post_json("/workers/w3/beat", wrong).await.is_problem(ProblemKind::InvalidTask);
    }
    let told = public.post_json("/workers/w3/beat", r#"{"quiet":false}"#).await.json();
    assert_eq!(told, serde_json::json!({"lost": [], "say": "quiet"}));
    let told = public.post_json("/workers/w3/beat", r#"{"quiet":true}"#).await.json();
    assert_eq!(told, serde_json::json!({"lost": []}));
    public.fake.state.lock().unwrap().heard.clear();
    let second = public.as_operator(Method::GET, "/workers?limit=1&after=w1", "").await.json();
    assert_eq!((&second["workers"][0]["worker"], &second["after"]), (&"w2".into(), &Value::Null));

    for (path, list) in [("/workers", "workers"), ("/queues", "queues"), ("/queues/q/tasks", "tasks")] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, &answer.json()[list]), (StatusCode::OK, &serde_json::json!([])), "{path}");
    }
    for method in [Method::DELETE, Method::POST] {
        let answer = admin.ask(method, "/queues/q/tasks?state=dead", &[], b"").await;
        answer.is_problem(ProblemKind::MethodNotAllowed);
    }
}

#[tokio::test]
async fn the_room_for_tasks_is_shown_as_the_level_has_it() {
    let served = public().await;
    served.metrics_show("skep_tasks_max_memory_bytes 201326592.0").await;
    served.fake.state.lock().unwrap().level = Some(skep_state::level::Level(7));
    served.metrics_show("skep_tasks_max_bytes 33554432.0").await;
}
