//! A core on loopback between scripted backends and raw clients.

mod answers;
mod backend_tls;
mod choosing;
mod corpus;
mod drain;
mod forwarding;
mod gateway;
mod gateway_cluster;
mod gateway_file;
mod gateway_rules;
mod harness;
mod heads;
mod holding;
mod http2;
mod http2_frames;
mod http2_streams;
mod limits;
mod measures;
mod operator;
mod process;
mod retries;
mod standing;
mod tickets;
mod tls;
mod waiting;
