//! A host's identity, as its certificate states it.

use std::fmt;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// Longest cluster, region or host name, in bytes: that of a DNS label.
const LABEL_BYTES_MAX: usize = 63;

/// Who a host is. Displays as its URI, `spiffe://CLUSTER/region/REGION/node/NAME`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostIdentity {
    /// Cluster it belongs to.
    pub cluster: String,
    /// Region it stands in.
    pub region: String,
    /// Its name, unique within the cluster.
    pub name: String,
}

/// A name or certificate that identifies no host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// The name does not fit into a DNS label.
    #[error(
        "{field} name {value:?} is not 1 to 63 lower-case letters, digits and hyphens, \
         without a hyphen at either end"
    )]
    Label {
        /// Which of the names: `cluster`, `region` or `host`.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// The bytes are no certificate.
    #[error("not an X.509 certificate")]
    Unreadable,
    /// The certificate does not name exactly one URI.
    #[error("certificate names {found} URIs instead of one host")]
    UriCount {
        /// How many URI names it has.
        found: usize,
    },
    /// The URI is of another form.
    #[error("certificate names {uri:?}, which is not spiffe://CLUSTER/region/REGION/node/NAME")]
    Uri {
        /// What it names.
        uri: String,
    },
}

impl HostIdentity {
    /// Puts an identity together.
    ///
    /// # Errors
    ///
    /// Names the first part that is no lower-case DNS label; names end up in file names, URIs and
    /// server names, so nothing else is safe in all three.
    pub fn new(cluster: &str, region: &str, name: &str) -> Result<Self, IdentityError> {
        check_label("cluster", cluster)?;
        check_label("region", region)?;
        check_label("host", name)?;
        Ok(Self { cluster: cluster.into(), region: region.into(), name: name.into() })
    }

    /// Reads the identity out of a certificate. Says nothing about who signed it.
    ///
    /// # Errors
    ///
    /// When the certificate does not name exactly one host.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let uri = single_uri(certificate)?;
        let mut parts = uri.strip_prefix("spiffe://").unwrap_or_default().split('/');
        let parsed = (|| {
            let cluster = parts.next()?;
            let region = (parts.next()? == "region").then(|| parts.next())??;
            let name = (parts.next()? == "node").then(|| parts.next())??;
            parts.next().is_none().then(|| Self::new(cluster, region, name))?.ok()
        })();
        parsed.ok_or(IdentityError::Uri { uri })
    }
}

impl fmt::Display for HostIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/region/{}/node/{}", self.cluster, self.region, self.name)
    }
}

/// Returns the DNS name in the certificate of the host called `name`: what to ask for when dialling.
pub fn dns_name(name: &str) -> String {
    format!("{name}.thalweg")
}

/// Refuses what is no lower-case DNS label.
pub(crate) fn check_label(field: &'static str, value: &str) -> Result<(), IdentityError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=LABEL_BYTES_MAX).contains(&value.len())
        && value.bytes().all(allowed)
        && !value.starts_with('-')
        && !value.ends_with('-');
    if fits { Ok(()) } else { Err(IdentityError::Label { field, value: value.into() }) }
}

/// Returns the name of the cluster whose authority a certificate is: `spiffe://CLUSTER`.
pub(crate) fn authority_cluster(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let uri = single_uri(certificate)?;
    match uri.strip_prefix("spiffe://").map(|cluster| check_label("cluster", cluster)) {
        Some(Ok(())) => Ok(uri["spiffe://".len()..].to_owned()),
        _ => Err(IdentityError::Uri { uri }),
    }
}

fn single_uri(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| IdentityError::Unreadable)?;
    let names = parsed.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris[..] {
        [uri] => Ok(uri.to_owned()),
        _ => Err(IdentityError::UriCount { found: uris.len() }),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let san = |uri: &&str| SanType::URI((*uri).try_into().expect("URIs of tests are ASCII"));
        params.subject_alt_names = uris.iter().map(san).collect();
        let key = KeyPair::generate().expect("ring makes keys");
        params.self_signed(&key).expect("parameters are complete").der().clone()
    }

    #[test]
    fn identity_survives_its_certificate() {
        let identity = HostIdentity::new("river", "eu-1", "h1").expect("labels are good");
        assert_eq!(identity.to_string(), "spiffe://river/region/eu-1/node/h1");
        let read = HostIdentity::from_certificate(&certificate(&[&identity.to_string()]));
        assert_eq!(read, Ok(identity));
    }

    #[test]
    fn other_forms_identify_nobody() {
        for uri in [
            "spiffe://river",
            "spiffe://river/region/eu/node",
            "spiffe://river/region/eu/node/",
            "spiffe://river/region/eu/node/h1/",
            "spiffe://river/node/h1/region/eu",
            "spiffe://river/region/../node/h1",
            "spiffe://River/region/eu/node/h1",
            "https://river/region/eu/node/h1",
            "region/eu/node/h1",
        ] {
            let read = HostIdentity::from_certificate(&certificate(&[uri]));
            assert_eq!(read, Err(IdentityError::Uri { uri: uri.into() }));
        }
        let good = "spiffe://river/region/eu/node/h1";
        for uris in [&[][..], &[good, "spiffe://river/region/eu/node/h2"]] {
            let read = HostIdentity::from_certificate(&certificate(uris));
            assert_eq!(read, Err(IdentityError::UriCount { found: uris.len() }));
        }
        let read = HostIdentity::from_certificate(&CertificateDer::from(vec![0x30, 0]));
        assert_eq!(read, Err(IdentityError::Unreadable));
    }

    #[test]
    fn labels_are_safe_in_files_and_addresses() {
        let long = "a".repeat(LABEL_BYTES_MAX + 1);
        for bad in ["", "-a", "a-", "a/b", "..", "a b", "A", "a_b", "ä", "a\n", &long] {
            let refused = HostIdentity::new("river", "eu", bad);
            assert_eq!(refused, Err(IdentityError::Label { field: "host", value: bad.into() }));
        }
        for good in ["a", "7", "eu-west-1", &long[1..]] {
            assert!(HostIdentity::new(good, good, good).is_ok(), "{good}");
        }
    }
}
