//! The command line's shape: what the program says of itself, and its verbs. The flags are rows
//! in `settings`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Command, Subcommand};
use skep_base::settings::Output;

/// The program, without its flags and verbs.
pub(super) fn program() -> Command {
    Command::new("skep-balancer")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A load balancer that finds the skep nodes by gossip and hides their failures")
        .long_about(
            "A load balancer that finds the skep nodes by gossip and hides their failures.\n\n\
             With no verb it serves. Each setting is taken from its flag, else from the environment \
             variable, else from the file given with --config, else it has the default.",
        )
        .after_help(
            "File keys are the flags' names with underscores: http, peer, cluster_key_file, max_body, ...\n\
             SIGTERM drains, then ends; SIGHUP reads certificates, backends, limits and times, the cluster\n\
             key and the authorities of --backend-ca again, and opens the file of the access log anew.\n\
             Exit status: 0 done, 1 failed, 2 a bad flag or configuration.",
        )
}

#[derive(Debug, Subcommand)]
pub(super) enum VerbArgs {
    /// Hold virtual addresses with no proxy in this process; stands first: `vrrp --help` says more
    Vrrp,
    /// List the backends: state, role, rates, latencies, errors
    Backends(Output),
    /// Give a backend nothing new; it finishes what it has. Until it is taken back, whatever becomes of its process
    Drain {
        /// The backend's id or address, as `backends` lists it
        backend: String,
        #[command(flatten)]
        output: Output,
    },
    /// Take a drain back
    Undrain {
        /// The backend's id or address, as `backends` lists it
        backend: String,
        #[command(flatten)]
        output: Output,
    },
    /// Say how many times the load of another a backend is to have: 0.01 to 100, usually 1
    Weigh {
        /// The backend's id or address, as `backends` lists it
        backend: String,
        weight: f64,
        #[command(flatten)]
        output: Output,
    },
    /// Eject a backend, as traffic would: for a time, or until it is reset
    Eject {
        /// The backend's id or address, as `backends` lists it
        backend: String,
        /// For how long, as in 30s or 2h; else until it is reset
        #[arg(long = "for", value_name = "TIME")]
        length: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Take back all that was set of a backend, and forget what traffic showed of it
    Reset {
        /// The backend's id or address, as `backends` lists it
        backend: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show what is logged, or change it until the process ends
    LogLevel {
        /// A level, or target=level,...
        #[arg(conflicts_with = "reset")]
        filter: Option<String>,
        /// Log again what it was started with
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show how many retries there may be now: the budget of each core
    RetryBudget(Output),
    /// What concerns the gateway's document
    #[command(subcommand)]
    Gateway(GatewayArgs),
    /// Ask whether the balancer is ready: exit status 0 or 1, for a container's healthcheck
    Health {
        /// Ask whether it has started: is or was ready, or has looked for backends long enough; for an
        /// orchestrator that replaces what is unhealthy
        #[arg(long, conflicts_with = "live")]
        started: bool,
        /// Ask only whether the process is alive, not whether it may take requests
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum GatewayArgs {
    /// Read a document as --gateway would, and say everything that is wrong with it: exit status 0 or 1. Asks nobody
    Check {
        /// In TOML or JSON
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Say which route of a document would have a request, and what would become of it there: exit status 0 where it
    /// goes to a service, else 1. Asks nobody
    Explain {
        /// In TOML or JSON
        file: PathBuf,
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
}
