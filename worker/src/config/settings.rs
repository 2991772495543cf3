//! The worker's settings: a row each.

use skep_base::settings::{CONFIG, LOG, LOG_FORMAT, Setting};

/// Most that `--slots` may be: as many as a cluster lets a worker hold.
pub const SLOTS_MAX: u32 = 128;

pub(super) const URL: Setting = Setting::serving(
    "url",
    "URL,...",
    "http://127.0.0.1:8080",
    "Nodes or balancers, as in http://node:8080 or https://HOST; of a name each address is used",
);
pub(super) const QUEUES: Setting = Setting::serving(
    "queues",
    "NAME,...",
    "none; crawl with --crawl",
    "Queues whose tasks are done, the first one first",
);
pub(super) const SLOTS: Setting = Setting::serving("slots", "N", "8", "Tasks at a time");
pub(super) const CA: Setting = Setting::serving(
    "ca",
    "FILE",
    "none",
    "Certificates (PEM) of those who sign the servers', for https URLs; a self-signed one signs itself",
);
pub(super) const EXEC: Setting = Setting::serving(
    "exec",
    "COMMAND",
    "none",
    "Program that does a task: its payload comes on stdin, its result goes to stdout; words by spaces, no shell",
);
pub(super) const FORWARD: Setting = Setting::serving(
    "forward",
    "URL",
    "none",
    "Server that does a task: its payload is posted there, its answer is the result",
);
pub(super) const CRAWL: Setting = Setting::serving(
    "crawl",
    "BOOL",
    "false",
    "Do tasks by the crawler that is built in: of a page's URL its images; the queue is crawl, unless others are named",
);
pub(super) const CRAWL_PACE: Setting = Setting::serving(
    "crawl-pace",
    "DURATION",
    "1s",
    "Between two requests of this worker to one site; 0 is none. Over all workers it is the queue's key-pause",
);
pub(super) const CRAWL_ALLOW: Setting = Setting::serving(
    "crawl-allow",
    "NET[:PORTS],...",
    "none",
    "What is crawled beside public addresses and ports 80 and 443, as in 10.0.0.0/8:* or [fd00::1]:8080",
);
pub(super) const NAME: Setting =
    Setting::serving("name", "NAME", "the host's", "What this worker is called; a random part is added");
pub(super) const TOKEN_FILE: Setting = Setting::serving(
    "worker-token-file",
    "FILE",
    "none",
    "File with the workers' token, as `skep-node worker-token` prints it; the environment's \
     SKEP_WORKER_TOKEN may hold the token itself",
);
pub(super) const TOKEN: Setting = Setting {
    name: "worker-token",
    kind: skep_base::settings::Kind::Secret,
    value: "TOKEN",
    default: "none",
    help: "The workers' token",
};
pub(super) const DRAIN: Setting = Setting::serving(
    "drain",
    "DURATION",
    "20s",
    "How long tasks may take to end after SIGTERM; what is left is given back",
);
pub(super) const ADMIN: Setting =
    Setting::everywhere("admin", "IP:PORT", "127.0.0.1:9403", "Admin address: health, metrics");

pub(super) const SETTINGS: &[&Setting] = &[
    &URL,
    &QUEUES,
    &SLOTS,
    &CA,
    &EXEC,
    &FORWARD,
    &CRAWL,
    &CRAWL_PACE,
    &CRAWL_ALLOW,
    &NAME,
    &TOKEN_FILE,
    &TOKEN,
    &DRAIN,
    &ADMIN,
    &LOG,
    &LOG_FORMAT,
    &CONFIG,
];
