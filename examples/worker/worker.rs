//! A worker of a skep cluster, by tokio and hyper: claim, do, end; and beats beside it.
//!   SKEP_URL=http://127.0.0.1:8000 SKEP_QUEUES=mail SKEP_WORKER_TOKEN=... worker
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};

/// Asks a node; none where it has not answered, or cannot now.
async fn post(url: String, body: &Value, seconds: u64) -> Option<Value> {
    let token = format!("Bearer {}", std::env::var("SKEP_WORKER_TOKEN").unwrap_or_default());
    let request = hyper::Request::post(url).header("authorization", token);
    let request = request.body(Full::<bytes::Bytes>::from(body.to_string())).ok()?;
    let answer = async {
        let answer = Client::builder(TokioExecutor::new()).build_http().request(request).await.ok()?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.ok()?.to_bytes();
        let cannot = status >= 500 || status == 401 || status == 429;
        (!cannot).then(|| serde_json::from_slice(&bytes).unwrap_or_default())
    };
    tokio::time::timeout(Duration::from_secs(seconds), answer).await.ok()?
}

/// Asks one node after the other until one has answered.
async fn until_answered(urls: &[String], path: &str, body: Value) -> Value {
    let mut urls = urls.iter().cycle();
    loop {
        match post(urls.next().expect("a URL").to_owned() + path, &body, 20).await {
            Some(answer) => return answer,
            None => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

#[tokio::main]
async fn main() {
    let list = |name| std::env::var(name).expect(name).split(',').map(String::from).collect::<Vec<_>>();
    let (urls, queues) = (list("SKEP_URL"), list("SKEP_QUEUES"));
    let name = format!("rs-{}-{:x}", std::process::id(), UNIX_EPOCH.elapsed().expect("a clock").as_nanos());
    let held: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (of, to, path) = (held.clone(), urls.clone(), format!("/workers/{name}/beat"));
    tokio::spawn(async move {
        for url in to.iter().cycle() {
            let holds = of.lock().expect("no panic").clone();
            post(url.to_owned() + &path, &json!({ "holds": holds }), 3).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    });
    for number in 1.. {
        let claim = json!({"worker": name, "number": number, "queues": queues, "wait": "5s"});
        for task in until_answered(&urls, "/claim", claim).await["tasks"].as_array().unwrap_or(&vec![]) {
            *held.lock().expect("no panic") = vec![task["fence"].clone()];
            let end = json!({"fence": task["fence"], "result": {"did": task["payload"]}}); // the work itself
            let path = format!("/tasks/{}/complete", task["id"].as_str().unwrap_or_default());
            until_answered(&urls, &path, end).await; // 409: another has it
        }
    }
}
