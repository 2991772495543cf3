//! The node's settings: a row each.

use skep_base::settings::{CONFIG, LOG, LOG_FORMAT, Setting};
use skep_console::token::{GATEWAY_TOKEN, OPERATOR_TOKEN};
use skep_members::settings::{ADVERTISE, CLUSTER_KEY, CLUSTER_KEY_FILE, SEEDS};

/// Most that `--max-body` may be, in bytes: a body must fit one Raft entry and one peer frame.
pub const BODY_BYTES_LIMIT: u64 = 8 * 1024 * 1024;
/// Most that `--expect` may be.
pub const EXPECT_MAX: u32 = 255;
/// Most that `--voters` may be.
pub const VOTERS_MAX: u32 = 31;

pub(super) const HTTP: Setting = Setting::serving("http", "IP:PORT", "127.0.0.1:8080", "HTTP API");
pub(super) const PEER: Setting = Setting::serving(
    "peer",
    "IP:PORT",
    "127.0.0.1:7400",
    "Peers: Raft over TCP and gossip over UDP, one number",
);
pub(super) const ADMIN: Setting = Setting::everywhere(
    "admin",
    "IP:PORT",
    "127.0.0.1:9400",
    "Admin address: health, metrics, cluster operations",
);
pub(super) const DATA: Setting = Setting::everywhere(
    "data",
    "DIR",
    "./data",
    "Data folder; with {n} in it, the one of these that was written last and that no process has",
);
pub(super) const EXPECT: Setting =
    Setting::serving("expect", "N", "1", "How many nodes to wait for before the first election");
pub(super) const VOTERS: Setting = Setting::serving("voters", "N", "5", "Most voters; the rest are learners");
pub(super) const MAX_BODY: Setting =
    Setting::serving("max-body", "SIZE", "1MiB", "Largest request body, in bytes or with KiB or MiB");
pub(super) const REQUEST_TIMEOUT: Setting = Setting::serving(
    "request-timeout",
    "DURATION",
    "10s",
    "How long a request may wait for a leader and a quorum",
);
pub(super) const IDEMPOTENCY_FOR: Setting = Setting::serving(
    "idempotency-for",
    "DURATION",
    "24h",
    "How long an Idempotency-Key that this node takes is remembered, from 15m to 30days",
);
pub(super) const DEAD_GRACE: Setting = Setting::serving(
    "dead-grace",
    "DURATION",
    "30s",
    "How long a dead voter is waited for before it is replaced",
);
pub(super) const AWAY_GRACE: Setting = Setting::serving(
    "away-grace",
    "DURATION",
    "5m",
    "How long a voter that stopped in order is waited for before it is one no more",
);

pub(super) const RETAIN_AGE: Setting = Setting::serving(
    "retain-age",
    "DURATION",
    "none is",
    "Messages older than this are dropped, by the leader's word",
);
pub(super) const SCRUB_INTERVAL: Setting = Setting::serving(
    "scrub-interval",
    "DURATION",
    "1m",
    "How long until the next segment of messages (64 MiB) is read again and checked",
);
pub(super) const LEVEL_AFTER: Setting = Setting::serving(
    "level-after",
    "DURATION",
    "1h",
    "How long every member must be of a version that reads newer formats before they are written; until \
     then the version before can be gone back to",
);
pub(super) const RETAIN_BYTES: Setting = Setting::serving(
    "retain-bytes",
    "SIZE",
    "none is",
    "The oldest messages are dropped while all have more bytes than this, in bytes or with KiB to TiB",
);
pub(super) const REQUEST_MEMORY: Setting = Setting::serving(
    "request-memory",
    "SIZE",
    "an eighth of the memory limit",
    "Most memory that requests hold: bodies on their way in, lists on their way out; beyond it 503",
);
pub(super) const HTTP_THREADS: Setting = Setting::serving(
    "http-threads",
    "N",
    "none on two cores, else one less than cores",
    "Threads for clients beside the one of consensus; with 0, clients share that one",
);
pub(super) const HTTP_TLS: Setting = Setting::serving(
    "http-tls",
    "WHEN",
    "also",
    "TLS on the HTTP port, with the cluster's keys, for balancers: off, also (beside plain HTTP) or only; without, they \
     are not told of the gateway",
);
pub(super) const ALLOW_ORIGINS: Setting = Setting::serving(
    "allow-origins",
    "ORIGIN[,ORIGIN...]",
    "none but its own",
    "Origins whose pages may write and follow the live feed, as https://app.example",
);
pub(super) const OPERATOR_TOKEN_FILE: Setting = Setting::everywhere(
    "operator-token-file",
    "FILE",
    "none, nobody can",
    "File with the operators' token, which removes and exports messages and changes the gateway; the \
     environment's SKEP_OPERATOR_TOKEN may hold the token itself",
);
pub(super) const GATEWAY_TOKEN_FILE: Setting = Setting::serving(
    "gateway-token-file",
    "FILE",
    "none, operators alone",
    "File with a token that reads and changes the gateway's document and does nothing else, for balancers with --kong; \
     the environment's SKEP_GATEWAY_TOKEN may hold the token itself",
);

/// Every setting, as the help lists them.
pub(super) const SETTINGS: &[&Setting] = &[
    &HTTP,
    &PEER,
    &ADVERTISE,
    &ADMIN,
    &DATA,
    &SEEDS,
    &EXPECT,
    &VOTERS,
    &CLUSTER_KEY_FILE,
    &CLUSTER_KEY,
    &MAX_BODY,
    &REQUEST_TIMEOUT,
    &IDEMPOTENCY_FOR,
    &DEAD_GRACE,
    &AWAY_GRACE,
    &RETAIN_AGE,
    &RETAIN_BYTES,
    &LEVEL_AFTER,
    &SCRUB_INTERVAL,
    &REQUEST_MEMORY,
    &HTTP_THREADS,
    &HTTP_TLS,
    &ALLOW_ORIGINS,
    &OPERATOR_TOKEN_FILE,
    &OPERATOR_TOKEN,
    &GATEWAY_TOKEN_FILE,
    &GATEWAY_TOKEN,
    &LOG,
    &LOG_FORMAT,
    &CONFIG,
];
