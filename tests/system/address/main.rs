//! Virtual addresses among real hosts: network namespaces on one bridge, keepalived beside ours.
//!
//! Needs root and `ip`; what needs more says so. An address is held by messages that must come in time, so
//! each of these has the machine for itself. With `SKEP_TEST_LONG=1` each measure is taken in full and
//! printed; else a short form shows that the thing works at all.

mod alerts;
mod beside_keepalived;
mod failover;
mod holding;
mod hostile;
mod measures;
mod packets;
mod partition;
mod planned;
mod rotation;
mod unicast;
mod vmac;
