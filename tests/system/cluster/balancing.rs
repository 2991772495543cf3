//! A balancer before a cluster, driven by clients that others wrote.

mod live;
mod stops;
mod tls;
