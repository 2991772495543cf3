//! What SIGHUP reads again: limits and times, the list of backends, certificates, the authorities of backends, the
//! keys of the cluster, the gateway's document, and the file of the access log.
//!
//! Each for itself: what is wrong leaves what was there, and is said. What needs a socket or a thread of its
//! own (addresses, cores, gossip, virtual addresses) stays as it was started with. Keys are read by a task.

use std::sync::Arc;

use skep_members::in_force::Keys;
use tokio::sync::{Notify, watch};

use crate::config::{self, BackendTlsConfig, Invocation, ServeConfig};
use crate::core::access_log;
use crate::core::settings::Settings;
use crate::core::shared::Shared;
use crate::listen::question::PLACES_MAX;
use crate::listen::tls::Certificates;
use crate::pools::source;

/// Descriptors for each client: its connection, one to a backend, and a pipe between them. Streams of HTTP/2
/// have more to backends, which `--max-in-flight` bounds; one that finds none left is told so.
const FILES_OF_CLIENT: u64 = 4;
/// Those of the process itself, and of each core.
const OWN_FILES: u64 = 256;
const FILES_OF_CORE: u64 = (PLACES_MAX + 16) as u64;
/// Clients that are served however few files may be open.
const CLIENTS_MIN: usize = 32;

/// No more connections than there are descriptors for: who runs out of them can neither serve a client nor
/// say so, nor answer who holds the address.
pub(super) fn within(files: u64, cores: usize, settings: Settings) -> Settings {
    let own = OWN_FILES + FILES_OF_CORE * cores as u64;
    let fit = usize::try_from(files.saturating_sub(own) / FILES_OF_CLIENT).unwrap_or(usize::MAX);
    let fit = fit.max(CLIENTS_MIN);
    if fit < settings.connections_max {
        tracing::warn!(
            files,
            asked = settings.connections_max,
            served = fit,
            "connections: for more, let it open more files"
        );
    }
    Settings { connections_max: settings.connections_max.min(fit), ..settings }
}

/// What can be read again.
pub(super) struct Reload<'a> {
    pub shared: &'a Shared,
    pub keys: Keys,
    /// Most that may be open.
    pub files: u64,
    pub cores: usize,
    pub certificates: Option<&'a Certificates>,
    /// Of a list that was given; `None` where gossip shows them.
    pub backends: Option<watch::Sender<Vec<source::Target>>>,
    /// As it was started with; of authorities the file may be another by now.
    pub backend_tls: BackendTlsConfig,
    pub log: Option<access_log::Writer>,
    /// Told to read its file again.
    pub gateway: Option<Arc<Notify>>,
}

impl Reload<'_> {
    pub fn all(&mut self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
        if let Some(gateway) = &self.gateway {
            gateway.notify_one();
        }
        let keys = self.keys.clone();
        tokio::spawn(async move { keys.read_again().await });
        match config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
            Ok(Invocation::Serve(config)) => self.take(*config),
            Ok(_) => {}
            Err(error) => {
                tracing::error!("the configuration is left as it was: {error}");
                self.certificates(None);
            }
        }
    }

    fn take(&mut self, config: ServeConfig) {
        self.shared.settings.store(Arc::new(within(self.files, self.cores, config.settings)));
        tracing::info!("limits and times read again");
        match (&self.backends, config.backends.is_empty()) {
            (Some(backends), false) => {
                let targets = source::fixed(&config.backends, config.check.as_ref());
                let changed = backends.send_if_modified(|before| {
                    let changed = *before != targets;
                    *before = targets;
                    changed
                });
                if changed {
                    tracing::info!(backends = config.backends.len(), "the list of backends read again");
                }
            }
            (None, true) => {}
            _ => tracing::error!("--backends is left as it was: a list instead of gossip needs a restart"),
        }
        self.certificates(Some(config.certificates));
        self.backend_tls(config.backend_tls);
        if !self.keys.are_of(config.cluster_key.as_ref().and_then(|given| given.file.as_ref())) {
            tracing::error!("--cluster-key-file is left as it was: another file, or none, needs a restart");
        }
    }

    fn backend_tls(&mut self, now: BackendTlsConfig) {
        match (&self.backend_tls, &now, &self.shared.pools.skep().tls) {
            (BackendTlsConfig::Authorities(_), BackendTlsConfig::Authorities(file), Some(tls)) => {
                match tls.replace_authorities(file) {
                    Ok(()) => tracing::info!("the authorities of backends read again"),
                    Err(error) => {
                        return tracing::error!("the authorities of backends are left as they were: {error}");
                    }
                }
            }
            (before, now, _) if *before == *now => {}
            _ => {
                let what = "--backend-tls and --backend-ca are left as they were";
                return tracing::error!("{what}: one instead of another, or of none, needs a restart");
            }
        }
        self.backend_tls = now;
    }

    fn certificates(&self, files: Option<Vec<crate::listen::tls::Files>>) {
        let Some(certificates) = self.certificates else { return };
        Self::said(match files {
            Some(files) => certificates.replace(files),
            None => certificates.reload(true),
        });
    }

    /// Where their files have other times than when they were read.
    pub fn changed_certificates(&self) {
        if let Some(certificates) = self.certificates {
            Self::said(certificates.reload(false));
        }
    }

    fn said(read: Result<bool, crate::listen::tls::TlsError>) {
        match read {
            Ok(true) => tracing::info!("certificates read again"),
            Err(error) => tracing::error!("the certificates are left as they were: {error}"),
            Ok(false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_clients_than_there_are_descriptors_for() {
        let most = |files| within(files, 2, Settings::default()).connections_max;
        let own = OWN_FILES + 2 * FILES_OF_CORE;
        let default = Settings::default().connections_max;
        assert_eq!(most(u64::MAX), default);
        assert_eq!(most(own + FILES_OF_CLIENT * default as u64), default);
        assert_eq!(most(own + 4000), 1000);
        assert_eq!(most(64), CLIENTS_MIN);
    }
}
