//! The whole system on a real Swarm of three hosts, which `scripts/swarm-lab` makes on this machine.
//!
//! Each test is an event that users have, under a client that sends 200 requests a second through the
//! virtual address and counts what fails. They share one lab, which ends with the test runner: its
//! engines and the image are not what is tested. Needs root, ip, dockerd and docker.
//! `SKEP_TEST_IMAGE` names an image, or the file of one, that is there already; else it is built.

mod apps;
mod certificate;
mod cold;
mod disasters;
mod kong;
mod returns;
mod scale;
mod upgrade;
mod whole;
