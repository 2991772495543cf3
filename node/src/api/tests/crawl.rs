use super::*;

impl Served {
    async fn crawl(&self, urls: &[&str]) -> String {
        let body = serde_json::json!({ "urls": urls }).to_string();
        let answer = self.ask(Method::POST, "/", &[], body.as_bytes()).await;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("location"), format!("/status/{id}"));
        id
    }

    /// The only page of a claim: its task, its fence and its URL.
    async fn page(&self, worker: &str, number: u64) -> (String, u64, String) {
        let asked = serde_json::json!({"worker": worker, "number": number, "queues": ["crawl"], "wait": 0});
        let answer = self.post_json("/claim", &asked.to_string()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let task = &answer.json()["tasks"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert_eq!(task["kind"], "crawl");
        (text(&task["id"]), task["fence"].as_u64().unwrap(), text(&task["payload"]["url"]))
    }

    async fn end(&self, how: &str, (id, fence, _): &(String, u64, String), with: &str) {
        let body = format!(r#"{{"fence":{fence},{with}}}"#);
        let answer = self.post_json(&format!("/tasks/{id}/{how}"), &body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
}

#[tokio::test]
async fn pages_are_posted_and_their_images_asked_for_until_all_are_there() {
    let served = public().await;
    let id = served.crawl(&["http://b.example/?2", "http://a.example", "http://a.example"]).await;
    let status = served.get(&format!("/status/{id}")).await;
    let shown = serde_json::json!({"id": id, "completed": 0, "inprogress": 2});
    assert_eq!((status.status, status.json()), (StatusCode::OK, shown));
    let result = format!("/result/{id}");
    let nothing = served.get(&result).await;
    assert_eq!((nothing.status, nothing.json()), (StatusCode::ACCEPTED, serde_json::json!({})));
    let first = served.page("w", 1).await;
    assert_eq!(first.2, "http://b.example/?2");
    served
        .end("complete", &first, r#""result":{"images":["http://b.example/2.png","http://c/1.png"]}"#)
        .await;
    assert_eq!(served.get(&format!("/status/{id}")).await.json()["completed"], 1);
    let some = served.get(&result).await;
    assert_eq!((some.status, some.header("retry-after")), (StatusCode::ACCEPTED, "1"));
    let images = serde_json::json!(["http://b.example/2.png", "http://c/1.png"]);
    assert_eq!(some.json(), serde_json::json!({"http://b.example/?2": images}));
    // One that cannot be looked at is over, too, and says why where its task is asked for.
    let second = served.page("w", 2).await;
    served.end("fail", &second, r#""error":"no such host","final":true"#).await;
    let status = served.get(&format!("/status/{id}")).await.json();
    assert_eq!(status, serde_json::json!({"id": id, "completed": 2, "inprogress": 0}));
    let all = served.get(&result).await;
    assert_eq!((all.status, all.header("retry-after")), (StatusCode::OK, ""));
    assert_eq!(all.json(), serde_json::json!({"http://b.example/?2": images, "http://a.example": []}));
    let batch = served.get(&format!("/batches/{id}")).await.json();
    let of_second = batch["tasks"][1]["id"].as_str().unwrap();
    assert_eq!(served.get(&format!("/tasks/{of_second}")).await.json()["error"], "no such host");
}

#[tokio::test]
async fn a_url_that_failed_says_why_where_the_id_of_what_was_posted_is_asked_for() {
    let served = public().await;
    let urls = ["http://a/\"?1", "http://b", "http://a/\"?1", "http://c", "http://d", "http://e"];
    let id = served.crawl(&urls).await;
    let task = format!("/tasks/{id}");
    let begun = served.get(&task).await.json();
    let places: Vec<_> = begun["tasks"].as_array().unwrap().iter().map(|it| it["place"].clone()).collect();
    assert_eq!(places, [0, 1, 3, 4, 5], "they are those of what was posted");
    assert_eq!((&begun["errors"], &begun["met"]), (&serde_json::json!({}), &1.into()));
    let first = served.page("w", 1).await;
    served.end("fail", &first, r#""error":"no such \u00e4","final":true"#).await;
    let moved = served.page("w", 2).await;
    let follow = r#"[{"queue":"crawl","key":"http://x","payload":{"url":"http://x/there","hops":1}}]"#;
    served.end("complete", &moved, &format!(r#""result":{{"images":["1"]}},"follow":{follow}"#)).await;
    let third = served.page("w", 3).await;
    assert_eq!(third.2, "http://c");
    served.end("fail", &third, r#""error":"","final":true"#).await;
    let fourth = served.page("w", 4).await;
    served.end("complete", &fourth, r#""result":{"images":[]}"#).await;
    let token = format!("Bearer {TOKEN}");
    let fifth = served.page("w", 5).await;
    let path = format!("/tasks/{}", fifth.0);
    assert_eq!(served.ask(Method::DELETE, &path, &[("authorization", &token)], b"").await.status, 200);
    let errors =
        serde_json::json!({"http://a/\"?1": "no such ä", "http://c": "it failed", "http://e": "cancelled"});
    assert_eq!(served.get(&task).await.json()["errors"], errors, "one that goes on elsewhere is not over");
    let status = served.get(&format!("/status/{id}")).await.json();
    assert_eq!(status, serde_json::json!({"id": id, "completed": 4, "inprogress": 1}));
    // Whoever waits for what was posted is told of it once all is over.
    let served = std::sync::Arc::new(served);
    let waiting = tokio::spawn({
        let (served, path) = (served.clone(), format!("{task}?wait=30s"));
        async move { served.get(&path).await }
    });
    served.metrics_show("skep_tasks_readers_waiting 1.0").await;
    let there = served.page("w", 6).await;
    served.end("fail", &there, r#""error":"a 404","final":true"#).await;
    let over = waiting.await.unwrap().json();
    assert_eq!((&over["unfinished"], &over["errors"]["http://b"]), (&0.into(), &"a 404".into()), "{over}");
    assert_eq!(served.get(&format!("/batches/{id}")).await.json(), over);
    assert_eq!(served.get(&format!("/result/{id}")).await.json()["http://b"], serde_json::json!(["1"]));
}

#[tokio::test]
async fn what_is_long_is_whole() {
    let served = public().await;
    let urls: Vec<String> = (0..20).map(|number| format!("http://h{number}")).collect();
    let id = served.crawl(&urls.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let image = "x".repeat(50_000);
    for number in 1..=20 {
        let page = served.page("w", number).await;
        served.end("complete", &page, &format!(r#""result":{{"images":["{image}"]}}"#)).await;
    }
    let all = served.get(&format!("/result/{id}")).await;
    assert_eq!((all.status, all.header("connection")), (StatusCode::OK, "close"));
    let all = all.json();
    assert!(urls.iter().all(|url| all[url] == serde_json::json!([image])), "{all}");
}

#[tokio::test]
async fn a_body_is_read_as_json_whatever_it_says_that_it_is_and_the_page_stays_where_it_is() {
    let served = public().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = served.ask(Method::POST, "/", &form, br#"{"urls":["http://a"]}"#).await;
    assert_eq!(answer.status, 202);
    let page = served.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert_eq!(served.ask(Method::HEAD, "/", &[], b"").await.status, 200);
    let refused = served.ask(Method::DELETE, "/", &[], b"").await;
    refused.is_problem(ProblemKind::MethodNotAllowed);
    for method in ["GET", "HEAD", "POST"] {
        assert!(refused.header("allow").contains(method), "{}", refused.header("allow"));
    }
    for (body, kind) in [
        ("", ProblemKind::EmptyBody),
        ("{", ProblemKind::InvalidJson),
        ("urls=http://a", ProblemKind::InvalidJson),
        (r#"{"urls":["http://a","mailto:a@b"]}"#, ProblemKind::InvalidTask),
    ] {
        served.ask(Method::POST, "/", &[], body.as_bytes()).await.is_problem(kind);
    }
    let foreign = [("sec-fetch-site", "cross-site")];
    let answer = served.ask(Method::POST, "/", &foreign, br#"{"urls":["http://a"]}"#).await;
    answer.is_problem(ProblemKind::ForeignOrigin);
}

#[tokio::test]
async fn what_nobody_has_posted_is_not_found() {
    let served = public().await;
    let id = served.crawl(&["http://a"]).await;
    let other = format!("{}0", &id[..id.len() - 1]);
    let other = if other == id { format!("{}1", &id[..id.len() - 1]) } else { other };
    let never = "00000000-0000-8007-8000-000000000001";
    for id in [&*other, never, "1", "5f0b5f4e-8f0e-4c63-9d0b-0c5b6f0a6c4e"] {
        for path in ["status", "result"] {
            served.get(&format!("/{path}/{id}")).await.is_problem(ProblemKind::BatchNotFound);
        }
    }
    for id in [never, "5f0b5f4e-8f0e-4c63-9d0b-0c5b6f0a6c4e"] {
        served.get(&format!("/batches/{id}")).await.is_problem(ProblemKind::BatchNotFound);
        served.get(&format!("/tasks/{id}")).await.is_problem(ProblemKind::TaskNotFound);
    }
    for path in ["/batches/1", "/tasks/1"] {
        served.get(path).await.is_problem(ProblemKind::InvalidTask);
    }
}

#[tokio::test]
async fn tasks_are_put_as_a_batch_and_what_comes_of_them_is_shown() {
    let served = public().await;
    let put = served
        .post_json(
            "/batches",
            r#"{"tasks":[{"queue":"q","unique":"u"},{"queue":"q","unique":"u"}],"keep":"2h"}"#,
        )
        .await;
    assert_eq!(put.status, 201, "{:?}", put.body);
    let id = put.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(put.header("location"), format!("/batches/{id}"));
    let shown = served.get(&format!("/batches/{id}")).await.json();
    let counts = ["total", "met", "unfinished", "done"].map(|name| shown[name].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 1, 0], "{shown}");
    assert_eq!((&shown["tasks"][0]["place"], &shown["tasks"][0]["state"]), (&0.into(), &"ready".into()));
    assert_eq!((shown["tasks"].as_array().unwrap().len(), shown.get("ended")), (1, None));
    assert_eq!(
        (served.get(&format!("/tasks/{id}")).await.json(), shown.get("errors")),
        (shown.clone(), None)
    );
    for body in [r#"{"tasks":[]}"#, r#"{"tasks":[{"queue":"q","priority":11}]}"#, r#"{"keep":1}"#] {
        served.post_json("/batches", body).await.is_problem(ProblemKind::InvalidTask);
    }
}

#[tokio::test]
async fn an_operator_sets_how_many_tasks_of_a_key_are_active() {
    let served = public().await;
    let token = format!("Bearer {TOKEN}");
    let set = async |body: &str| {
        served.ask(Method::PUT, "/queues/q", &[("authorization", &token)], body.as_bytes()).await
    };
    let answer = set(r#"{"per_key":1,"key_pause":"1s 500ms"}"#).await.json();
    assert_eq!((&answer["per_key"], &answer["key_pause"]), (&1.into(), &1.5.into()), "{answer}");
    set(r#"{"per_key":0}"#).await.is_problem(ProblemKind::InvalidTask);
    for _ in 0..3 {
        assert_eq!(served.post_json("/tasks", r#"{"queue":"q","key":"k"}"#).await.status, 201);
    }
    let queues = served.get("/queues").await.json();
    let queue = &queues["queues"][0];
    assert_eq!((&queue["ready"], &queue["aside"], &queue["per_key"]), (&3.into(), &2.into(), &1.into()));
}

#[tokio::test]
async fn what_goes_on_at_another_origin_is_found_under_the_url_that_was_posted() {
    let served = public().await;
    let id = served.crawl(&["http://a/moved", "http://c"]).await;
    let first = served.page("w", 1).await;
    let follow = r#"[{"queue":"crawl","key":"https://b","payload":{"url":"https://b/there","hops":1}}]"#;
    served.end("complete", &first, &format!(r#""result":{{"images":["1"]}},"follow":{follow}"#)).await;
    let status = format!("/status/{id}");
    let shown = serde_json::json!({"id": id, "completed": 0, "inprogress": 2});
    assert_eq!(served.get(&status).await.json(), shown, "it is not over yet");
    let other = served.page("w", 2).await;
    served.end("complete", &other, r#""result":{"images":[]}"#).await;
    let second = served.page("w", 3).await;
    assert_eq!(second.2, "https://b/there");
    served.end("complete", &second, r#""result":{"images":["2","1"]}"#).await;
    let shown = serde_json::json!({"id": id, "completed": 2, "inprogress": 0});
    assert_eq!(served.get(&status).await.json(), shown);
    let all = served.get(&format!("/result/{id}")).await;
    let expected = serde_json::json!({"http://a/moved": ["1", "2"], "http://c": []});
    assert_eq!((all.status, all.json()), (StatusCode::OK, expected));
}

#[tokio::test]
async fn what_may_not_follow_is_refused_and_its_task_is_still_held() {
    let served = public().await;
    assert_eq!(served.post_json("/tasks", r#"{"queue":"crawl"}"#).await.status, 201);
    let asked = r#"{"worker":"w","number":1,"queues":["crawl"],"wait":0}"#;
    let task = served.post_json("/claim", asked).await.json()["tasks"][0].clone();
    let (path, fence) = (format!("/tasks/{}", task["id"].as_str().unwrap()), &task["fence"]);
    for (how, follow) in [
        ("complete", r#"[{"queue":""}]"#.to_owned()),
        ("complete", format!("[{}]", vec![r#"{"queue":"q"}"#; 33].join(","))),
        ("fail", r#"[{"queue":"q"}]"#.to_owned()),
    ] {
        let body = format!(r#"{{"fence":{fence},"follow":{follow}}}"#);
        served.post_json(&format!("{path}/{how}"), &body).await.is_problem(ProblemKind::InvalidTask);
    }
    assert_eq!(served.get(&path).await.json()["state"], "active");
}
