//! What the driver does with the kernel's news: interfaces and addresses that come and go.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Driver;
use crate::VrrpError;
use crate::netlink::Change;
use crate::socket::AdvertSocket;

impl Driver {
    pub(super) async fn changed(&mut self, change: Change) {
        match change {
            Change::AddressGone(gone) => {
                let now = Instant::now();
                let lost = self.routers.iter().position(|router| {
                    router.is_active()
                        && router.link.as_ref().is_some_and(|link| link.index == gone.index)
                        && router.has_address(gone.address)
                });
                if let Some(at) = lost {
                    let hands = self.hands_of(at);
                    return self.routers[at].restore(&hands, now).await;
                }
                if self.is_virtual(gone.address) {
                    return;
                }
            }
            // One's own refreshing is no news.
            Change::Address(new) if self.is_virtual(new.address) => return,
            Change::Link(link) => {
                let known = self.routers.iter().filter(|it| it.config.interface == link.name);
                if known.clone().count() == 0 || known.clone().all(|it| it.link.as_ref() == Some(&link)) {
                    return;
                }
            }
            Change::Address(_) | Change::LinkGone(_) => {}
        }
        if let Err(error) = self.look_at_interfaces().await {
            tracing::error!(%error, "the interfaces cannot be looked at");
        }
        self.claim().await;
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        self.routers.iter().any(|router| router.has_address(address))
    }

    /// Finds each router's interface and source address, and opens the sockets that are missing.
    pub(super) async fn look_at_interfaces(&mut self) -> Result<(), VrrpError> {
        let every: Vec<IpAddr> =
            self.routers.iter().flat_map(|it| &it.config.addresses).map(|it| it.ip).collect();
        for at in 0..self.routers.len() {
            let (interface, family) = (self.routers[at].config.interface.clone(), self.routers[at].family());
            let link = self.netlink.link(&interface).await?;
            let assigned = match &link {
                Some(link) => self.netlink.addresses(link.index).await?,
                None => Vec::new(),
            };
            let router = &mut self.routers[at];
            router.choose_source(&assigned, |address| every.contains(&address));
            router.link = link;
            let key = (interface.clone(), family);
            let index = router.link.as_ref().map(|link| link.index);
            if self.sockets.get(&key).is_some_and(|socket| Some(socket.index()) != index) {
                self.sockets.remove(&key);
            }
            if let (Some(index), false) = (index, self.sockets.contains_key(&key)) {
                let socket = AdvertSocket::open(family, &interface, index).map_err(|error| {
                    VrrpError::Open { what: format!("a VRRP socket on {interface}"), error }
                })?;
                self.sockets.insert(key.clone(), Arc::new(socket));
                if let Some(mesh) = &self.mesh {
                    mesh.listen_again(&interface);
                }
            }
            if let (Some(IpAddr::V6(source)), Some(socket)) =
                (self.routers[at].source, self.sockets.get(&key))
                && let Err(error) = socket.bind_v6(source)
            {
                // Still being made sure of by the kernel, most likely; it will be in its news.
                tracing::debug!(%source, %error, "advertisements cannot be sent from this address yet");
                self.routers[at].source = None;
            }
        }
        Ok(())
    }
}
