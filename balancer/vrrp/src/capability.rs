//! What the process may do: checked at the start, so that a sentence says what is missing. And which interfaces
//! there are.

use rustix::thread::CapabilitySet;

/// NET_ADMIN or NET_RAW is missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "holding a virtual address needs the capabilities NET_ADMIN (addresses) and NET_RAW (VRRP and ARP \
     packets); {missing} is missing: run as root, give the program `setcap cap_net_admin,cap_net_raw+ep`, \
     or the container `cap_add: [NET_ADMIN, NET_RAW]`"
)]
pub struct MissingCapability {
    missing: &'static str,
}

/// Checks that addresses can be set and raw packets sent.
pub fn require() -> Result<(), MissingCapability> {
    // Where the kernel does not say, the first use will.
    let Ok(sets) = rustix::thread::capabilities(None) else { return Ok(()) };
    let missing = match (
        sets.effective.contains(CapabilitySet::NET_ADMIN),
        sets.effective.contains(CapabilitySet::NET_RAW),
    ) {
        (true, true) => return Ok(()),
        (false, true) => "NET_ADMIN",
        (true, false) => "NET_RAW",
        (false, false) => "each of them",
    };
    Err(MissingCapability { missing })
}

/// Gives up, for this thread and all that it will start, what VRRP does not need.
///
/// For the stand-alone program, before its other threads start; a proxy may need more.
pub fn drop_others() {
    let keep = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::SYS_NICE;
    let Ok(mut sets) = rustix::thread::capabilities(None) else { return };
    sets.effective &= keep;
    sets.permitted &= keep;
    sets.inheritable &= keep;
    // Having more than is needed is no reason not to run.
    if let Err(error) = rustix::thread::set_capabilities(None, sets) {
        tracing::debug!(%error, "capabilities that are not needed are kept");
    }
}

/// Puts this thread before others, where that is allowed: a late advertisement looks like a death.
pub fn raise_priority() {
    const NICE: i32 = -15;
    // The calling thread's, on Linux.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the priority of VRRP's thread stays as it is (SYS_NICE)");
    }
}

/// Whether there is an interface of that name.
pub fn interface_exists(name: &str) -> bool {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let Ok(any) = socket(AddressFamily::UNIX, SocketType::DGRAM, None) else { return true };
    netdevice::name_to_index(&any, name).is_ok()
}

/// The index of the interface that has that name now.
pub fn interface_index(name: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(&any, name).ok()
}
