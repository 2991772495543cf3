//! Bytes of tasks that this node's disk has lost, and others have.

use super::*;

const PAYLOAD: &str = r#""this one is lost""#;

impl Served {
    /// Puts a task of this payload.
    async fn put_payload(&self, payload: &str) -> String {
        let answer = self.post_json("/queues/q", payload).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn claim_all(&self, number: u64) -> Answer {
        let asked =
            serde_json::json!({"worker": "w", "number": number, "queues": ["q"], "max": 9, "wait": 0});
        self.post_json("/claim", &asked.to_string()).await
    }

    fn lose(&self, bytes: &str) {
        self.fake.state.lock().unwrap().lost.push(Bytes::copy_from_slice(bytes.as_bytes()));
    }

    async fn shown(&self, id: &str) -> Value {
        self.get(&format!("/tasks/{id}")).await.json()
    }
}

#[tokio::test]
async fn a_claim_gives_what_can_be_read_and_what_cannot_waits_with_no_try_counted() {
    let served = public().await;
    served.lose(PAYLOAD);
    let lost = served.put_payload(PAYLOAD).await;
    let there = served.put_payload("7").await;
    let given = served.claim_all(1).await;
    assert_eq!(given.status, 200, "{:?}", given.body);
    let tasks = given.json()["tasks"].clone();
    assert_eq!((tasks.as_array().unwrap().len(), &tasks[0]["id"]), (1, &Value::from(&*there)));
    let shown = served.shown(&lost).await;
    let [state, tries, of_workers] = ["state", "tries", "lost"].map(|name| shown[name].clone());
    assert_eq!((state, tries, of_workers), ("due".into(), 0.into(), 0.into()), "{shown}");
    // The same claim again is of what was given, and one of lost tasks alone comes to nothing.
    assert_eq!(served.claim_all(1).await.json()["tasks"], tasks);
    let end = format!(r#"{{"fence":{},"result":1}}"#, tasks[0]["fence"]);
    assert_eq!(served.post_json(&format!("/tasks/{there}/complete"), &end).await.status, 200);
    served.put_payload(PAYLOAD).await;
    assert_eq!(served.claim_all(2).await.status, 204);
}

#[tokio::test]
async fn a_list_shows_a_task_whose_bytes_are_lost_without_them() {
    let served = public().await;
    served.lose(PAYLOAD);
    let lost = served.put_payload(PAYLOAD).await;
    served.put_payload("7").await;
    let bearer = format!("Bearer {TOKEN}");
    let list = served.ask(Method::GET, "/queues/q/tasks", &[("authorization", &bearer)], b"").await;
    assert_eq!(list.status, 200, "{:?}", list.body);
    let tasks = &list.json()["tasks"];
    assert_eq!((&tasks[0]["id"], &tasks[0]["payload"]), (&Value::from(&*lost), &Value::Null));
    assert_eq!((&tasks[0]["bytes_lost"], &tasks[1]["payload"]), (&true.into(), &7.into()));
    assert!(tasks[1].get("bytes_lost").is_none());
}

#[tokio::test]
async fn whoever_asks_for_a_result_that_is_lost_is_told_that_another_node_may_be_asked() {
    let served = public().await;
    let id = served.put_payload("7").await;
    let task = served.claim_all(1).await.json()["tasks"][0].clone();
    let end = format!(r#"{{"fence":{},"result":"a result"}}"#, task["fence"]);
    assert_eq!(served.post_json(&format!("/tasks/{id}/complete"), &end).await.status, 200);
    served.lose(r#""a result""#);
    let answer = served.get(&format!("/tasks/{id}")).await;
    answer.is_problem(ProblemKind::Unavailable);
    assert_eq!(answer.header("skep-unprocessed"), "1");
}
