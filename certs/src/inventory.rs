//! What a certificate directory holds, read without any private key.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustls_pki_types::CertificateDer;

use crate::files::{self, FileError, Layout};
use crate::fingerprint::Fingerprint;
use crate::identity::{HostIdentity, IdentityError, authority_cluster};
use crate::issued::{self, Serial};
use crate::moment::UnixSeconds;
use crate::revocation::RevocationList;
use crate::tokens::{self, Outstanding};

/// The contents of a certificate directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inventory {
    /// The cluster it is for.
    pub cluster: String,
    /// Fingerprint of the authority's certificate.
    pub fingerprint: Fingerprint,
    /// Last moment of the authority.
    pub not_after: UnixSeconds,
    /// Every certificate issued from here or lying here, by host name, oldest first.
    pub hosts: Vec<HostEntry>,
    /// Join tokens not used yet, expired ones included.
    pub tokens: Vec<Outstanding>,
}

/// One host certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostEntry {
    /// The host.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Number of the certificate, in hexadecimal digits.
    pub serial: String,
    /// Last moment of the certificate.
    pub not_after: UnixSeconds,
    /// Whether other hosts accept it.
    pub state: HostState,
}

/// Whether a certificate counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostState {
    /// It is accepted.
    Good,
    /// It is too old.
    Expired,
    /// It is on the revocation list.
    Revoked,
}

impl Inventory {
    /// Reads `dir` and judges its certificates at `now`.
    ///
    /// # Errors
    ///
    /// When the authority's certificate or revocation list is missing, or any file is damaged.
    pub fn read(dir: &Path, now: UnixSeconds) -> Result<Self, FileError> {
        let layout = Layout::new(dir);
        let path = layout.ca_certificate();
        let ca: CertificateDer<'_> = files::read_pem(&path, "certificate")?;
        let damaged = |error: IdentityError| FileError::damaged(&path, error);
        let cluster = authority_cluster(&ca).map_err(damaged)?;
        let (_, not_after) = issued::serial_and_end(&ca).map_err(damaged)?;
        let list = RevocationList::read(&layout, &ca)?;
        let mut found = present(&layout)?;
        for entry in issued::read(&layout)? {
            let issued::Entry { serial, not_after, region, name } = entry;
            found.insert((name, not_after, serial), region);
        }
        let entry =
            |((name, not_after, serial), region): ((String, UnixSeconds, Serial), String)| {
                let state = match () {
                    () if list.contains(serial) => HostState::Revoked,
                    () if not_after < now => HostState::Expired,
                    () => HostState::Good,
                };
                HostEntry { name, region, serial: serial.to_string(), not_after, state }
            };
        let hosts = found.into_iter().map(entry).collect();
        let fingerprint = Fingerprint::of(&ca);
        Ok(Self { cluster, fingerprint, not_after, hosts, tokens: tokens::list(&layout)? })
    }
}

/// Reads the host certificates that lie in the directory; a joined host has no list of issued ones.
fn present(layout: &Layout) -> Result<BTreeMap<(String, UnixSeconds, Serial), String>, FileError> {
    let mut found = BTreeMap::new();
    let failed = || FileError::io("read", layout.dir());
    for entry in fs::read_dir(layout.dir()).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !(name.starts_with("node-") && name.ends_with(".crt")) {
            continue;
        }
        let certificate: CertificateDer<'_> = files::read_pem(&path, "certificate")?;
        let damaged = |error: IdentityError| FileError::damaged(&path, error);
        let identity = HostIdentity::from_certificate(&certificate).map_err(damaged)?;
        if let (Some(serial), end) = issued::serial_and_end(&certificate).map_err(damaged)? {
            found.insert((identity.name, end, serial), identity.region);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authority::Authority;

    const NOW: UnixSeconds = UnixSeconds(1_795_420_805);

    #[test]
    fn every_certificate_is_listed_once_with_its_state() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let authority = Authority::create(dir.path(), "river", NOW).expect("new");
        let later = NOW.after(Duration::from_secs(60));
        for (name, now) in [("h2", later), ("h1", NOW), ("h3", later)] {
            authority.issue(name, "eu", now).expect("free name");
        }
        authority.revoke("h2", later).expect("issued");
        authority.issue("h2", "us", later.after(Duration::from_secs(1))).expect("free again");
        fs::remove_file(authority.layout().certificate("h3")).expect("moved to its host");

        let end = authority.layout().certificate("h1");
        let end: CertificateDer<'_> = files::read_pem(&end, "certificate").expect("issued");
        let (_, end) = issued::serial_and_end(&end).expect("readable");
        let inventory = Inventory::read(dir.path(), end.after(Duration::from_secs(1)));
        let inventory = inventory.expect("readable");
        let rows: Vec<(&str, &str, HostState)> = inventory
            .hosts
            .iter()
            .map(|host| (host.name.as_str(), host.region.as_str(), host.state))
            .collect();
        assert_eq!(
            rows,
            [
                ("h1", "eu", HostState::Expired),
                ("h2", "eu", HostState::Revoked),
                ("h2", "us", HostState::Good),
                ("h3", "eu", HostState::Good),
            ],
        );
        assert_eq!(inventory.cluster, "river");
        assert_eq!(inventory.fingerprint, authority.fingerprint());
    }
}
