//! A balancer before a cluster under loads that fill the machine, while nodes die, hang, join and drain.

mod deaths;
mod hang;
mod idle;
mod scale;
mod slow;
