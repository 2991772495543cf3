//! Hosts on one bridge, and a client host beside them; all namespaces of this process.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::LinkNameSpaceType;

use crate::effort::left_out;
use crate::programs::{installed, is_root, system};

static SERIAL: AtomicUsize = AtomicUsize::new(0);

/// Whether a network of namespaces can be made, and these programs be run in it; says why not.
pub fn possible(test: &str, programs: &[&str]) -> bool {
    if !is_root() {
        left_out(test, "network namespaces need root");
        return false;
    }
    if !installed(test, &[&["ip"], programs].concat()) {
        return false;
    }
    let name = format!("skv{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
    let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
    let made = made.is_ok_and(|status| status.success());
    if !made {
        left_out(test, "no network namespace can be made here");
    }
    made
}

/// The namespaces go when it is dropped.
pub struct Lan {
    prefix: String,
    hosts: usize,
}

impl Lan {
    /// `hosts` hosts at 10.78.0.11, .12, ... and fd78::11, ...; the client at 10.78.0.250.
    pub fn new(hosts: usize) -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let lan = Self { prefix: format!("skv{}-{serial}", std::process::id()), hosts };
        lan.add_namespace(&lan.switch());
        lan.run(&lan.switch(), "link add br0 type bridge mcast_snooping 0 forward_delay 0");
        lan.run(&lan.switch(), "link set br0 up");
        lan.add_host(&lan.client(), "port-c", 250);
        for at in 0..hosts {
            lan.add_host(&lan.host(at), &port(at), 11 + at);
        }
        lan
    }

    pub fn host(&self, at: usize) -> String {
        format!("{}-h{at}", self.prefix)
    }

    pub fn client(&self) -> String {
        format!("{}-c", self.prefix)
    }

    pub fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    /// `ip` in a namespace.
    pub fn run(&self, namespace: &str, command: &str) -> String {
        let mut args = vec!["-n", namespace];
        args.extend(command.split_whitespace());
        system("ip", &args)
    }

    /// Whether a host has the address now.
    pub fn has(&self, at: usize, address: &str) -> bool {
        has_address(&self.host(at), address)
    }

    /// Pulls a host's cable, or puts it back.
    pub fn set_cable(&self, at: usize, in_place: bool) {
        let state = if in_place { "up" } else { "down" };
        self.run(&self.switch(), &format!("link set {} {state}", port(at)));
    }

    /// Cuts a host off without its noticing: frames are lost, the carrier stays.
    pub fn set_isolated(&self, at: usize, isolated: bool) {
        let to = if isolated { "nomaster" } else { "master br0" };
        self.run(&self.switch(), &format!("link set {} {to}", port(at)));
    }

    /// Loses whatever one host sends to another, and nothing of the other direction: frames go to a station
    /// that is not there.
    pub fn set_lost(&self, from: usize, to: usize, lost: bool) {
        let address = format!("10.78.0.{}", 11 + to);
        let neighbour = match lost {
            true => format!("neigh replace {address} lladdr 02:00:00:00:00:99 nud permanent dev eth0"),
            false => format!("neigh del {address} dev eth0"),
        };
        self.run(&self.host(from), &neighbour);
    }

    /// Cuts two hosts off from each other, and from nobody else.
    pub fn set_cut(&self, a: usize, b: usize, cut: bool) {
        self.set_lost(a, b, cut);
        self.set_lost(b, a, cut);
    }

    /// Loses whatever other hosts send to this one. The client is none of them.
    pub fn set_deaf(&self, at: usize, deaf: bool) {
        (0..self.hosts).filter(|peer| *peer != at).for_each(|peer| self.set_lost(peer, at, deaf));
    }

    /// Loses whatever this host sends to other hosts.
    pub fn set_mute(&self, at: usize, mute: bool) {
        (0..self.hosts).filter(|peer| *peer != at).for_each(|peer| self.set_lost(at, peer, mute));
    }

    /// Takes a host's interface away. [`Lan::plug`] makes another of the same name and addresses.
    pub fn unplug(&self, at: usize) {
        self.run(&self.switch(), &format!("link del {}", port(at)));
    }

    pub fn plug(&self, at: usize) {
        self.add_interface(&self.host(at), &port(at), 11 + at);
    }

    fn add_namespace(&self, name: &str) {
        system("ip", &["netns", "add", name]);
        // Addresses of IPv6 can be used at once.
        for setting in ["all", "default"] {
            let setting = format!("net.ipv6.conf.{setting}.accept_dad=0");
            system("ip", &["netns", "exec", name, "sysctl", "-qw", &setting]);
        }
    }

    fn add_host(&self, name: &str, port: &str, number: usize) {
        self.add_namespace(name);
        self.run(name, "link set lo up");
        self.add_interface(name, port, number);
    }

    fn add_interface(&self, name: &str, port: &str, number: usize) {
        let switch = self.switch();
        self.run(&switch, &format!("link add {port} type veth peer name eth0 netns {name}"));
        self.run(&switch, &format!("link set {port} master br0 up"));
        self.run(name, &format!("addr add 10.78.0.{number}/24 dev eth0"));
        self.run(name, &format!("addr add fd78::{number}/64 dev eth0 nodad"));
        self.run(name, "link set eth0 up");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let hosts = (0..self.hosts).map(|at| self.host(at));
        for name in hosts.chain([self.client(), self.switch()]) {
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

fn port(at: usize) -> String {
    format!("port-{at}")
}

fn has_address(namespace: &str, address: &str) -> bool {
    system("ip", &["-n", namespace, "-o", "addr", "show"]).contains(&format!(" {address}/"))
}

/// A program to be run in a namespace; its process id is that of what is started.
pub fn command_in(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

/// Runs a closure on a thread of its own in a namespace.
pub fn spawn_in<T: Send + 'static>(
    namespace: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace is there");
    std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter its own namespace");
        body()
    })
}

pub fn within<T: Send + 'static>(namespace: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_in(namespace, body).join().expect("the thread in the namespace ended well")
}
