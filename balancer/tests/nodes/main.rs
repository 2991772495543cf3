//! A balancer before a cluster of real `skep-node` processes, driven by clients that others wrote.
//!
//! Nodes and balancer run as built; `skep-node` is taken from beside this test's own program, so it
//! must have been built (`cargo build -p skep-node`, or any test of the whole workspace). Each test
//! has a loopback subnet of its own and takes the machine for itself. By default each runs in a
//! short form; `SKEP_TEST_LONG=1` runs the full counts and holds the figures, printed as
//! `measure: ...` lines, to their bars.

mod support;

mod balancer;
mod deaths;
mod hang;
mod idle;
mod live;
mod scale;
mod slow;
mod tls;
mod tools;
