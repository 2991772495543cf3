//! A load generator that treats skep and etcd alike.
//!
//! One thread, N connections, one request outstanding on each. The next request starts when the
//! answer to the last one is there (closed loop), or at a fixed rate (open loop). Every answer is
//! checked; one that is not what the mode expects is an error and counts in no figure but that.
//!
//! Data flows `args -> run -> worker -> client (http1 | etcd -> http2) -> report -> table`.

pub mod args;
pub mod client;
pub mod etcd;
pub mod failure;
pub mod histogram;
pub mod hpack;
pub mod http1;
pub mod http2;
pub mod live;
pub mod pace;
pub mod payload;
pub mod protobuf;
pub mod report;
pub mod run;
pub mod table;
pub mod websocket;
