//! What is not yet as it should be. These lists may only shrink: what is gone from the tree must go here too.

/// Crates that use what is not below them.
pub const ARROWS: &[(&str, &str)] = &[];

/// Circles among modules, as `circles` names them.
pub const CIRCLES: &[&str] = &[
    "skep-base::settings: layers secret",
    "skep-node: raft store",
    "skep-node::http: assets endpoint entry export live members messages openapi page public query text",
    "skep-node::http: refusal serve",
    "skep-node::store: core reader",
    "skep-node::store: error files",
    "skep-node::store: manifest messages",
    "skep-balancer: access_log backends forward limits probe worker",
    "skep-balancer::config: settings vrrp",
    "skep-balancer::forward: headers request_head",
    "skep-balancer::vrrp: driver router",
    "skep-load: client etcd http1 http2",
];

/// Files that are longer than a file should be, and how long they may be.
pub const LONG_FILES: &[(&str, usize)] = &[("node/src/raft/bootstrap/driver/tests/world.rs", 464)];

/// Documents that name a path that is not there.
pub const DEAD_PATHS: &[(&str, &str)] = &[];

/// Sleeps in tests that are no synchronisation: how many in a file, and why.
pub const SLEEPS: &[(&str, usize, &str)] = &[];
