//! The signed list of certificates that must not be accepted any more.

use std::time::Duration;

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::files::{self, FileError, Layout};
use crate::issued::Serial;
use crate::moment::UnixSeconds;

/// How long a list counts. As long as the authority itself: a list that lapses stops the whole
/// cluster, and an authority that must sign every month cannot be kept offline.
const LIST_LIFETIME: Duration = crate::authority::AUTHORITY_LIFETIME;

/// The list, as data.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct RevocationList {
    /// Grows by one with each list signed.
    pub(crate) number: u64,
    /// Who was revoked, and when.
    pub(crate) revoked: Vec<(Serial, UnixSeconds)>,
}

impl RevocationList {
    /// Reads the list of a directory, which `authority` must have signed.
    pub(crate) fn read(layout: &Layout, authority: &CertificateDer<'_>) -> Result<Self, FileError> {
        Ok(Self::read_signed(layout, authority)?.0)
    }

    /// Reads the list of a directory, and returns its bytes as well.
    pub(crate) fn read_signed(
        layout: &Layout,
        authority: &CertificateDer<'_>,
    ) -> Result<(Self, CertificateRevocationListDer<'static>), FileError> {
        let path = layout.ca_crl();
        let der: CertificateRevocationListDer<'static> = files::read_pem(&path, "revocation list")?;
        let damaged = || FileError::damaged(&path, "not a revocation list");
        let (_, list) = x509_parser::parse_x509_crl(&der).map_err(|_| damaged())?;
        let signed = x509_parser::parse_x509_certificate(authority)
            .is_ok_and(|(_, authority)| list.verify_signature(authority.public_key()).is_ok());
        if !signed {
            return Err(FileError::OtherAuthority { path, authority: layout.ca_certificate() });
        }
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
        let revoked = list.iter_revoked_certificates().filter_map(|entry| {
            let at = UnixSeconds::from_timestamp(entry.revocation_date.timestamp());
            Serial::from_raw(entry.raw_serial()).map(|serial| (serial, at))
        });
        let parsed = Self { number: number.ok_or_else(damaged)?, revoked: revoked.collect() };
        Ok((parsed, der))
    }

    /// Tells whether the certificate with this number was revoked.
    pub(crate) fn contains(&self, serial: Serial) -> bool {
        self.revoked.iter().any(|&(revoked, _)| revoked == serial)
    }

    /// Signs the list and puts it into place of the old one.
    pub(crate) fn write(
        &self,
        layout: &Layout,
        issuer: &Issuer<'_, KeyPair>,
        now: UnixSeconds,
    ) -> Result<(), FileError> {
        let entry = |&(serial, at): &(Serial, UnixSeconds)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial.0),
            revocation_time: at.date(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.before(crate::authority::CLOCK_SKEW_MAX).date(),
            next_update: now.after(LIST_LIFETIME).date(),
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: None,
            revoked_certs: self.revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(issuer).expect("the authority may sign lists");
        let pem = list.pem().expect("a signed list encodes");
        files::write_public(&layout.ca_crl(), &pem)
    }
}
