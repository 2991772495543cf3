//! The command line's shape. Values stay text here: `layers` decides whose counts, `values`
//! what it means, so that a bad value is reported alike wherever it came from.

use clap::{Args, Parser, Subcommand};

/// A load balancer that finds the skep nodes by gossip and hides their failures.
#[derive(Debug, Parser)]
#[command(
    name = "skep-balancer",
    version,
    about,
    long_about = "A load balancer that finds the skep nodes by gossip and hides their failures.\n\n\
        With no verb it serves. Each setting is taken from its flag, else from the environment \
        variable, else from the file given with --config, else it has the default.",
    after_help = "File keys are the flags' names with underscores: http, peer, cluster_key_file, max_body, ...\n\
        SIGTERM drains, then ends; SIGHUP reads certificates, limits and times again.\n\
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
    /// Admin address: health, metrics, stats page [env: SKEP_ADMIN] [default: 127.0.0.1:9401]
    #[arg(long, value_name = "IP:PORT", global = true)]
    pub admin: Option<String>,
    /// TOML file with settings [env: SKEP_CONFIG] [default: none]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<String>,
}

/// Flags of serving alone.
#[derive(Debug, Default, Args)]
pub(super) struct ServeFlags {
    /// HTTP/1.1 and HTTP/2 [env: SKEP_HTTP] [default: 127.0.0.1:8000]
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<String>,
    /// HTTPS: HTTP/2 and HTTP/1.1 [env: SKEP_HTTPS] [default: none]
    #[arg(long, value_name = "IP:PORT")]
    pub https: Option<String>,
    /// Certificates in PEM; several are chosen from by SNI; reloaded when they change [env: SKEP_CERT] [default: none, self-signed]
    #[arg(long, value_name = "FILE,...")]
    pub cert: Option<String>,
    /// Keys of the certificates, in the same order [env: SKEP_CERT_KEY] [default: none]
    #[arg(long, value_name = "FILE,...")]
    pub cert_key: Option<String>,
    /// Gossip [env: SKEP_PEER] [default: 127.0.0.1:7401]
    #[arg(long, value_name = "IP:PORT")]
    pub peer: Option<String>,
    /// Address that peers are told [env: SKEP_ADVERTISE] [default: the local address on the route to the seeds]
    #[arg(long, value_name = "IP[:PORT]")]
    pub advertise: Option<String>,
    /// Seeds; a DNS name counts with all its addresses and is looked up again [env: SKEP_SEEDS] [default: none]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub seeds: Option<String>,
    /// Backends that are not found by gossip: fixed addresses instead of seeds [env: SKEP_BACKENDS] [default: none]
    #[arg(long, value_name = "IP:PORT,...")]
    pub backends: Option<String>,
    /// File with the cluster key, one a line: the first seals, all open; see `skep-node keygen`; or SKEP_CLUSTER_KEY with the key itself [env: SKEP_CLUSTER_KEY_FILE] [default: none, allowed on loopback alone]
    #[arg(long, value_name = "FILE")]
    pub cluster_key_file: Option<String>,
    /// Threads that serve [env: SKEP_CORES] [default: one for each core]
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,
    /// How long requests in flight may take to end after SIGTERM [env: SKEP_DRAIN] [default: 20s]
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,
    /// Proxies before this one that are believed about their clients [env: SKEP_TRUSTED_PROXIES] [default: none]
    #[arg(long, value_name = "NETWORK,...")]
    pub trusted_proxies: Option<String>,
    /// Connections from trusted proxies begin with a PROXY protocol header [env: SKEP_PROXY_PROTOCOL] [default: false]
    #[arg(long, value_name = "BOOL")]
    pub proxy_protocol: Option<String>,
    /// Most connections in all [env: SKEP_MAX_CONNECTIONS] [default: 65536]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,
    /// Most connections of one client address [env: SKEP_MAX_CONNECTIONS_PER_CLIENT] [default: 16384]
    #[arg(long, value_name = "N")]
    pub max_connections_per_client: Option<String>,
    /// Most requests in flight at one backend [env: SKEP_MAX_IN_FLIGHT] [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<String>,
    /// Most requests of one core that wait for a backend [env: SKEP_MAX_QUEUE] [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_queue: Option<String>,
    /// Largest request body, in bytes or with KiB or MiB [env: SKEP_MAX_BODY] [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_body: Option<String>,
    /// Time for a request's head [env: SKEP_HEAD_TIMEOUT] [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub head_timeout: Option<String>,
    /// Time between requests on one connection [env: SKEP_IDLE_TIMEOUT] [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub idle_timeout: Option<String>,
    /// Time for a body to make progress [env: SKEP_BODY_TIMEOUT] [default: 20s]
    #[arg(long, value_name = "DURATION")]
    pub body_timeout: Option<String>,
    /// Time to an answer, over all attempts [env: SKEP_REQUEST_TIMEOUT] [default: 15s]
    #[arg(long, value_name = "DURATION")]
    pub request_timeout: Option<String>,
    /// Time that a request may wait for a backend [env: SKEP_QUEUE_TIMEOUT] [default: 2s]
    #[arg(long, value_name = "DURATION")]
    pub queue_timeout: Option<String>,
    /// Access log: a file, stdout or off [env: SKEP_ACCESS_LOG] [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<String>,
    /// Log filter: a level, or target=level,... [env: SKEP_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format: human or json [env: SKEP_LOG_FORMAT] [default: human on a terminal, else json]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl ServeFlags {
    /// Each flag with the value that was given, if any.
    pub fn given(&self) -> Vec<(&'static str, Option<&str>)> {
        vec![
            ("--http", self.http.as_deref()),
            ("--https", self.https.as_deref()),
            ("--cert", self.cert.as_deref()),
            ("--cert-key", self.cert_key.as_deref()),
            ("--peer", self.peer.as_deref()),
            ("--advertise", self.advertise.as_deref()),
            ("--seeds", self.seeds.as_deref()),
            ("--backends", self.backends.as_deref()),
            ("--cluster-key-file", self.cluster_key_file.as_deref()),
            ("--cores", self.cores.as_deref()),
            ("--drain", self.drain.as_deref()),
            ("--trusted-proxies", self.trusted_proxies.as_deref()),
            ("--proxy-protocol", self.proxy_protocol.as_deref()),
            ("--max-connections", self.max_connections.as_deref()),
            ("--max-connections-per-client", self.max_connections_per_client.as_deref()),
            ("--max-in-flight", self.max_in_flight.as_deref()),
            ("--max-queue", self.max_queue.as_deref()),
            ("--max-body", self.max_body.as_deref()),
            ("--head-timeout", self.head_timeout.as_deref()),
            ("--idle-timeout", self.idle_timeout.as_deref()),
            ("--body-timeout", self.body_timeout.as_deref()),
            ("--request-timeout", self.request_timeout.as_deref()),
            ("--queue-timeout", self.queue_timeout.as_deref()),
            ("--access-log", self.access_log.as_deref()),
            ("--log", self.log.as_deref()),
            ("--log-format", self.log_format.as_deref()),
        ]
    }

    /// A flag of serving that was given, to refuse it beside a verb.
    pub fn first_given(&self) -> Option<&'static str> {
        self.given().into_iter().find(|(_, value)| value.is_some()).map(|(flag, _)| flag)
    }
}

impl SharedFlags {
    pub fn given(&self) -> [(&'static str, Option<&str>); 2] {
        [("--admin", self.admin.as_deref()), ("--config", self.config.as_deref())]
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum VerbArgs {
    /// List the backends: state, role, rates, latencies, errors
    Backends(Output),
    /// Ask whether the balancer is ready: exit status 0 or 1, for a container's healthcheck
    Health {
        /// Ask only whether the process is alive, not whether it may take requests
        #[arg(long)]
        live: bool,
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
