//! A run: preload, connect all, warm up, measure.
//!
//! One task a connection, a share of them on each thread. The tally and the counters of a thread are
//! shared by its tasks without locks, because no task holds them over an await.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::args::Options;
use crate::client::{Client, Task, Workload};
use crate::failure::Failure;
use crate::pace::Pace;
use crate::report::{Report, Tally};

/// How long a connection rests before it tries again to connect: a dead target must not make the
/// client spin.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);
/// Most connections that preload at once.
const PRELOAD_CONNECTIONS_MAX: usize = 64;
/// Each thread numbers its requests from its own number times two to this: no two are the same.
const SEQ_BITS: u32 = 48;
/// How often one preload request is tried, for a target may still be finding its leader.
const PRELOAD_TRIES: u32 = 20;

/// Runs on `options.threads` threads, each with a runtime and a share of the connections of its own.
pub fn run_blocking(options: Options) -> anyhow::Result<Report> {
    options.check()?;
    let seed = options.seed.unwrap_or_else(seed_of_now);
    let workload = Workload::new(&options, seed);
    let workload = Arc::new(on_a_runtime(preload(workload, &options))??);

    let threads = options.threads().min(options.connections);
    let start = Start { connected: Barrier::new(threads), origin: OnceLock::new() };
    let outcomes = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|thread| {
                let (options, workload, start) = (&options, workload.clone(), &start);
                scope.spawn(move || on_a_runtime(run_share(options, workload, start, thread, threads)))
            })
            .collect();
        let mut outcomes = vec![on_a_runtime(run_share(&options, workload.clone(), &start, 0, threads))];
        outcomes.extend(others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the client panicked")))
        }));
        outcomes
    });
    let mut total: Option<(Tally, Duration)> = None;
    for outcome in outcomes {
        let (tally, cpu) = outcome??;
        match &mut total {
            // The first thread's is the CPU time of the whole process.
            None => total = Some((tally, cpu)),
            Some((total, _)) => total.merge(&tally),
        }
    }
    let (tally, cpu) = total.context("there is no thread")?;
    Ok(report(&options, &tally, cpu))
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, work))
}

/// Where the threads meet: when all have tried to connect, one says when the run begins.
struct Start {
    connected: Barrier,
    origin: OnceLock<Instant>,
}

/// What the tasks of one thread share.
struct Shared {
    workload: Arc<Workload>,
    pace: Pace,
    tally: RefCell<Tally>,
    seq: Cell<u64>,
    timeout: Duration,
}

/// One thread's connections, every `threads`th beginning with its own number; must be called inside
/// a `LocalSet`. Returns what came, and the CPU time of the process meanwhile.
async fn run_share(
    options: &Options,
    workload: Arc<Workload>,
    start: &Start,
    thread: usize,
    threads: usize,
) -> anyhow::Result<(Tally, Duration)> {
    let clients = connect_share(options, &workload, thread, threads).await;
    // Blocks: nothing else is to be done on this thread. A thread that could not connect comes too.
    start.connected.wait();
    let clients = clients?;

    let origin = *start.origin.get_or_init(Instant::now);
    let from = origin + options.warmup;
    let until = from + options.seconds;
    let pace = match options.rate {
        None => Pace::closed(until),
        Some(rate) => {
            let offset = Duration::from_secs_f64(thread as f64 / rate);
            let share = rate / threads as f64;
            Pace::open(origin + offset, until, share, clients.len(), options.timeout)?
        }
    };
    let shared = Rc::new(Shared {
        workload,
        pace,
        tally: RefCell::new(Tally::new(from, until)),
        seq: Cell::new((thread as u64) << SEQ_BITS),
        timeout: options.timeout,
    });
    let mut tasks = JoinSet::new();
    for (address, client) in clients {
        tasks.spawn_local(worker(shared.clone(), address, client));
    }
    tokio::time::sleep_until(from.into()).await;
    let cpu_before = cpu_time();
    tokio::time::sleep_until(until.into()).await;
    let cpu = cpu_time().saturating_sub(cpu_before);
    while let Some(done) = tasks.join_next().await {
        done.context("a connection's task failed")?;
    }
    let shared = Rc::into_inner(shared).context("a connection's task still runs")?;
    let mut tally = shared.tally.into_inner();
    tally.record_unsent(shared.pace.unsent());
    Ok((tally, cpu))
}

async fn connect_share(
    options: &Options,
    workload: &Workload,
    thread: usize,
    threads: usize,
) -> anyhow::Result<Vec<(SocketAddr, Client)>> {
    let mut clients = Vec::with_capacity(options.connections.div_ceil(threads));
    for connection in (thread..options.connections).step_by(threads) {
        let address = options.targets[connection % options.targets.len()];
        clients.push((address, connect(workload, address, options.timeout).await?));
    }
    Ok(clients)
}

fn report(options: &Options, tally: &Tally, cpu: Duration) -> Report {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    Report {
        mode: options.mode,
        connections: options.connections,
        targets: options.targets.len(),
        message_bytes: options.bytes,
        rate: options.rate,
        seconds: options.seconds.as_secs_f64(),
        requests: tally.answered(),
        per_second: tally.answered() as f64 / options.seconds.as_secs_f64(),
        p50_ms: milliseconds(tally.p50()),
        p99_ms: milliseconds(tally.p99()),
        max_ms: milliseconds(tally.max()),
        errors: tally.errors().clone(),
        client_us: cpu.as_secs_f64() * 1e6 / tally.answered().max(1) as f64,
    }
}

async fn worker(shared: Rc<Shared>, address: SocketAddr, client: Client) {
    let mut client = Some(client);
    while let Some(started) = shared.pace.next().await {
        let seq = shared.seq.get();
        shared.seq.set(seq + 1);
        let task = Task::Measured(seq);
        let result = attempt(&mut client, &shared.workload, address, task, shared.timeout).await;
        let no_connection = matches!(result, Err(Failure::Connect(_)));
        shared.tally.borrow_mut().record(started, result);
        if no_connection {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

/// One request, on a new connection where the last one is gone.
async fn attempt(
    slot: &mut Option<Client>,
    workload: &Workload,
    address: SocketAddr,
    task: Task,
    limit: Duration,
) -> Result<(), Failure> {
    let exchange = async {
        let client = match slot {
            Some(client) => client,
            None => slot.insert(Client::open(workload.mode, address).await?),
        };
        client.call(workload, task).await
    };
    let result = timeout(limit, exchange).await.unwrap_or(Err(Failure::Timeout));
    let usable = result.as_ref().map_or_else(Failure::keeps_connection, |()| true);
    if !usable || slot.as_ref().is_some_and(Client::is_spent) {
        *slot = None;
    }
    result
}

async fn connect(workload: &Workload, address: SocketAddr, limit: Duration) -> anyhow::Result<Client> {
    timeout(limit, Client::open(workload.mode, address))
        .await
        .unwrap_or(Err(Failure::Timeout))
        .with_context(|| format!("cannot connect to {address}"))
}

/// Puts what the mode reads.
async fn preload(workload: Workload, options: &Options) -> anyhow::Result<Workload> {
    let total = workload.preload_tasks();
    let workload = Rc::new(workload);
    let next = Rc::new(Cell::new(0));
    let limit = options.timeout;
    let mut tasks = JoinSet::new();
    let connections = PRELOAD_CONNECTIONS_MAX.min(usize::try_from(total).unwrap_or(usize::MAX));
    for address in options.targets.iter().copied().cycle().take(connections) {
        let (workload, next) = (workload.clone(), next.clone());
        tasks.spawn_local(async move {
            let mut client = None;
            while next.get() < total {
                let seq = next.replace(next.get() + 1);
                let mut tries = 1;
                while let Err(failure) =
                    attempt(&mut client, &workload, address, Task::Preload(seq), limit).await
                {
                    anyhow::ensure!(tries < PRELOAD_TRIES, "cannot preload at {address}: {failure}");
                    tries += 1;
                    tokio::time::sleep(RECONNECT_PAUSE * tries).await;
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a preloading task failed")??;
    }
    Rc::into_inner(workload).context("a preloading task still holds the workload")
}

pub(crate) fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ u64::from(std::process::id()) << 48
}

/// CPU time of this process, to 10 ms; zero where the system does not say.
pub(crate) fn cpu_time() -> Duration {
    /// The kernel gives these in units of 10 ms on every Linux platform that Rust runs on.
    const TICK: Duration = Duration::from_millis(10);
    let Ok(text) = std::fs::read_to_string("/proc/self/stat") else { return Duration::ZERO };
    // Fields 14 and 15; the second one, the name, may hold spaces and ends with the last ')'.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}
