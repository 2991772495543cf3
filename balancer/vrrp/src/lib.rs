//! One address that several balancers hold by turns: VRRPv3 (RFC 9568), beside keepalived or alone.
//!
//! Data flows one way: packets, timers, health and the kernel's news go into `driver`, which asks
//! `machine` what to do and does it by `socket`, `netlink` and `announce`. What is known goes out
//! by a watch channel ([`View`]). Nothing here depends on the balancer: its health comes by a
//! channel that its wiring makes. `program -> agent` is the program that holds addresses and is no
//! proxy; `let_go` is the word between the two.
//!
//! Everything runs on one thread of its own with a raised priority ([`start`]), so that a busy
//! proxy does not delay an advertisement.

mod agent;
mod announce;
mod capability;
pub mod config;
mod counts;
mod driver;
mod forwarding;
mod handing;
pub mod let_go;
mod machine;
mod mesh;
mod netlink;
mod nftables;
mod notify;
pub mod packet;
pub mod program;
mod router;
pub mod socket;
mod status;
mod sys;
pub mod track;
mod vmac;

use std::net::IpAddr;
use std::time::Duration;

use skep_members::in_force::Keys;
use tokio::sync::{mpsc, oneshot, watch};

use packet::{Checksum, Version};
use socket::Family;
use track::{Health, Track};

pub use status::View;

/// Most virtual routers in one process: a VRID counts once for each family.
pub const ROUTERS_MAX: usize = 64;
/// Commands that wait for the driver.
const COMMANDS_MAX: usize = 8;

/// An address that is held by turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtualAddress {
    pub ip: IpAddr,
    pub prefix: u8,
}

impl std::fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// One virtual router: a VRID, in one family, on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    pub vrid: u8,
    pub interface: String,
    /// Not empty; all of one family, a link-local one first.
    pub addresses: Vec<VirtualAddress>,
    /// 255: the owner of the addresses.
    pub priority: u8,
    pub interval: Duration,
    pub preempt: bool,
    pub preempt_delay: Duration,
    pub version: Version,
    pub checksum: Checksum,
    /// Use the virtual MAC address, beside the interface's own.
    pub vmac: bool,
    /// Empty: multicast. Else all of the addresses' family.
    pub peers: Vec<IpAddr>,
    /// No peer is believed without its word by the mesh.
    pub peers_proven: bool,
}

impl RouterConfig {
    pub fn family(&self) -> Family {
        self.addresses.first().map_or(Family::V4, |address| Family::of(address.ip))
    }
}

/// How established connections are carried over in a planned hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// They are not: priority 0, and the addresses go.
    Off,
    /// By whether a socket of this host has them: for a proxy in this network namespace whose
    /// listeners are bound to the wildcard address.
    Socket,
    /// By connection tracking: for a proxy behind Docker's address translation.
    Conntrack,
}

/// All that VRRP is told.
#[derive(Debug, Clone)]
pub struct VrrpConfig {
    pub routers: Vec<RouterConfig>,
    /// A program and its first arguments.
    pub notify: Option<String>,
    /// The port of the mesh; None: there is none.
    pub mesh_port: Option<u16>,
    pub handover: Handover,
    /// How long connections may take to end after a hand-over.
    pub drain: Duration,
    pub tracks: Vec<Track>,
}

/// Why it cannot run. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum VrrpError {
    #[error("{0}")]
    Capability(#[from] capability::MissingCapability),
    #[error("there is no interface {0}: name one with --vrrp-interface (`ip link` lists them)")]
    NoInterface(String),
    #[error("{0} is no Ethernet: it has no MAC address to announce")]
    NoMac(String),
    #[error("--vmac: {0} is a macvlan or an ipvlan, which gets no frames for a second MAC address")]
    NoSecondMac(String),
    #[error(
        "--vmac: the interface {interface} has the virtual MAC address of VRID {vrid} and is not ours: remove it \
         (`ip link del {interface}`), or choose another --vrid"
    )]
    MacTaken { interface: String, vrid: u8 },
    #[error(transparent)]
    Netlink(#[from] netlink::NetlinkError),
    #[error("{what}: {error}")]
    Open { what: String, error: std::io::Error },
}

/// What the driver can be asked.
#[derive(Debug)]
pub enum Command {
    /// Hand over, and claim nothing any more; answered once another has taken over, or nobody
    /// could be asked.
    Release(oneshot::Sender<()>),
    /// Connections have drained: what is left goes. The driver ends.
    Finish(oneshot::Sender<()>),
}

/// A running VRRP. Dropping it ends it as [`Running::finish`] does, but is not waited for.
#[derive(Debug)]
pub struct Running {
    pub view: View,
    commands: mpsc::Sender<Command>,
}

/// Checks what can be checked with nothing touched; for before anything is bound.
fn check(config: &VrrpConfig) -> Result<(), VrrpError> {
    capability::require()?;
    for router in &config.routers {
        if !capability::interface_exists(&router.interface) {
            return Err(VrrpError::NoInterface(router.interface.clone()));
        }
    }
    Ok(())
}

/// Starts on a thread of its own. `keys` are what members of the mesh prove that they have; `health` is that of the proxy in this process, where there is one.
pub async fn start(
    config: VrrpConfig,
    keys: Option<Keys>,
    health: Option<watch::Receiver<Health>>,
) -> Result<Running, VrrpError> {
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let (started, ready) = oneshot::channel();
    let failed = |error| VrrpError::Open { what: "the thread of VRRP".into(), error };
    let thread = std::thread::Builder::new().name("vrrp".into());
    let spawned = thread.spawn(move || {
        capability::raise_priority();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(VrrpError::Open { what: "the runtime of VRRP".into(), error }));
                return;
            }
        };
        runtime.block_on(async {
            match driver::Driver::open(config, keys, health).await {
                Ok((driver, view)) => {
                    if started.send(Ok(view)).is_ok() {
                        driver.run(receiver).await;
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
        runtime.shutdown_background();
    });
    spawned.map_err(failed)?;
    let view = ready.await.unwrap_or_else(|_| Err(failed(std::io::ErrorKind::BrokenPipe.into())))?;
    Ok(Running { view, commands })
}

impl Running {
    /// Hands the addresses over, as planned as it can be; established connections still come here
    /// until [`Running::finish`]. At most about a second.
    pub async fn release(&self) {
        self.ask(Command::Release).await;
    }

    /// Takes everything away that is left, and ends.
    pub async fn finish(self) {
        self.ask(Command::Finish).await;
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, answer) = oneshot::channel();
        if self.commands.send(command(done)).await.is_ok() {
            // A driver that has ended has given everything up.
            let _ = answer.await;
        }
    }
}
