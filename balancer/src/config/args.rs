//! The command line's shape: what the program says of itself, and its verbs. The flags are rows
//! in `settings`.

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
             SIGTERM drains, then ends; SIGHUP reads certificates, backends, limits and times again, and\n\
             opens the file of the access log anew.\n\
             Exit status: 0 done, 1 failed, 2 a bad flag or configuration.",
        )
}

#[derive(Debug, Subcommand)]
pub(super) enum VerbArgs {
    /// Hold virtual addresses with no proxy in this process; stands first: `vrrp --help` says more
    Vrrp,
    /// List the backends: state, role, rates, latencies, errors
    Backends(Output),
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
