//! A core on loopback between scripted backends and raw clients.

mod choosing;
mod corpus;
mod drain;
mod forwarding;
mod harness;
mod holding;
mod http2;
mod http2_streams;
mod limits;
mod measures;
mod process;
mod retries;
mod standing;
mod tickets;
mod waiting;
