//! The balancer's settings: a row each.

use skep_base::settings::{CONFIG, Kind, LOG, LOG_FORMAT, Setting};
use skep_console::token::OPERATOR_TOKEN;
use skep_members::settings::{ADVERTISE, CLUSTER_KEY, CLUSTER_KEY_FILE, SEEDS};
use skep_vrrp::config::rows;

/// Most that `--max-body` may be, in bytes.
pub const BODY_BYTES_LIMIT: u64 = 1 << 40;
/// Longest path of `--check`, in bytes.
pub const CHECK_BYTES_MAX: usize = 1024;
/// Most that `--request-memory`, `--cache` and `--min-rate` may be, in bytes.
pub const MEMORY_BYTES_LIMIT: u64 = 1 << 40;
pub const RATE_BYTES_LIMIT: u64 = 1 << 30;
/// Most that `--cores` may be.
pub const CORES_MAX: u32 = 256;
/// Most that a count of connections or requests may be.
pub const COUNT_MAX: u32 = 10_000_000;

pub(super) const HTTP: Setting = Setting::serving("http", "IP:PORT", "127.0.0.1:8000", "HTTP/1.1 and HTTP/2");
pub(super) const HTTPS: Setting = Setting::serving("https", "IP:PORT", "none", "HTTPS: HTTP/2 and HTTP/1.1");
pub(super) const CERT: Setting = Setting::serving(
    "cert",
    "FILE,...",
    "none, self-signed",
    "Certificates in PEM; several are chosen from by SNI; reloaded when they change",
);
pub(super) const CERT_KEY: Setting =
    Setting::serving("cert-key", "FILE,...", "none", "Keys of the certificates, in the same order");
pub(super) const PEER: Setting = Setting::serving("peer", "IP:PORT", "127.0.0.1:7401", "Gossip");
pub(super) const ADMIN: Setting =
    Setting::everywhere("admin", "IP:PORT", "127.0.0.1:9401", "Admin address: health, metrics, stats page");
pub(super) const OPERATOR_TOKEN_FILE: Setting = Setting::everywhere(
    "operator-token-file",
    "FILE",
    "none, whoever is on the machine where --admin is on loopback, else nobody",
    "File with the operators' token, which drains, weighs and ejects backends; the environment's \
     SKEP_OPERATOR_TOKEN may hold the token itself",
);
pub(super) const BACKENDS: Setting = Setting::serving(
    "backends",
    "IP:PORT,...",
    "none",
    "Backends that are not found by gossip: fixed addresses instead of seeds",
);
pub(super) const BACKEND_TLS: Setting = Setting::serving(
    "backend-tls",
    "WITH",
    "off",
    "TLS to the backends: off, or cluster: both sides prove by the cluster's keys who they are",
);
pub(super) const BACKEND_CA: Setting = Setting::serving(
    "backend-ca",
    "FILE",
    "none",
    "TLS to --backends whose certificates these authorities (PEM) have signed, for their addresses",
);
pub(super) const CHECK: Setting = Setting::serving(
    "check",
    "PATH",
    "none, a connection",
    "What --backends are asked for, again and again: with an answer below 400 they are well",
);
pub(super) const FAILURE_STATUSES: Setting = Setting::serving(
    "failure-statuses",
    "STATUS,...",
    "502,503,504",
    "Answers that count as failures of their backend, as no answer does",
);
pub(super) const GATEWAY: Setting = Setting::serving(
    "gateway",
    "FILE",
    "none",
    "Routes and services, in TOML or JSON: read again at SIGHUP and when another file has its name; without \
     --seeds and --backends there are no nodes",
);
pub(super) const STATE: Setting = Setting::serving(
    "state",
    "DIR",
    "none, it starts with what nodes tell",
    "Folder for a sealed copy of the cluster's gateway configuration: by it a balancer serves that starts while no \
     node is there; and for what is owed by limits, from one that ends to the next",
);
pub(super) const KONG: Setting = Setting::serving(
    "kong",
    "IP:PORT",
    "none",
    "Door for clients of Kong's administration (0.4): what they ask for is put into the cluster's gateway document",
);
pub(super) const KONG_TOKEN_FILE: Setting = Setting::serving(
    "kong-token-file",
    "FILE",
    "none",
    "File with the nodes' --gateway-token-file, for --kong; the environment's SKEP_KONG_TOKEN may hold the token itself",
);
pub(super) const KONG_TOKEN: Setting =
    Setting { name: "kong-token", kind: Kind::Secret, value: "", default: "none", help: "" };
pub(super) const KONG_NAMES: Setting = Setting::serving(
    "kong-names",
    "NAME,...",
    "none, loopback alone",
    "Names of hosts that --kong may be asked by, as in a network of its own",
);
pub(super) const KONG_ALIAS: Setting = Setting::serving(
    "kong-alias",
    "HOST:PORT=skep,...",
    "none",
    "Targets of Kong's clients that are the nodes",
);
pub(super) const CORES: Setting = Setting::serving("cores", "N", "one for each core", "Threads that serve");
pub(super) const TRUSTED: Setting = Setting::serving(
    "trusted-proxies",
    "NETWORK,...",
    "none",
    "Proxies before this one that are believed about their clients",
);
pub(super) const PROXY_PROTOCOL: Setting = Setting::serving(
    "proxy-protocol",
    "BOOL",
    "false",
    "Connections from trusted proxies begin with a PROXY protocol header",
);
pub(super) const BY_DIGEST: Setting = Setting::serving(
    "by-digest",
    "BOOL",
    "false",
    "Reads of a message go to the backend that its digest belongs to, so that it is warm in one",
);
pub(super) const MAX_CONNECTIONS: Setting =
    Setting::serving("max-connections", "N", "65536", "Most connections in all");
pub(super) const MAX_PER_CLIENT: Setting =
    Setting::serving("max-connections-per-client", "N", "16384", "Most connections of one client address");
pub(super) const MAX_IN_FLIGHT: Setting =
    Setting::serving("max-in-flight", "N", "1024", "Most requests in flight at one backend");
pub(super) const MAX_QUEUE: Setting =
    Setting::serving("max-queue", "N", "1024", "Most requests of one core that wait for a backend");
pub(super) const MAX_BODY: Setting =
    Setting::serving("max-body", "SIZE", "64MiB", "Largest request body, in bytes or with KiB or MiB");
pub(super) const MAX_UPLOADS: Setting = Setting::serving(
    "max-uploads-per-client",
    "N",
    "256",
    "Most requests of one client address that a backend has while their bodies still come",
);
pub(super) const REQUEST_MEMORY: Setting = Setting::serving(
    "request-memory",
    "SIZE",
    "an eighth of the memory limit",
    "Most memory that requests hold beyond a small buffer each; 16MiB at least",
);
pub(super) const CACHE: Setting = Setting::serving(
    "cache",
    "SIZE",
    "64MiB",
    "Most memory for answers of routes that store them (`cache` in the gateway's document)",
);
pub(super) const MIN_RATE: Setting = Setting::serving(
    "min-rate",
    "SIZE",
    "1KiB",
    "What a body must bring each second, beyond what comes within --request-timeout",
);
pub(super) const UPLOAD_TIMEOUT: Setting =
    Setting::serving("upload-timeout", "DURATION", "15m", "Time for a whole request, its body included");
pub(super) const HEAD_TIMEOUT: Setting =
    Setting::serving("head-timeout", "DURATION", "10s", "Time for a request's head");
pub(super) const IDLE_TIMEOUT: Setting =
    Setting::serving("idle-timeout", "DURATION", "60s", "Time between requests on one connection");
pub(super) const BODY_TIMEOUT: Setting =
    Setting::serving("body-timeout", "DURATION", "20s", "Time for a body to make progress");
pub(super) const REQUEST_TIMEOUT: Setting = Setting::serving(
    "request-timeout",
    "DURATION",
    "15s",
    "Time from a request's end to an answer, over all attempts",
);
pub(super) const QUEUE_TIMEOUT: Setting =
    Setting::serving("queue-timeout", "DURATION", "2s", "Time that a request may wait for a backend");
pub(super) const ACCESS_LOG: Setting =
    Setting::serving("access-log", "FILE", "stdout", "Access log: a file, stdout or off");

/// Every setting, as the help lists them.
pub(super) const SETTINGS: &[&Setting] = &[
    &rows::VIP,
    &rows::VRRP_INTERFACE,
    &rows::VRID,
    &rows::PRIORITY,
    &rows::ADVERT_INTERVAL,
    &rows::PREEMPT,
    &rows::PREEMPT_DELAY,
    &rows::VRRP_PEERS,
    &rows::VRRP_PEERS_PROVEN,
    &rows::VRRP_VERSION,
    &rows::VRRP_CHECKSUM,
    &rows::VMAC,
    &rows::TRACK,
    &rows::NOTIFY,
    &rows::VRRP_MESH,
    &rows::VRRP_HANDOVER,
    &HTTP,
    &HTTPS,
    &CERT,
    &CERT_KEY,
    &PEER,
    &ADVERTISE,
    &ADMIN,
    &OPERATOR_TOKEN_FILE,
    &OPERATOR_TOKEN,
    &SEEDS,
    &BACKENDS,
    &BACKEND_TLS,
    &BACKEND_CA,
    &CHECK,
    &GATEWAY,
    &STATE,
    &KONG,
    &KONG_TOKEN_FILE,
    &KONG_TOKEN,
    &KONG_NAMES,
    &KONG_ALIAS,
    &FAILURE_STATUSES,
    &CLUSTER_KEY_FILE,
    &CLUSTER_KEY,
    &CORES,
    &rows::DRAIN,
    &TRUSTED,
    &PROXY_PROTOCOL,
    &BY_DIGEST,
    &MAX_CONNECTIONS,
    &MAX_PER_CLIENT,
    &MAX_IN_FLIGHT,
    &MAX_UPLOADS,
    &MAX_QUEUE,
    &MAX_BODY,
    &REQUEST_MEMORY,
    &CACHE,
    &MIN_RATE,
    &UPLOAD_TIMEOUT,
    &HEAD_TIMEOUT,
    &IDLE_TIMEOUT,
    &BODY_TIMEOUT,
    &REQUEST_TIMEOUT,
    &QUEUE_TIMEOUT,
    &ACCESS_LOG,
    &LOG,
    &LOG_FORMAT,
    &CONFIG,
];
