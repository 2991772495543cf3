//! Clusters of real `skep-node` processes on loopback, driven over HTTP.
//!
//! Each test has a loopback subnet and a data folder of its own, so all may run at once; those that
//! measure time take the machine for themselves (`support::effort`). By default each runs in a short
//! form; `SKEP_TEST_LONG=1` runs the full counts. Figures are printed as `measure: ...` lines.

mod support;

mod admin;
mod apart;
mod api;
mod bad_input;
mod bootstrap;
mod crashes;
mod disk;
mod failover;
mod feed;
mod formation;
mod gossip_speed;
mod learner;
mod lists;
mod operator;
mod page;
mod recovery;
mod refusals;
mod repeats;
mod replace;
mod restart;
mod retention;
mod scale;
mod signals;
mod torn_log;
