//! skep's queue, by HTTP/1.1: put, claim and complete, each acknowledged.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use skep_load::http1::Http1;

use crate::Args;
use crate::tally::Tally;

const JSON: &[u8] = b"application/json";

#[derive(Debug, Deserialize)]
struct Claimed<'a> {
    #[serde(borrow)]
    tasks: Vec<Task<'a>>,
}

#[derive(Debug, Deserialize)]
struct Task<'a> {
    id: &'a str,
    fence: u64,
    #[serde(borrow)]
    payload: &'a RawValue,
}

pub async fn run(args: &Args, tally: &Rc<Tally>) -> anyhow::Result<()> {
    let targets: Vec<SocketAddr> = args
        .targets
        .iter()
        .map(|target| target.parse().with_context(|| format!("{target}: an address and a port")))
        .collect::<Result<_, _>>()?;
    let mut running = tokio::task::JoinSet::new();
    for at in 0..args.workers {
        running.spawn_local(work(args.clone(), tally.clone(), targets[at % targets.len()], at));
    }
    for at in 0..args.producers {
        running.spawn_local(produce(args.clone(), tally.clone(), targets[at % targets.len()]));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

async fn produce(args: Args, tally: Rc<Tally>, target: SocketAddr) -> anyhow::Result<()> {
    let mut http = Http1::open(target).await?;
    let mut body = Vec::new();
    while let Some(at) = tally.next().await {
        body.clear();
        if args.puts > 1 {
            body.push(b'[');
        }
        for place in 0..args.puts {
            if place > 0 {
                body.push(b',');
            }
            body.extend_from_slice(b"{\"queue\":\"");
            body.extend_from_slice(args.queue.as_bytes());
            body.extend_from_slice(b"\",\"keep\":0,\"payload\":\"");
            tally.stamp(at, args.bytes, &mut body);
            body.extend_from_slice(b"\"}");
        }
        if args.puts > 1 {
            body.push(b']');
        }
        let answer = http.post(b"/tasks", JSON, &body).await?;
        if answer.status == 429 {
            // The queue is full: what workers end makes room.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            continue;
        }
        ensure!(answer.status == 201, "a put was answered {}", answer.status);
        tally.was_put(at, args.puts as u64);
    }
    Ok(())
}

async fn work(args: Args, tally: Rc<Tally>, target: SocketAddr, at: usize) -> anyhow::Result<()> {
    let mut http = Http1::open(target).await?.keeping_bodies();
    let worker = format!("bench-{}-{at}", std::process::id());
    let mut bytes = Vec::new();
    for number in 1u64.. {
        let claim = format!(
            "{{\"worker\":\"{worker}\",\"number\":{number},\"queues\":[\"{}\"],\"max\":{},\"wait\":\"30s\",\"holds\":[]}}",
            args.queue, args.batch
        );
        let answer = http.post(b"/claim", JSON, claim.as_bytes()).await?;
        if answer.status == 204 {
            continue;
        }
        ensure!(answer.status == 200, "a claim was answered {}", answer.status);
        bytes.clear();
        bytes.extend_from_slice(http.body());
        let claimed: Claimed<'_> = serde_json::from_slice(&bytes).context("what a claim gave")?;
        for task in &claimed.tasks {
            tally.was_taken(task.payload.get().as_bytes().get(1..).unwrap_or_default());
        }
        for task in &claimed.tasks {
            let path = format!("/tasks/{}/complete", task.id);
            let end = format!("{{\"fence\":{}}}", task.fence);
            let answer = http.post(path.as_bytes(), JSON, end.as_bytes()).await?;
            ensure!(answer.status == 200, "an end was answered {}", answer.status);
            tally.has_ended();
        }
    }
    Ok(())
}
