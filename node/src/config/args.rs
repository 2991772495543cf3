//! The command line's shape: what the program says of itself, and its verbs. The flags are rows
//! in `settings`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Command, Subcommand};
use skep_base::settings::{self, Output};

use super::settings::SETTINGS;
use super::shift::ShiftArgs;

/// The program, without its flags and verbs.
pub(super) fn program() -> Command {
    Command::new("skep-node")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A web node with gossip membership and a Raft-replicated store of messages")
        .long_about(
            "A web node with gossip membership and a Raft-replicated store of messages.\n\n\
             With no verb it serves. Each setting is taken from its flag, else from the environment \
             variable, else from the file given with --config, else it has the default.",
        )
        .after_help(
            "File keys are the flags' names with underscores: http, peer, cluster_key_file, max_body, ...\n\
             SIGTERM leaves the cluster, then ends; SIGHUP reads the file of the cluster key again.\n\
             Exit status: 0 done, 1 failed, 2 a bad flag or configuration.",
        )
}

/// The whole command line, for manual pages and tests of the documentation.
pub fn command_for_docs() -> Command {
    settings::command::<VerbArgs>(program(), SETTINGS)
}

#[derive(Debug, Subcommand)]
pub(super) enum VerbArgs {
    /// Print a new cluster key
    Keygen(Output),
    /// Print the edge key that belongs to a cluster key: what balancers and address holders need, and with
    /// which nobody votes or writes
    EdgeKey {
        /// File with the cluster key, - for standard input; without it, the key that a node would take
        /// from the environment or the file of --config
        file: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Print the token of workers, which take tasks and need no cluster key
    WorkerToken {
        /// File with the cluster key, as for edge-key; the token is of the first
        file: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Ask whether the node is ready: exit status 0 or 1, for a container's healthcheck
    Health {
        /// Ask whether it has started: is or was ready, or finds no cluster to be ready in; for an
        /// orchestrator that publishes the names of healthy tasks alone, and replaces one by one
        #[arg(long, conflicts_with = "live")]
        started: bool,
        /// Ask only whether the process is alive, not whether it may take requests
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List the cluster's members as this node knows them
    Members(Output),
    /// Show the voters' clocks beside the time that what is written gets
    Clock {
        #[command(subcommand)]
        what: Option<ClockArgs>,
        #[command(flatten)]
        output: Output,
    },
    /// List the Raft peers: role, match index, lag (ask the leader for the last two)
    Peers(Output),
    /// List the queues of tasks: what is in each, and what has come of it
    Queues(Output),
    /// List the tasks of a queue, in the order in which they were put
    Tasks {
        queue: String,
        /// Those of this state alone
        #[arg(long, value_parser = ["ready", "due", "active", "done", "dead", "cancelled"])]
        state: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// After this task
        #[arg(long)]
        after: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List the workers that are known, with what each holds
    Workers(Output),
    /// List the schedules of tasks: when each fires, and what has come of it
    Schedules(Output),
    /// Show or change what the gateway is told: the document that the cluster keeps for its balancers
    #[command(subcommand)]
    Config(ConfigArgs),
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
    /// Read every message of the last checkpoint in the data folder of a stopped node, and say what is not as
    /// it was written
    Verify(Output),
    /// Make a new single-voter cluster from the data folder of a stopped node, after a quorum was lost
    /// for good
    Recover {
        /// Confirm that the other nodes are gone for good; what only they had is lost
        #[arg(long)]
        yes: bool,
        /// Say how far the folder's log goes, and change nothing: of several folders, the one whose last
        /// log term is highest, and of these whose last log index is, has all that was acknowledged
        #[arg(long, conflicts_with = "yes")]
        inspect: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ClockArgs {
    /// Say whether the time of what is written is ahead of the clocks, as a clock that was wrong under a
    /// version before may have left it; and with --yes set it back, once and for all nodes
    Mend {
        /// Set it back: what has a later time is shown with that of now, for good. With --agreed
        #[arg(long)]
        yes: bool,
        /// The time on which the clocks agree, as it is said without --yes, at most an hour ago; refused where
        /// they have come to agree on another since. Of --json, agreed_ms
        #[arg(long, value_name = "TIME")]
        agreed: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

/// Of which part of the gateway's document a file is.
#[derive(Debug, Args)]
pub(super) struct PartArgs {
    /// The file is what this source has: what others have stays, and what the source had else is taken out
    #[arg(long, value_name = "NAME", value_parser = skep_gateway::document::sources::read)]
    pub source: Option<String>,
    /// Take what other sources have by the same names
    #[arg(long, requires = "source")]
    pub take: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigArgs {
    /// Make a document the cluster's, whole, where nobody changes it meanwhile; or one part of it
    Apply {
        /// In TOML or JSON; - for standard input
        file: PathBuf,
        #[command(flatten)]
        part: PartArgs,
        /// Say what it would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Wait at most so long until each balancer has it in force, and fail where one has not: up to 30
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=30))]
        #[arg(conflicts_with = "dry_run")]
        wait: Option<u64>,
        #[command(flatten)]
        output: Output,
    },
    /// Say what a document would change
    Diff {
        /// In TOML or JSON; - for standard input
        file: PathBuf,
        #[command(flatten)]
        part: PartArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Print the document, as JSON that can be applied
    Export,
    /// Say what is wrong with a document: exit status 0 where nothing is, else 1. Asks nobody
    Check {
        /// In TOML or JSON; - for standard input
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Make a key for a consumer, and print it, this once, with what is kept of it. Asks nobody
    Key {
        /// The consumer's name
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Read a password, a line of standard input, and print what is kept of it: the consumer as it may be put. Asks nobody
    Password {
        /// The consumer's name
        name: String,
        /// By which name it is presented; else the consumer's
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Say which route would have a request, and what would become of it there: exit status 0 where it goes to a
    /// service, else 1
    Explain {
        /// As in http://api.example.org/read?x
        url: String,
        #[arg(long, default_value = "GET")]
        method: String,
        /// A header field, as in "x-canary: 1"; may stand more than once
        #[arg(long, value_name = "NAME: VALUE")]
        header: Vec<String>,
        /// The address that asks
        #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
        from: IpAddr,
        #[command(flatten)]
        output: Output,
    },
    /// Lead a route's requests from one of its services to another, step by step, and back where too many fail; or say
    /// how far that is
    Shift(ShiftArgs),
    /// List the documents that are kept, the newest first
    History(Output),
    /// Have balancers forget answers that they have stored: say which
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Purge {
        /// Of this URL, as in https://api.example.org/x?y
        #[arg(long, group = "what")]
        url: Option<String>,
        /// Of URLs that begin so, as in https://api.example.org/x/, or /x/ on whatever host
        #[arg(long, group = "what")]
        prefix: Option<String>,
        /// By this route
        #[arg(long, group = "what", value_name = "NAME")]
        route: Option<String>,
        /// Of this service
        #[arg(long, group = "what", value_name = "NAME")]
        service: Option<String>,
        /// Of this group, which answers name in Cache-Groups
        #[arg(long, group = "what")]
        group: Option<String>,
        /// All of them
        #[arg(long, group = "what")]
        all: bool,
        /// Wait so long for all balancers to obey it: exit status 1 where one does not
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=30))]
        wait: Option<u64>,
        #[command(flatten)]
        output: Output,
    },
    /// Make a document of the past the newest again, as a new revision
    Rollback {
        /// As `history` shows it
        revision: u64,
        /// As of `apply`
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=30))]
        wait: Option<u64>,
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
