//! What is shipped in `ops/` for operators, held against the programs as they run: Prometheus's
//! configuration and alerts, the dashboard's queries, systemd's units.
//!
//! Prometheus and promtool are Debian's; what is not installed is left out, and said so.

mod cluster;
mod rules;
mod units;
