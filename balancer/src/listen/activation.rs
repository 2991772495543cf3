//! Listening sockets: bound here, or passed by who started the process and goes on when it ends (systemd's socket
//! activation, sd_listen_fds(3)). Then the kernel keeps who comes while nobody serves, and a restart refuses
//! nobody.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use skep_base::listen;

/// The names of what may be passed (`FileDescriptorName=`), which are also their order where none has a name.
pub const NAMES: [&str; 2] = ["http", "https"];

/// What was passed.
#[derive(Debug, Default)]
pub struct Passed {
    pub http: Option<TcpListener>,
    pub https: Option<TcpListener>,
}

impl Passed {
    /// From the environment. Nothing of it is for another process.
    pub fn take() -> Result<Self, String> {
        // Whose they are is always said; without it they are an accident of the environment.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = ListenFd::from_env();
        let mut passed = Self::default();
        let names: Vec<&str> = names.split(':').collect();
        for at in 0..sockets.len() {
            let name = name_of(&names, at).ok_or_else(|| {
                let name = names.get(at).copied().unwrap_or_default();
                format!("socket {at} that was passed is named {name:?}: expected one named http, and one named https")
            })?;
            let socket = sockets.take_tcp_listener(at).map_err(|error| format!("{name}, passed: {error}"))?;
            let place = if name == NAMES[0] { &mut passed.http } else { &mut passed.https };
            if std::mem::replace(place, socket).is_some() {
                return Err(format!("two sockets that were passed are named {name}"));
            }
        }
        Ok(passed)
    }
}

fn name_of(names: &[&str], at: usize) -> Option<&'static str> {
    let is_named = |name: &&str| NAMES.contains(name);
    if names.iter().any(is_named) {
        return NAMES.into_iter().find(|name| names.get(at) == Some(name));
    }
    // systemd names them by their unit where nobody else did.
    NAMES.get(at).copied()
}

/// One listening socket for each core, on one port also where that is 0. A socket that was passed is all cores':
/// what waits at another one would be refused when this process ends.
pub fn bind_all(
    passed: Option<TcpListener>,
    address: SocketAddr,
    count: usize,
) -> io::Result<Vec<TcpListener>> {
    if let Some(passed) = passed {
        let local = passed.local_addr()?;
        if local != address {
            tracing::warn!(passed = %local, setting = %address, "the socket that was passed counts");
        }
        passed.set_nonblocking(true)?;
        return (0..count).map(|_| passed.try_clone()).collect();
    }
    let first = listen::bind(address)?;
    let address = first.local_addr()?;
    std::iter::once(Ok(first)).chain((1..count).map(|_| listen::bind(address))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_apart_by_their_names_or_by_their_order() {
        assert_eq!([0, 1, 2].map(|at| name_of(&["https", "http"], at)), [Some("https"), Some("http"), None]);
        let unit = ["skep-balancer.socket", "skep-balancer.socket"];
        assert_eq!([0, 1, 2].map(|at| name_of(&unit, at)), [Some("http"), Some("https"), None]);
        assert_eq!(name_of(&["http", "other"], 1), None);
        assert_eq!(name_of(&[""], 0), Some("http"));
    }
}
