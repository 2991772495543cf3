//! The node's own harness, and a balancer before its cluster. One source for all.
#![allow(dead_code)]

#[path = "../nodes/balancer.rs"]
pub mod balancer;
#[path = "../../../node/tests/cluster/support/cluster.rs"]
pub mod cluster;
#[path = "../../../node/tests/cluster/support/effort.rs"]
pub mod effort;
#[path = "../../../node/tests/cluster/support/http.rs"]
pub mod http;
#[path = "../../../node/tests/cluster/support/load.rs"]
pub mod load;
#[path = "../../../node/tests/cluster/support/logfile.rs"]
pub mod logfile;
#[path = "../../../node/tests/cluster/support/node.rs"]
pub mod node;
#[path = "../../../node/tests/cluster/support/program.rs"]
pub mod program;
#[path = "../../../node/tests/cluster/support/signal.rs"]
pub mod signal;
#[path = "../../../node/tests/cluster/support/status.rs"]
pub mod status;
#[path = "../../../node/tests/cluster/support/subnet.rs"]
pub mod subnet;
#[path = "../../../node/tests/cluster/support/wait.rs"]
pub mod wait;
