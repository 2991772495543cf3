//! The command line's shape. Values stay text here: `layers` decides whose counts, `values`
//! what it means, so that a bad value is reported alike wherever it came from.

use clap::{Args, Parser, Subcommand};

/// A web node with gossip membership and a Raft-replicated store of messages.
#[derive(Debug, Parser)]
#[command(
    name = "skep-node",
    version,
    about,
    long_about = "A web node with gossip membership and a Raft-replicated store of messages.\n\n\
        With no verb it serves. Each setting is taken from its flag, else from the environment \
        variable, else from the file given with --config, else it has the default.",
    after_help = "File keys are the flags' names with underscores: http, peer, cluster_key_file, max_body, ...\n\
        Exit status: 0 done, 1 failed, 2 a bad flag or configuration."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub shared: SharedFlags,
    #[command(flatten)]
    pub serve: ServeFlags,
    #[command(subcommand)]
    pub verb: Option<VerbArgs>,
}

/// Flags that serving and the verbs share; they may stand before or after the verb.
#[derive(Debug, Args)]
pub(super) struct SharedFlags {
    /// Admin address: health, metrics, cluster operations [env: SKEP_ADMIN] [default: 127.0.0.1:9400]
    #[arg(long, value_name = "IP:PORT", global = true)]
    pub admin: Option<String>,
    /// Data folder [env: SKEP_DATA] [default: ./data]
    #[arg(long, value_name = "DIR", global = true)]
    pub data: Option<String>,
    /// TOML file with settings [env: SKEP_CONFIG] [default: none]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<String>,
}

/// Flags of serving alone.
#[derive(Debug, Default, Args)]
pub(super) struct ServeFlags {
    /// HTTP API [env: SKEP_HTTP] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<String>,
    /// Peers: Raft over TCP and gossip over UDP, one number [env: SKEP_PEER] [default: 127.0.0.1:7400]
    #[arg(long, value_name = "IP:PORT")]
    pub peer: Option<String>,
    /// Address that peers are told [env: SKEP_ADVERTISE] [default: the local address on the route to
    /// the seeds, with the port of --peer]
    #[arg(long, value_name = "IP[:PORT]")]
    pub advertise: Option<String>,
    /// Seeds, comma-separated host:port; a DNS name counts with all its addresses and is looked up
    /// again [env: SKEP_SEEDS] [default: none, alone]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub seeds: Option<String>,
    /// How many nodes to wait for before the first election [env: SKEP_EXPECT] [default: 1]
    #[arg(long, value_name = "N")]
    pub expect: Option<String>,
    /// Most voters; the rest are learners [env: SKEP_VOTERS] [default: 5]
    #[arg(long, value_name = "N")]
    pub voters: Option<String>,
    /// File with the cluster key, one a line: the first seals, all open; see `keygen`
    /// [env: SKEP_CLUSTER_KEY_FILE, or SKEP_CLUSTER_KEY with the key itself] [default: none, allowed on
    /// loopback alone]
    #[arg(long, value_name = "FILE")]
    pub cluster_key_file: Option<String>,
    /// Log filter: a level, or target=level,... [env: SKEP_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format: human or json [env: SKEP_LOG_FORMAT] [default: human on a terminal, else json]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Largest request body, in bytes or with KiB or MiB [env: SKEP_MAX_BODY] [default: 1MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_body: Option<String>,
    /// How long a request may wait for a leader and a quorum [env: SKEP_REQUEST_TIMEOUT] [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub request_timeout: Option<String>,
    /// How long a dead voter is waited for before it is replaced [env: SKEP_DEAD_GRACE] [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub dead_grace: Option<String>,
}

impl ServeFlags {
    /// Each flag with the value that was given, if any.
    pub fn given(&self) -> [(&'static str, Option<&str>); 12] {
        [
            ("--http", self.http.as_deref()),
            ("--peer", self.peer.as_deref()),
            ("--advertise", self.advertise.as_deref()),
            ("--seeds", self.seeds.as_deref()),
            ("--expect", self.expect.as_deref()),
            ("--voters", self.voters.as_deref()),
            ("--cluster-key-file", self.cluster_key_file.as_deref()),
            ("--log", self.log.as_deref()),
            ("--log-format", self.log_format.as_deref()),
            ("--max-body", self.max_body.as_deref()),
            ("--request-timeout", self.request_timeout.as_deref()),
            ("--dead-grace", self.dead_grace.as_deref()),
        ]
    }

    /// A flag of serving that was given, to refuse it beside a verb.
    pub fn first_given(&self) -> Option<&'static str> {
        self.given().into_iter().find(|(_, value)| value.is_some()).map(|(flag, _)| flag)
    }
}

impl SharedFlags {
    pub fn given(&self) -> [(&'static str, Option<&str>); 3] {
        [
            ("--admin", self.admin.as_deref()),
            ("--data", self.data.as_deref()),
            ("--config", self.config.as_deref()),
        ]
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum VerbArgs {
    /// Print a new cluster key
    Keygen(Output),
    /// Ask whether the node is ready: exit status 0 or 1, for a container's healthcheck
    Health {
        /// Ask only whether the process is alive, not whether it may take requests
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List the cluster's members as this node knows them
    Members(Output),
    /// List the Raft peers: role, match index, lag (ask the leader for the last two)
    Peers(Output),
    /// Hand the leadership over
    TransferLeader {
        /// Node to hand it to; without one, the most up-to-date voter
        id: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a node that is gone for good
    ForceLeave {
        /// The node's id, as `members` shows it
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Save, inspect or restore a snapshot of the store
    #[command(subcommand)]
    Snapshot(SnapshotArgs),
    /// Make a new single-voter cluster from the data folder of a stopped node, after a quorum was lost
    /// for good
    Recover {
        /// Confirm that the other nodes are gone for good; what only they had is lost
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotArgs {
    /// Save a snapshot of the running cluster's store to a new file
    Save {
        file: String,
        #[command(flatten)]
        output: Output,
    },
    /// Check a snapshot file and say what it holds
    Inspect {
        file: String,
        #[command(flatten)]
        output: Output,
    },
    /// Restore a snapshot file into an empty cluster
    Restore {
        file: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Output {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// The whole command line, for manual pages and tests of the documentation.
pub fn command_for_docs() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
