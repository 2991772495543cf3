//! NATS JetStream: a work queue of three replicas, a pull consumer, acknowledgements that nobody waits for.

use std::rc::Rc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_lite::StreamExt;

use crate::Args;
use crate::tally::Tally;

pub async fn run(args: &Args, tally: &Rc<Tally>) -> anyhow::Result<()> {
    let mut contexts = Vec::new();
    for target in &args.targets {
        contexts.push(jetstream::new(async_nats::connect(format!("nats://{target}")).await?));
    }
    let stream = contexts[0]
        .get_or_create_stream(Config {
            name: args.queue.clone(),
            subjects: vec![args.queue.clone()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: 3,
            ..Config::default()
        })
        .await?;
    stream
        .get_or_create_consumer(
            "workers",
            pull::Config {
                durable_name: Some("workers".into()),
                ack_policy: AckPolicy::Explicit,
                max_ack_pending: -1,
                ..pull::Config::default()
            },
        )
        .await?;
    let mut running = tokio::task::JoinSet::new();
    for at in 0..args.workers {
        let context = contexts[at % contexts.len()].clone();
        running.spawn_local(work(args.clone(), tally.clone(), context));
    }
    for at in 0..args.producers {
        let context = contexts[at % contexts.len()].clone();
        running.spawn_local(produce(args.clone(), tally.clone(), context));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

async fn produce(args: Args, tally: Rc<Tally>, context: Context) -> anyhow::Result<()> {
    while let Some(at) = tally.next().await {
        let mut payload = Vec::with_capacity(args.bytes);
        tally.stamp(at, args.bytes, &mut payload);
        let payload = Bytes::from(payload);
        let mut outstanding = Vec::with_capacity(args.puts);
        for _ in 0..args.puts {
            outstanding.push(context.publish(args.queue.clone(), payload.clone()).await?);
        }
        for acknowledged in outstanding {
            acknowledged.await?;
        }
        tally.was_put(at, args.puts as u64);
    }
    Ok(())
}

async fn work(args: Args, tally: Rc<Tally>, context: Context) -> anyhow::Result<()> {
    let consumer: PullConsumer = context
        .get_stream(&args.queue)
        .await?
        .get_consumer("workers")
        .await
        .map_err(anyhow::Error::from_boxed)?;
    loop {
        let mut batch =
            consumer.batch().max_messages(args.batch).expires(Duration::from_secs(30)).messages().await?;
        while let Some(message) = batch.next().await {
            let message = message.map_err(anyhow::Error::from_boxed)?;
            tally.was_taken(&message.payload);
            message.ack().await.map_err(anyhow::Error::from_boxed)?;
            tally.has_ended();
        }
    }
}
