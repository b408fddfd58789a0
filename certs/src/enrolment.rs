//! How a host without a certificate gets one: it shows a token's secret and asks for a signature.
//!
//! ```text
//! request:  secret | name | region | certificate signing request
//! reply:    0x00 then certificate | authority | revocation list (PEM),  or  0x01 then a reason
//! ```
//!
//! Both travel over TLS in which the joining host checked the authority's fingerprint, so that the
//! secret reaches nobody else. The private key never leaves the joining host.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::authority::{Authority, AuthorityError, has_public_key, read_request};
use crate::fields;
use crate::files::{self, FileError, Layout};
use crate::fingerprint::Fingerprint;
use crate::identity::{HostIdentity, IdentityError, check_label};
use crate::moment::UnixSeconds;
use crate::token::{JoinToken, hash_secret};
use crate::tokens;

/// Longest request. One with a P-256 key takes about 400 bytes.
pub const ENROL_REQUEST_BYTES_MAX: usize = 8 << 10;

/// Longest reply. Two certificates take about 1 KiB, and every revoked one 35 bytes more.
pub const ENROL_REPLY_BYTES_MAX: usize = 1 << 20;

/// First byte of a reply with a certificate.
const GRANTED: u8 = 0;
/// First byte of a reply with a reason.
const REFUSED: u8 = 1;

/// A host on its way into a cluster: its new key, and what it asks for.
pub struct Enrolment {
    layout: Layout,
    authority: Fingerprint,
    name: String,
    region: String,
    key: KeyPair,
    request: Vec<u8>,
}

/// A host that was let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolled {
    /// Who it is now.
    pub identity: HostIdentity,
    /// Hash of the token it used, for the replicated log.
    pub token_hash: [u8; 32],
    /// What to send to it.
    pub reply: Vec<u8>,
}

/// Why a host was not let in. [`reply`](Self::reply) tells it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// The bytes are no request.
    #[error("enrolment request is damaged")]
    Malformed,
    /// The authority never handed the token out, or it was used.
    #[error("join token is unknown or was used already")]
    UnknownToken,
    /// The token came too late.
    #[error("join token expired at {expiry}")]
    Expired {
        /// When it was refused first.
        expiry: UnixSeconds,
    },
    /// The token is for another name or region.
    #[error("join token is for {field} `{bound}`, not `{asked}`")]
    Bound {
        /// `host` or `region`.
        field: &'static str,
        /// What the token says.
        bound: String,
        /// What the request says.
        asked: String,
    },
    /// The authority cannot sign this request.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The revocation list outgrew the reply.
    #[error("reply of {bytes} bytes exceeds {ENROL_REPLY_BYTES_MAX}")]
    ReplyTooLong {
        /// How long it would be.
        bytes: usize,
    },
}

/// Why a host did not get in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Neither the token nor the caller says how the host is called, or where it stands.
    #[error("join token leaves the {field} open, and none was given")]
    Undecided {
        /// `host name` or `region`.
        field: &'static str,
    },
    /// The token says one thing and the caller another.
    #[error("join token is for {field} `{bound}`, not `{asked}`")]
    Bound {
        /// `host name` or `region`.
        field: &'static str,
        /// What the token says.
        bound: String,
        /// What the caller says.
        asked: String,
    },
    /// The name is none.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The token is too old.
    #[error("join token expired at {expiry}, and it is {now}")]
    Expired {
        /// When it was refused first.
        expiry: UnixSeconds,
        /// What the clock says.
        now: UnixSeconds,
    },
    /// The directory holds the certificate of another authority, or a key of this name.
    #[error("`{path}` exists and would be overwritten", path = path.display())]
    Occupied {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authority said no.
    #[error("enrolment was refused: {reason}")]
    Refused {
        /// Why, in the authority's words.
        reason: String,
    },
    /// The bytes are no reply.
    #[error("enrolment reply is damaged")]
    Malformed,
    /// The reply is of another authority than the token.
    #[error("enrolment reply is signed by authority {found}, the join token names {expected}")]
    OtherAuthority {
        /// Fingerprint in the token.
        expected: Fingerprint,
        /// Fingerprint of the certificate in the reply.
        found: Fingerprint,
    },
    /// The certificate is for another key or host.
    #[error("enrolment reply holds a certificate for another host or key")]
    OtherHost,
}

impl Enrolment {
    /// Makes a key and a request. Nothing is written before [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// When the token has expired, name or region are missing or contradict it, or `dir` holds
    /// files that would be overwritten: all that can be refused before the token is spent.
    pub fn begin(
        token: &JoinToken,
        name: Option<&str>,
        region: Option<&str>,
        dir: &Path,
        now: UnixSeconds,
    ) -> Result<Self, JoinError> {
        if now >= token.expiry {
            return Err(JoinError::Expired { expiry: token.expiry, now });
        }
        let name = decide("host name", token.name.as_deref(), name)?;
        let region = decide("region", token.region.as_deref(), region)?;
        check_label("host", &name)?;
        check_label("region", &region)?;
        let layout = Layout::new(dir);
        check_vacant(&layout, &name, token.ca_fingerprint)?;

        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name.clone());
        let csr = params.serialize_request(&key).expect("parameters are complete");
        let mut request = Vec::new();
        for field in [&token.secret[..], name.as_bytes(), region.as_bytes(), csr.der()] {
            fields::put(&mut request, field);
        }
        Ok(Self { layout, authority: token.ca_fingerprint, name, region, key, request })
    }

    /// What to send. Holds the token's secret: send it to the pinned authority and nowhere else.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Checks the reply and writes certificate, key, authority and revocation list.
    ///
    /// # Errors
    ///
    /// When the authority refused, or the reply is not what was asked for; nothing is written then.
    /// When a file cannot be written, the token is spent all the same.
    pub fn finish(self, reply: &[u8]) -> Result<HostIdentity, JoinError> {
        let texts: [&[u8]; 3] = match reply.split_first() {
            Some((&GRANTED, inside)) => fields::split(inside).ok_or(JoinError::Malformed)?,
            Some((&REFUSED, reason)) => {
                let reason = String::from_utf8_lossy(reason).escape_debug().to_string();
                return Err(JoinError::Refused { reason });
            }
            _ => return Err(JoinError::Malformed),
        };
        let [certificate, ca] = [texts[0], texts[1]].map(CertificateDer::from_pem_slice);
        let (Ok(certificate), Ok(ca)) = (certificate, ca) else {
            return Err(JoinError::Malformed);
        };
        let list = CertificateRevocationListDer::from_pem_slice(texts[2]);
        list.map_err(|_| JoinError::Malformed)?;
        let (expected, found) = (self.authority, Fingerprint::of(&ca));
        if found != expected {
            return Err(JoinError::OtherAuthority { expected, found });
        }
        let identity = HostIdentity::from_certificate(&certificate)?;
        let asked = identity.name == self.name && identity.region == self.region;
        if !asked || !has_public_key(&certificate, &self.key) {
            return Err(JoinError::OtherHost);
        }
        self.write(texts.map(String::from_utf8_lossy))?;
        Ok(identity)
    }

    fn write(&self, [certificate, ca, list]: [Cow<'_, str>; 3]) -> Result<(), FileError> {
        let layout = &self.layout;
        files::create_dir(layout.dir())?;
        files::write_private(&layout.key(&self.name), &self.key.serialize_pem())?;
        files::write_public(&layout.ca_certificate(), &ca)?;
        files::write_public(&layout.ca_crl(), &list)?;
        files::write_public(&layout.certificate(&self.name), &certificate)
    }
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("name", &self.name)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Answers the request of a joining host: checks its token, uses the token up, signs the key.
    ///
    /// Of several requests with one token, at most one is answered with a certificate, even when
    /// they reach different processes that share the directory.
    ///
    /// # Errors
    ///
    /// When the request is refused; a request that could never be granted leaves the token alone.
    pub fn enrol(&self, request: &[u8], now: UnixSeconds) -> Result<Enrolled, EnrolError> {
        if request.len() > ENROL_REQUEST_BYTES_MAX {
            return Err(EnrolError::Malformed);
        }
        let [secret, name, region, csr] = fields::split(request).ok_or(EnrolError::Malformed)?;
        let text = |field| std::str::from_utf8(field).map_err(|_| EnrolError::Malformed);
        let (name, region) = (text(name)?, text(region)?);
        let token_hash = hash_secret(secret);
        self.check_token(token_hash, name, region, now)?;
        let identity = self.free_identity(name, region, now)?;
        let csr = read_request(csr)?;
        let ca = files::read_text(&self.layout().ca_certificate()).map_err(AuthorityError::from)?;
        let list = files::read_text(&self.layout().ca_crl()).map_err(AuthorityError::from)?;
        if !tokens::take(self.layout(), token_hash).map_err(AuthorityError::from)? {
            return Err(EnrolError::UnknownToken);
        }
        let (certificate, _) = self.sign(&identity, &csr.public_key, now)?;
        let mut reply = vec![GRANTED];
        for text in [certificate.pem(), ca, list] {
            fields::put(&mut reply, text.as_bytes());
        }
        if reply.len() > ENROL_REPLY_BYTES_MAX {
            return Err(EnrolError::ReplyTooLong { bytes: reply.len() });
        }
        Ok(Enrolled { identity, token_hash, reply })
    }

    fn check_token(
        &self,
        hash: [u8; 32],
        name: &str,
        region: &str,
        now: UnixSeconds,
    ) -> Result<(), EnrolError> {
        let token = tokens::find(self.layout(), hash).map_err(AuthorityError::from)?;
        let token = token.ok_or(EnrolError::UnknownToken)?;
        if now >= token.expiry {
            return Err(EnrolError::Expired { expiry: token.expiry });
        }
        for (field, bound, asked) in [("host", token.name, name), ("region", token.region, region)]
        {
            if let Some(bound) = bound.filter(|bound| bound != asked) {
                return Err(EnrolError::Bound { field, bound, asked: asked.into() });
            }
        }
        Ok(())
    }
}

impl EnrolError {
    /// Encodes the refusal for the joining host. What is wrong on this side stays on this side.
    pub fn reply(&self) -> Vec<u8> {
        let reason = match self {
            Self::Authority(AuthorityError::NameTaken { .. } | AuthorityError::Identity(_))
            | Self::Authority(AuthorityError::Request { .. })
            | Self::Malformed
            | Self::UnknownToken
            | Self::Expired { .. }
            | Self::Bound { .. } => self.to_string(),
            Self::Authority(_) | Self::ReplyTooLong { .. } => {
                "the authority cannot sign now; its log says why".to_owned()
            }
        };
        [&[REFUSED], reason.as_bytes()].concat()
    }
}

/// Picks what the token demands, or else what the caller wants.
fn decide(
    field: &'static str,
    bound: Option<&str>,
    asked: Option<&str>,
) -> Result<String, JoinError> {
    match (bound, asked) {
        (Some(bound), Some(asked)) if bound != asked => {
            Err(JoinError::Bound { field, bound: bound.into(), asked: asked.into() })
        }
        (Some(decided), _) | (None, Some(decided)) => Ok(decided.into()),
        (None, None) => Err(JoinError::Undecided { field }),
    }
}

fn check_vacant(layout: &Layout, name: &str, authority: Fingerprint) -> Result<(), JoinError> {
    let key = layout.key(name);
    if key.exists() {
        return Err(JoinError::Occupied { path: key });
    }
    let path = layout.ca_certificate();
    match files::read_pem::<CertificateDer<'_>>(&path, "certificate") {
        Ok(ca) if Fingerprint::of(&ca) == authority => Ok(()),
        Ok(_) => Err(JoinError::Occupied { path }),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
