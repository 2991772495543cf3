//! The command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// Shortest message: its first 16 bytes are what makes it unique.
pub const MESSAGE_BYTES_MIN: usize = 16;
/// Longest message: skep's default body limit, and less than etcd's 1.5 MiB.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most connections of one run.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Most threads of one run.
pub const THREADS_MAX: usize = 256;
/// Most messages put before reads are measured.
pub const PRELOAD_MAX: u64 = 1_000_000;

/// Load for skep and for etcd, measured the same way.
#[derive(Debug, Parser)]
#[command(name = "skep-load", version)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Puts load on the targets and reports what came of it.
    #[command(args_override_self = true)]
    Run(Options),
    /// Follows the live feed with many readers while messages are put at a rate.
    #[command(args_override_self = true)]
    Live(LiveOptions),
    /// Prints a Markdown table of medians from a file of reports, one JSON object a line.
    Table {
        /// What `run --json` printed, again and again.
        file: PathBuf,
    },
}

/// What to ask for, of whom, how often and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What each request does.
    pub mode: Mode,
    /// Addresses, comma-separated; connections are dealt to them in turn.
    #[arg(long, value_delimiter = ',', required = true)]
    pub targets: Vec<SocketAddr>,
    /// Connections, each with one request outstanding.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Threads that share the connections; as many as there are processors where it is not given.
    #[arg(long)]
    pub threads: Option<usize>,
    /// How long to measure, in seconds.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// How long to load before measuring, in seconds.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub warmup: Duration,
    /// Requests per second over all connections; latency then counts from the moment at which
    /// a request should have started. Without it, each connection asks again when it is answered.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Bytes of each message or value.
    #[arg(long, default_value_t = 100)]
    pub bytes: usize,
    /// How a message is sent to skep.
    #[arg(long, value_enum, default_value_t = ContentType::Json)]
    pub content_type: ContentType,
    /// How many messages or keys are put first, for the modes that read them.
    #[arg(long, default_value_t = 10_000)]
    pub preload: u64,
    /// When a request counts as failed, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    /// Makes the messages; by default no two runs send the same ones.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Prints the report as JSON on standard output, and the line on standard error.
    #[arg(long)]
    pub json: bool,
}

/// Who follows the live feed, and what comes.
#[derive(Debug, Clone, clap::Args)]
pub struct LiveOptions {
    /// Addresses, comma-separated; readers are dealt to them in turn, and go on at the next one.
    #[arg(long, value_delimiter = ',', required = true)]
    pub targets: Vec<SocketAddr>,
    /// Readers.
    #[arg(long, default_value_t = 1000)]
    pub readers: usize,
    /// Messages that are put per second.
    #[arg(long, default_value_t = 500.0)]
    pub rate: f64,
    /// Connections that put them.
    #[arg(long, default_value_t = 16)]
    pub writers: usize,
    /// For how long messages are put, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// Bytes of each message.
    #[arg(long, default_value_t = 100)]
    pub bytes: usize,
    /// How long a message may be tried, and readers may take to the end, in seconds.
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// Prints the report as JSON on standard output, and the line on standard error.
    #[arg(long)]
    pub json: bool,
}

impl LiveOptions {
    /// Says which option has a value that makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        for (name, count) in [("--readers", self.readers), ("--writers", self.writers)] {
            anyhow::ensure!((1..=CONNECTIONS_MAX).contains(&count), "{name} must be 1 to {CONNECTIONS_MAX}");
        }
        anyhow::ensure!(
            (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&self.bytes),
            "--bytes must be {MESSAGE_BYTES_MIN} to {MESSAGE_BYTES_MAX}"
        );
        anyhow::ensure!((0.1..=1_000_000.0).contains(&self.rate), "--rate must be 0.1 to 1,000,000");
        anyhow::ensure!(!self.seconds.is_zero(), "--seconds must be more than 0");
        anyhow::ensure!(!self.timeout.is_zero(), "--timeout must be more than 0");
        Ok(())
    }
}

/// What each request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `POST /messages` with a message that was never sent before.
    SkepPut,
    /// `GET /messages/{digest}` of a message that is there.
    SkepGetPresent,
    /// `GET /messages/{digest}` of a message that is not: 404 is what is right.
    SkepGetAbsent,
    /// `GET /read` of the newest text.
    SkepRead,
    /// etcd `KV/Put` of a key that was never put before.
    EtcdPut,
    /// etcd `KV/Range`, linearizable, of one key that is there.
    EtcdRange,
}

/// How a message is sent to skep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ContentType {
    /// `{"message":"..."}` as `application/json`.
    Json,
    /// The bytes themselves as `application/octet-stream`.
    Raw,
}

impl Mode {
    /// Whether it talks to etcd.
    pub fn is_etcd(self) -> bool {
        matches!(self, Mode::EtcdPut | Mode::EtcdRange)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::SkepPut => "skep-put",
            Mode::SkepGetPresent => "skep-get-present",
            Mode::SkepGetAbsent => "skep-get-absent",
            Mode::SkepRead => "skep-read",
            Mode::EtcdPut => "etcd-put",
            Mode::EtcdRange => "etcd-range",
        })
    }
}

impl Options {
    /// How many threads to use.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Says which option has a value that makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=CONNECTIONS_MAX).contains(&self.connections),
            "--connections must be 1 to {CONNECTIONS_MAX}"
        );
        anyhow::ensure!(
            self.threads.is_none_or(|threads| (1..=THREADS_MAX).contains(&threads)),
            "--threads must be 1 to {THREADS_MAX}"
        );
        anyhow::ensure!(
            (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&self.bytes),
            "--bytes must be {MESSAGE_BYTES_MIN} to {MESSAGE_BYTES_MAX}"
        );
        anyhow::ensure!((1..=PRELOAD_MAX).contains(&self.preload), "--preload must be 1 to {PRELOAD_MAX}");
        anyhow::ensure!(!self.seconds.is_zero(), "--seconds must be more than 0");
        anyhow::ensure!(!self.timeout.is_zero(), "--timeout must be more than 0");
        if let Some(rate) = self.rate {
            anyhow::ensure!((0.1..=10_000_000.0).contains(&rate), "--rate must be 0.1 to 10,000,000");
        }
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= Duration::from_secs(86_400) => Ok(duration),
        _ => Err(format!("{text:?} is not between 0 and 86,400 seconds")),
    }
}
