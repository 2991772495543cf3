//! The virtual MAC of one router: taken before its addresses are set, closed once they are gone.

use std::io;
use std::net::IpAddr;

use super::Router;
use crate::counts;
use crate::vmac::VirtualMac;

impl Router {
    /// The virtual MAC, on this router's interface.
    pub fn open_vmac(&self) -> io::Result<Option<VirtualMac>> {
        let (true, Some(link), Some(own)) = (self.config.vmac, &self.link, self.source) else {
            return Ok(None);
        };
        let addresses: Vec<IpAddr> = self.config.addresses.iter().map(|it| it.ip).collect();
        VirtualMac::open(link, self.config.vrid, &addresses, own).map(Some)
    }

    /// Has it where the addresses are to be. Tried again with each refreshing of those.
    pub(super) async fn keep_vmac(&mut self) {
        let fits = match (&self.vmac, &self.link, self.source) {
            (Some(vmac), Some(link), Some(own)) => vmac.fits(link, own),
            _ => false,
        };
        if !self.config.vmac || fits {
            return;
        }
        // Not two at once: each rewrites what the other has.
        self.close_vmac();
        if let Some(closes) = self.vmac_closes.take() {
            let _ = closes.await;
        }
        match self.open_vmac() {
            Ok(vmac) => self.vmac = vmac,
            Err(error) => {
                counts::add(&self.counts.address_failures);
                tracing::error!(vrid = self.config.vrid, %error, "the virtual MAC address cannot be taken");
            }
        }
    }

    /// The kernel takes its time for it, in which the other routers of this process are to go on.
    pub(super) fn close_vmac(&mut self) {
        if let Some(vmac) = self.vmac.take() {
            self.vmac_closes = Some(tokio::task::spawn_blocking(move || drop(vmac)));
        }
    }
}
