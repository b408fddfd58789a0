//! The cluster's own certificate authority: it signs hosts and takes its signature back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use crate::files::{self, FileError, Layout};
use crate::fingerprint::Fingerprint;
use crate::identity::{HostIdentity, IdentityError, authority_cluster, check_label, dns_name};
use crate::issued::{self, Entry, Serial};
use crate::moment::UnixSeconds;
use crate::revocation::RevocationList;
use crate::token::JoinToken;
use crate::tokens::{self, Outstanding};

/// How long an authority and its revocation lists last: longer than any cluster is likely to.
pub(crate) const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);

/// How long a host certificate lasts. A year bounds what a key that leaked unnoticed is worth.
const HOST_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How far a host's clock may be behind the authority's at the moment of signing.
pub(crate) const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

/// The authority of one cluster, with its private key.
pub struct Authority {
    layout: Layout,
    cluster: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What was issued, and where it lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issued {
    /// Who the certificate says the host is.
    pub identity: HostIdentity,
    /// File of the certificate.
    pub certificate: PathBuf,
    /// File of the private key.
    pub key: PathBuf,
    /// Last moment at which other hosts accept it.
    pub not_after: UnixSeconds,
}

/// What a revocation changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revocation {
    /// The list is new; so many certificates of the host were added to it.
    Revoked {
        /// How many, at least one.
        certificates: usize,
    },
    /// Every certificate of the host was on the list already.
    AlreadyRevoked,
}

/// To whom and for how long a join token is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invitation {
    /// Where the enrolling host answers, `host:port`.
    pub address: String,
    /// The region the new host must stand in, if not its own choice.
    pub region: Option<String>,
    /// The name the new host must take, if not its own choice.
    pub name: Option<String>,
    /// First moment at which the token is refused.
    pub expiry: UnixSeconds,
}

/// Why the authority did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory belongs to an authority already; a second one would lock its hosts out.
    #[error("`{path}` exists: the directory has an authority already", path = path.display())]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// A name or a certificate identifies no host.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The authority's own certificate names no cluster.
    #[error("`{path}` is not a cluster authority", path = path.display())]
    NotAnAuthority {
        /// File of the certificate.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The private key is of a kind this program does not use.
    #[error("private key `{path}` cannot be used", path = path.display())]
    Key {
        /// File of the key.
        path: PathBuf,
        /// What the library says.
        source: rcgen::Error,
    },
    /// Key and certificate do not belong together.
    #[error("`{key}` is not the key of `{certificate}`",
        key = key.display(), certificate = certificate.display())]
    WrongKey {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        certificate: PathBuf,
    },
    /// Another certificate of this name is still good.
    #[error("host `{name}` has a certificate that is good until {not_after}")]
    NameTaken {
        /// The name.
        name: String,
        /// Until when.
        not_after: UnixSeconds,
    },
    /// Nothing was ever issued to this name.
    #[error("no certificate was ever issued to a host `{name}`")]
    UnknownHost {
        /// The name.
        name: String,
    },
    /// The signing request is damaged, or not signed by the key it carries.
    #[error("certificate signing request is not valid")]
    Request {
        /// What the library says.
        source: rcgen::Error,
    },
    /// The address in an invitation cannot be dialled.
    #[error("{address:?} is not an address of the form HOST:PORT")]
    Address {
        /// What was given.
        address: String,
    },
}

impl Authority {
    /// Creates the authority of a new cluster in `dir`, which is created as well.
    ///
    /// # Errors
    ///
    /// When `dir` has an authority already, `cluster` is no DNS label, or files cannot be written.
    pub fn create(dir: &Path, cluster: &str, now: UnixSeconds) -> Result<Self, AuthorityError> {
        check_label("cluster", cluster)?;
        let layout = Layout::new(dir);
        if let Some(path) =
            [layout.ca_key(), layout.ca_certificate()].into_iter().find(|path| path.exists())
        {
            return Err(AuthorityError::Exists { path });
        }
        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let key_pem = key.serialize_pem();
        let params = authority_params(cluster, now);
        let issuer = CertifiedIssuer::self_signed(params, key).expect("parameters are complete");
        files::create_dir(dir)?;
        files::write_private(&layout.ca_key(), &key_pem)?;
        files::write_public(&layout.ca_certificate(), &issuer.pem())?;
        RevocationList { number: 1, revoked: Vec::new() }.write(&layout, &issuer, now)?;
        Self::open(dir)
    }

    /// Opens the authority in `dir`.
    ///
    /// # Errors
    ///
    /// When certificate or key are missing, damaged, open to other users or of two authorities.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let layout = Layout::new(dir);
        let path = layout.ca_certificate();
        let certificate: CertificateDer<'_> = files::read_pem(&path, "certificate")?;
        let cluster = authority_cluster(&certificate)
            .map_err(|source| AuthorityError::NotAnAuthority { path: path.clone(), source })?;
        let key_path = layout.ca_key();
        let key: PrivatePkcs8KeyDer<'_> = files::read_key(&key_path)?;
        let unusable = |source| AuthorityError::Key { path: key_path.clone(), source };
        let key = KeyPair::try_from(&key).map_err(unusable)?;
        if !has_public_key(&certificate, &key) {
            return Err(AuthorityError::WrongKey { key: key_path, certificate: path });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(unusable)?;
        Ok(Self { layout, cluster, certificate, issuer })
    }

    /// Makes a key and a certificate for the host `name` and puts them into the directory.
    ///
    /// # Errors
    ///
    /// When a name is no DNS label, `name` has a good certificate, or files cannot be written.
    pub fn issue(
        &self,
        name: &str,
        region: &str,
        now: UnixSeconds,
    ) -> Result<Issued, AuthorityError> {
        let identity = self.free_identity(name, region, now)?;
        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let (certificate, not_after) = self.sign(&identity, &key, now)?;
        let paths = (self.layout.certificate(name), self.layout.key(name));
        files::write_private(&paths.1, &key.serialize_pem())?;
        files::write_public(&paths.0, &certificate.pem())?;
        Ok(Issued { identity, certificate: paths.0, key: paths.1, not_after })
    }

    /// Signs the key of a host that keeps its private half to itself.
    ///
    /// Only the key is taken from the request; name, region and lifetime are the caller's.
    ///
    /// # Errors
    ///
    /// When the request does not prove that its sender has the key, a name is no DNS label, `name`
    /// has a good certificate, or the list of issued certificates cannot be written.
    pub fn sign_request(
        &self,
        request_der: &[u8],
        name: &str,
        region: &str,
        now: UnixSeconds,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let identity = self.free_identity(name, region, now)?;
        let request = read_request(request_der)?;
        let (certificate, _) = self.sign(&identity, &request.public_key, now)?;
        Ok(certificate.into())
    }

    /// Puts every certificate of the host `name` that is still good on the revocation list.
    ///
    /// # Errors
    ///
    /// When nothing was ever issued to `name`, or files cannot be used.
    pub fn revoke(&self, name: &str, now: UnixSeconds) -> Result<Revocation, AuthorityError> {
        let mut entries = issued::read(&self.layout)?;
        entries.retain(|entry| entry.name == name);
        if entries.is_empty() {
            return Err(AuthorityError::UnknownHost { name: name.into() });
        }
        let mut list = RevocationList::read(&self.layout, &self.certificate)?;
        entries.retain(|entry| !list.contains(entry.serial));
        if entries.is_empty() {
            return Ok(Revocation::AlreadyRevoked);
        }
        list.number += 1;
        list.revoked.extend(entries.iter().map(|entry| (entry.serial, now)));
        list.write(&self.layout, &self.issuer, now)?;
        Ok(Revocation::Revoked { certificates: entries.len() })
    }

    /// Hands out a token with which one host may join until it expires.
    ///
    /// # Errors
    ///
    /// When the address has no port, a name is no DNS label or taken, or files cannot be written.
    pub fn invite(
        &self,
        invitation: Invitation,
        now: UnixSeconds,
    ) -> Result<JoinToken, AuthorityError> {
        let Invitation { address, region, name, expiry } = invitation;
        check_address(&address)?;
        region.as_deref().map_or(Ok(()), |region| check_label("region", region))?;
        if let Some(name) = &name {
            check_label("host", name)?;
            self.check_free(name, now)?;
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the system has a random source");
        let ca_fingerprint = self.fingerprint();
        let token = JoinToken { address, ca_fingerprint, name, region, expiry, secret };
        let (region, name) = (token.region.clone(), token.name.clone());
        tokens::prune(&self.layout, now)?;
        tokens::add(&self.layout, &Outstanding { hash: token.hash(), expiry, region, name })?;
        Ok(token)
    }

    /// Name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Fingerprint of the authority's certificate, as join tokens carry it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The directory it works in.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the identity a host would get, if its name is free.
    pub(crate) fn free_identity(
        &self,
        name: &str,
        region: &str,
        now: UnixSeconds,
    ) -> Result<HostIdentity, AuthorityError> {
        let identity = HostIdentity::new(&self.cluster, region, name)?;
        self.check_free(name, now)?;
        Ok(identity)
    }

    fn check_free(&self, name: &str, now: UnixSeconds) -> Result<(), AuthorityError> {
        let list = RevocationList::read(&self.layout, &self.certificate)?;
        let good = |entry: &Entry| {
            entry.name == name && entry.not_after > now && !list.contains(entry.serial)
        };
        match issued::read(&self.layout)?.into_iter().find(good) {
            None => Ok(()),
            Some(Entry { name, not_after, .. }) => {
                Err(AuthorityError::NameTaken { name, not_after })
            }
        }
    }

    /// Records and signs a certificate. The record comes first: what is not on it cannot be revoked.
    pub(crate) fn sign(
        &self,
        identity: &HostIdentity,
        key: &impl PublicKeyData,
        now: UnixSeconds,
    ) -> Result<(rcgen::Certificate, UnixSeconds), AuthorityError> {
        let serial = Serial::random();
        let not_after = now.after(HOST_LIFETIME);
        let HostIdentity { region, name, .. } = identity.clone();
        issued::append(&self.layout, &Entry { serial, not_after, region, name })?;
        let mut params = host_params(identity);
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.not_before = now.before(CLOCK_SKEW_MAX).date();
        params.not_after = not_after.date();
        let certificate = params.signed_by(key, &self.issuer).expect("parameters are complete");
        Ok((certificate, not_after))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .field("dir", &self.layout.dir())
            .finish_non_exhaustive()
    }
}

/// Reads a signing request and checks that it is signed by the key it carries.
pub(crate) fn read_request(der: &[u8]) -> Result<CertificateSigningRequestParams, AuthorityError> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
        .map_err(|source| AuthorityError::Request { source })
}

/// Tells whether `certificate` is for `key`.
pub(crate) fn has_public_key(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, certificate)| {
        *certificate.public_key().subject_public_key.data == *key.public_key_raw()
    })
}

fn check_address(address: &str) -> Result<(), AuthorityError> {
    let parts = address.rsplit_once(':');
    let fits = parts.is_some_and(|(host, port)| {
        let bare = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
        let port: Option<u16> = port.parse().ok();
        !host.is_empty()
            && bare
            && !host.contains(char::is_whitespace)
            && port.is_some_and(|it| it > 0)
    });
    if fits { Ok(()) } else { Err(AuthorityError::Address { address: address.into() }) }
}

fn authority_params(cluster: &str, now: UnixSeconds) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{cluster} cluster authority"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{cluster}"))];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&Serial::random().0));
    params.not_before = now.before(CLOCK_SKEW_MAX).date();
    params.not_after = now.after(AUTHORITY_LIFETIME).date();
    params
}

/// Says what every certificate of `identity` says, whoever made its key.
fn host_params(identity: &HostIdentity) -> CertificateParams {
    let mut params = CertificateParams::default();
    let dns = dns_name(&identity.name).try_into().expect("labels are ASCII");
    params.distinguished_name.push(DnType::CommonName, identity.name.clone());
    params.subject_alt_names = vec![uri(&identity.to_string()), SanType::DnsName(dns)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("labels are ASCII"))
}

#[cfg(test)]
mod tests;
