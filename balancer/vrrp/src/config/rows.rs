//! The settings of virtual addresses: a row each. Serving has them beside its own; beside the verb
//! `vrrp` they stand with the few others that mean something there.

use skep_base::settings::{CONFIG, LOG, LOG_FORMAT, Setting};
use skep_members::settings::{CLUSTER_KEY, CLUSTER_KEY_FILE};

pub const VIP: Setting = Setting::serving(
    "vip",
    "IP/LEN,...",
    "none",
    "Virtual addresses held by VRRP; several groups: \"IP/LEN,... [vrid=N] [priority=N] [interface=NAME]; ...\"",
);
pub const VRRP_INTERFACE: Setting =
    Setting::serving("vrrp-interface", "NAME", "none", "Interface of the virtual addresses");
pub const VRID: Setting =
    Setting::serving("vrid", "N", "51", "Virtual router id, 1 to 255: the same in all of the group");
pub const PRIORITY: Setting = Setting::serving(
    "priority",
    "N",
    "200",
    "1 to 254, the highest wins; 255 for the owner of the addresses",
);
pub const ADVERT_INTERVAL: Setting =
    Setting::serving("advert-interval", "DURATION", "100ms", "Between advertisements, 10ms to 40s");
pub const PREEMPT: Setting =
    Setting::serving("preempt", "BOOL", "false", "Take over from one with a lower priority");
pub const PREEMPT_DELAY: Setting =
    Setting::serving("preempt-delay", "DURATION", "0s", "Do so only this long after the start");
pub const VRRP_PEERS: Setting = Setting::serving(
    "vrrp-peers",
    "IP,...",
    "none",
    "Send to these addresses instead of by multicast, and listen to no other",
);
pub const VRRP_PEERS_PROVEN: Setting = Setting::serving(
    "vrrp-peers-proven",
    "BOOL",
    "false",
    "Believe no peer without its word by the mesh: where all members confirm each other",
);
pub const VRRP_VERSION: Setting = Setting::serving("vrrp-version", "N", "3", "VRRP version: 3 or 2");
pub const VRRP_CHECKSUM: Setting = Setting::serving(
    "vrrp-checksum",
    "FORM",
    "pseudo-header",
    "Checksum over IPv4: pseudo-header, as keepalived has it, or message, as RFC 9568",
);
pub const VMAC: Setting =
    Setting::serving("vmac", "BOOL", "false", "Use the virtual MAC address, beside the interface's own");
pub const TRACK: Setting = Setting::serving(
    "track",
    "URL,...",
    "none",
    "What the claim depends on: \"http://IP:PORT/PATH [fault|weight=N], tcp://IP:PORT ...\"",
);
pub const NOTIFY: Setting = Setting::serving(
    "notify",
    "COMMAND",
    "none",
    "Program to run on each change, with state, VRID and family as arguments",
);
pub const VRRP_MESH: Setting = Setting::serving(
    "vrrp-mesh",
    "PORT",
    "7402 where there is a cluster key",
    "TCP port by which balancers tell each other of their end; off",
);
pub const VRRP_HANDOVER: Setting = Setting::serving(
    "vrrp-handover",
    "HOW",
    "socket; conntrack beside the verb vrrp",
    "Carry established connections over: socket, conntrack (behind Docker's NAT), off",
);
pub const DRAIN: Setting =
    Setting::serving("drain", "DURATION", "20s", "How long requests in flight may take to end after SIGTERM");
/// Beside a proxy on the same host.
pub const ADMIN: Setting =
    Setting::everywhere("admin", "IP:PORT", "127.0.0.1:9402", "Admin address: health, metrics, /vrrp");

/// Those of the verb `vrrp`.
pub const SETTINGS: &[&Setting] = &[
    &VIP,
    &VRRP_INTERFACE,
    &VRID,
    &PRIORITY,
    &ADVERT_INTERVAL,
    &PREEMPT,
    &PREEMPT_DELAY,
    &VRRP_PEERS,
    &VRRP_PEERS_PROVEN,
    &VRRP_VERSION,
    &VRRP_CHECKSUM,
    &VMAC,
    &TRACK,
    &NOTIFY,
    &VRRP_MESH,
    &VRRP_HANDOVER,
    &ADMIN,
    &CLUSTER_KEY_FILE,
    &CLUSTER_KEY,
    &DRAIN,
    &LOG,
    &LOG_FORMAT,
    &CONFIG,
];
