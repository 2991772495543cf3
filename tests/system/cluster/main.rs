//! Clusters of real programs on loopback: nodes, and a balancer before them, driven as clients,
//! operators and accidents would. One module for each subject.
//!
//! What only behaves may run side by side, each test with a subnet and a folder of its own; what is held to
//! a figure is in `measures`, and takes the machine for itself. By default each runs in a short form;
//! `SKEP_TEST_LONG=1` runs the full counts. Figures are printed as `measure: ...` lines.

mod admin;
mod advertise;
mod apart;
mod api;
mod backend_tls;
mod bad_input;
mod balancing;
mod bootstrap;
mod certificates;
mod clocks;
mod copies;
mod crashes;
mod crawl;
mod crawler;
mod deploy;
mod descriptors;
mod disk;
mod equal;
mod examples;
mod feed;
mod gateway;
mod gateway_auth;
mod gateway_balancer;
mod gateway_page;
mod gateway_watch;
mod keys;
mod kills;
mod kong;
mod level;
mod lists;
mod measures;
mod mended;
mod old_volume;
mod operator;
mod page;
mod payloads;
mod purges;
mod queues_page;
mod recovery;
mod refusals;
mod repeats;
mod replace;
mod retention;
mod rotation;
mod schedules;
mod scrub;
mod sealed;
mod signals;
mod strangers;
mod tasks;
mod threads;
mod torn_log;
mod worker;
