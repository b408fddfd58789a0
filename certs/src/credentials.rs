//! What a host shows at a handshake and what it demands of the other end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::files::{self, FileError, Layout};
use crate::fingerprint::Fingerprint;
use crate::identity::{HostIdentity, IdentityError, authority_cluster};
use crate::issued::Serial;
use crate::moment::UnixSeconds;
use crate::revocation::RevocationList;
use crate::verifier::{ClusterClients, ClusterServers, PinnedAuthority};

/// A host's certificate and key, and its authority's certificate and revocation list.
///
/// The files are read once. Load them again, and make new configurations, to notice a revocation.
pub struct Credentials {
    identity: HostIdentity,
    authority: Fingerprint,
    validity: (UnixSeconds, UnixSeconds),
    revoked: bool,
    shown: Arc<CertifiedKey>,
    members: Arc<ClusterClients>,
    members_or_strangers: Arc<ClusterClients>,
    servers: Arc<ClusterServers>,
}

/// Why a host cannot take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate names no host, or the authority's no cluster.
    #[error("`{path}` cannot be used", path = path.display())]
    Identity {
        /// File of the certificate.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The certificate is another host's.
    #[error("`{path}` is the certificate of `{found}`", path = path.display())]
    OtherHost {
        /// File of the certificate.
        path: PathBuf,
        /// Whose it is.
        found: HostIdentity,
    },
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("`{key}` is not the key of `{certificate}`",
        key = key.display(), certificate = certificate.display())]
    WrongKey {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        certificate: PathBuf,
        /// What the library says.
        source: rustls::Error,
    },
    /// The revocation list is damaged.
    #[error("revocation list `{path}` cannot be used", path = path.display())]
    RevocationList {
        /// File of the list.
        path: PathBuf,
        /// What the library says.
        source: VerifierBuilderError,
    },
    /// The certificate is too old, or the clock is wrong.
    #[error("certificate of `{host}` ended at {not_after}, and it is {now}")]
    Expired {
        /// Whose.
        host: String,
        /// Its last moment.
        not_after: UnixSeconds,
        /// What the clock says.
        now: UnixSeconds,
    },
    /// The certificate is from the future, or the clock is wrong.
    #[error("certificate of `{host}` starts at {not_before}, and it is {now}")]
    NotYetValid {
        /// Whose.
        host: String,
        /// Its first moment.
        not_before: UnixSeconds,
        /// What the clock says.
        now: UnixSeconds,
    },
    /// The host's own certificate is on the revocation list.
    #[error("certificate of `{host}` was revoked")]
    Revoked {
        /// Whose.
        host: String,
    },
}

impl Credentials {
    /// Reads what the host `name` needs out of `dir`.
    ///
    /// # Errors
    ///
    /// When a file is missing, damaged, open to every user, or does not belong to the others.
    /// Whether the certificate is good at this moment is asked with [`check`](Self::check).
    pub fn load(dir: &Path, name: &str) -> Result<Self, CredentialsError> {
        let layout = Layout::new(dir);
        let (ca_path, path) = (layout.ca_certificate(), layout.certificate(name));
        let ca: CertificateDer<'static> = files::read_pem(&ca_path, "certificate")?;
        let certificate: CertificateDer<'static> = files::read_pem(&path, "certificate")?;
        let key: PrivateKeyDer<'static> = files::read_key(&layout.key(name))?;
        let (revoked, list) = RevocationList::read_signed(&layout, &ca)?;
        let identity = read_identity(&layout, name, &ca, &certificate)?;
        let (serial, validity) = check_signature(&layout, name, &ca, &certificate)?;

        let chain = vec![certificate, ca.clone()];
        let provider = provider();
        let shown = CertifiedKey::from_der(chain, key, &provider).map_err(|source| {
            CredentialsError::WrongKey { key: layout.key(name), certificate: path, source }
        })?;
        let unusable = |source| CredentialsError::RevocationList { path: layout.ca_crl(), source };
        let trust = Trust { roots: roots(&ca), list, cluster: identity.cluster.clone(), provider };
        Ok(Self {
            authority: Fingerprint::of(&ca),
            identity,
            validity,
            revoked: serial.is_some_and(|serial| revoked.contains(serial)),
            shown: Arc::new(shown),
            members: trust.members().map_err(unusable)?,
            members_or_strangers: trust.members_or_strangers().map_err(unusable)?,
            servers: trust.servers().map_err(unusable)?,
        })
    }

    /// Checks the host's own certificate, so that it need not learn from others that it is out.
    ///
    /// # Errors
    ///
    /// When the certificate is revoked, has ended or has not begun at `now`.
    pub fn check(&self, now: UnixSeconds) -> Result<(), CredentialsError> {
        let host = self.identity.name.clone();
        let (not_before, not_after) = self.validity;
        if self.revoked {
            return Err(CredentialsError::Revoked { host });
        }
        if now < not_before {
            return Err(CredentialsError::NotYetValid { host, not_before, now });
        }
        if now > not_after {
            return Err(CredentialsError::Expired { host, not_after, now });
        }
        Ok(())
    }

    /// Makes the configuration of a server that only hosts of the cluster get through to.
    ///
    /// The application protocol is left to the caller: [`ALPN_DATA`](crate::ALPN_DATA).
    pub fn server_config(&self) -> ServerConfig {
        self.serve(self.members.clone())
    }

    /// Makes the configuration of a server that also lets clients without any certificate finish
    /// the handshake, because a joining host has none yet.
    ///
    /// A certificate that is shown is checked as by [`server_config`](Self::server_config). Whoever
    /// shows none is a stranger: the caller must close its connection unless it chose
    /// [`ALPN_ENROL`](crate::ALPN_ENROL).
    pub fn enrol_server_config(&self) -> ServerConfig {
        self.serve(self.members_or_strangers.clone())
    }

    /// Makes the configuration of a client that only talks to hosts of the cluster.
    ///
    /// Dial with the server name [`dns_name`](crate::dns_name) of the host meant. A client learns
    /// of its own rejection only after the handshake: a peer is up once it answered.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(self.servers.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.shown.clone())));
        config.resumption = Resumption::disabled();
        config
    }

    /// Who the host is.
    pub fn identity(&self) -> &HostIdentity {
        &self.identity
    }

    /// Fingerprint of its authority.
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// Last moment at which other hosts accept the certificate.
    pub fn not_after(&self) -> UnixSeconds {
        self.validity.1
    }

    fn serve(&self, clients: Arc<ClusterClients>) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.shown.clone())));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// Makes the configuration of a joining host: it shows no certificate and talks to any host that
/// shows the authority with this fingerprint. The server name it dials with does not matter.
pub fn enrol_client_config(fingerprint: Fingerprint) -> ClientConfig {
    let verifier = PinnedAuthority { fingerprint, provider: provider() };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// What the verifiers are made of.
struct Trust {
    roots: Arc<RootCertStore>,
    list: CertificateRevocationListDer<'static>,
    cluster: String,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    fn members(&self) -> Result<Arc<ClusterClients>, VerifierBuilderError> {
        let signatures =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
                .with_crls([self.list.clone()])
                .enforce_revocation_expiration()
                .build()?;
        Ok(Arc::new(ClusterClients { signatures, cluster: self.cluster.clone() }))
    }

    fn members_or_strangers(&self) -> Result<Arc<ClusterClients>, VerifierBuilderError> {
        let signatures =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
                .with_crls([self.list.clone()])
                .enforce_revocation_expiration()
                .allow_unauthenticated()
                .build()?;
        Ok(Arc::new(ClusterClients { signatures, cluster: self.cluster.clone() }))
    }

    fn servers(&self) -> Result<Arc<ClusterServers>, VerifierBuilderError> {
        let signatures =
            WebPkiServerVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
                .with_crls([self.list.clone()])
                .enforce_revocation_expiration()
                .build()?;
        Ok(Arc::new(ClusterServers { signatures, cluster: self.cluster.clone() }))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(ca: &CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).expect("the authority's certificate was parsed before");
    Arc::new(roots)
}

fn read_identity(
    layout: &Layout,
    name: &str,
    ca: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
) -> Result<HostIdentity, CredentialsError> {
    let unusable = |path| |source| CredentialsError::Identity { path, source };
    let cluster = authority_cluster(ca).map_err(unusable(layout.ca_certificate()))?;
    let path = layout.certificate(name);
    let found = HostIdentity::from_certificate(certificate).map_err(unusable(path.clone()))?;
    if found.name == name && found.cluster == cluster {
        Ok(found)
    } else {
        Err(CredentialsError::OtherHost { path, found })
    }
}

/// Checks that the authority signed the certificate, and returns its number and validity.
fn check_signature(
    layout: &Layout,
    name: &str,
    ca: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
) -> Result<(Option<Serial>, (UnixSeconds, UnixSeconds)), CredentialsError> {
    let (path, authority) = (layout.certificate(name), layout.ca_certificate());
    let parsed = x509_parser::parse_x509_certificate(ca)
        .and_then(|(_, ca)| Ok((ca, x509_parser::parse_x509_certificate(certificate)?.1)));
    let Ok((ca, host)) = parsed else {
        return Err(CredentialsError::Identity { path, source: IdentityError::Unreadable });
    };
    if host.verify_signature(Some(ca.public_key())).is_err() {
        return Err(FileError::OtherAuthority { path, authority }.into());
    }
    let validity = (
        UnixSeconds::from_timestamp(host.validity().not_before.timestamp()),
        UnixSeconds::from_timestamp(host.validity().not_after.timestamp()),
    );
    Ok((Serial::from_raw(host.raw_serial()), validity))
}
