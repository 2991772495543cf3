//! RabbitMQ: a quorum queue, publisher confirms, manual acknowledgements that nobody waits for.

use std::rc::Rc;

use anyhow::ensure;
use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::Args;
use crate::tally::Tally;

pub async fn run(args: &Args, tally: &Rc<Tally>) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for target in &args.targets {
        let url = format!("amqp://guest:guest@{target}/%2f");
        connections.push(Connection::connect(&url, ConnectionProperties::default()).await?);
    }
    let channel = connections[0].create_channel().await?;
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(args.queue.as_str().into(), QueueDeclareOptions::durable(), table).await?;
    let mut running = tokio::task::JoinSet::new();
    for at in 0..args.workers {
        let channel = connections[at % connections.len()].create_channel().await?;
        running.spawn_local(work(args.clone(), tally.clone(), channel, at));
    }
    for at in 0..args.producers {
        let channel = connections[at % connections.len()].create_channel().await?;
        running.spawn_local(produce(args.clone(), tally.clone(), channel));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

async fn produce(args: Args, tally: Rc<Tally>, channel: Channel) -> anyhow::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut payload = Vec::new();
    while let Some(at) = tally.next().await {
        payload.clear();
        tally.stamp(at, args.bytes, &mut payload);
        let mut outstanding = Vec::with_capacity(args.puts);
        for _ in 0..args.puts {
            let confirm = channel
                .basic_publish(
                    "".into(),
                    args.queue.as_str().into(),
                    BasicPublishOptions::default(),
                    &payload,
                    // Kept on the disk.
                    BasicProperties::default().with_delivery_mode(2),
                )
                .await?;
            outstanding.push(confirm);
        }
        for confirm in outstanding {
            ensure!(confirm.await?.is_ack(), "a put was refused");
        }
        tally.was_put(at, args.puts as u64);
    }
    Ok(())
}

async fn work(args: Args, tally: Rc<Tally>, channel: Channel, at: usize) -> anyhow::Result<()> {
    channel.basic_qos(args.batch as u16, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(
            args.queue.as_str().into(),
            format!("w{at}").as_str().into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        tally.was_taken(&delivery.data);
        delivery.ack(BasicAckOptions::default()).await?;
        tally.has_ended();
    }
    Ok(())
}
