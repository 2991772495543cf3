//! `skep-bench-peers`: the same tasks through skep's queue, RabbitMQ's and NATS JetStream's.
//!
//! Producers put one task at a time and wait until it is acknowledged; workers take what there is and
//! end each. One thread for all of them, whoever serves. A payload begins with the time of its put, so
//! that the way to a worker can be told.

mod nats;
mod rabbitmq;
mod skep;
mod tally;

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::task::LocalSet;

use crate::tally::Tally;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    Skep,
    Rabbitmq,
    Nats,
}

/// Puts tasks, takes and ends them, and prints one line of JSON.
#[derive(Debug, Clone, Parser)]
#[command(version)]
struct Args {
    peer: Peer,
    /// Where its servers are: HOST:PORT of each, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    targets: Vec<String>,
    #[arg(long, default_value_t = 16)]
    producers: usize,
    #[arg(long, default_value_t = 64)]
    workers: usize,
    /// Tasks that a worker takes at a time: of skep's claim, of JetStream's fetch, RabbitMQ's prefetch.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Tasks in a put; RabbitMQ and JetStream have as many outstanding.
    #[arg(long, default_value_t = 1)]
    puts: usize,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Puts a second of all producers together; as fast as they are acknowledged, where it is not given.
    #[arg(long)]
    rate: Option<f64>,
    /// The queue: one that is there from before brings what is left in it.
    #[arg(long, default_value = "bench")]
    queue: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::ensure!(args.bytes >= tally::STAMP_BYTES, "--bytes is at least {}", tally::STAMP_BYTES);
    anyhow::ensure!(args.batch >= 1 && args.puts >= 1, "--batch and --puts are at least 1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let tally = Rc::new(Tally::new(
        Duration::from_secs_f64(args.warmup),
        Duration::from_secs_f64(args.seconds),
        args.rate,
        args.producers,
    )?);
    let over = tally.over();
    let work = async {
        match args.peer {
            Peer::Skep => skep::run(&args, &tally).await,
            Peer::Rabbitmq => rabbitmq::run(&args, &tally).await,
            Peer::Nats => nats::run(&args, &tally).await,
        }
    };
    tokio::select! {
        done = work => done.with_context(|| format!("{:?} at {:?}", args.peer, args.targets))?,
        () = over => {}
    }
    println!("{}", tally.report(&args));
    Ok(())
}
