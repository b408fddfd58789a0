//! Who belongs to a cluster: its authority, its hosts' certificates, revocation and enrolment.
//!
//! ```text
//! DIR/ca.crt  ca.key  ca.crl  ca.issued      Authority   signs, revokes, hands out join tokens
//! DIR/tokens/<hash>                                      one file per outstanding token
//! DIR/node-<name>.crt  node-<name>.key       Credentials what a host shows and demands
//!
//!   operator                 joining host                       host that holds ca.key
//!   JoinToken  ── by hand ──> Enrolment::begin
//!                             request  ── TLS, CA pinned ─────> Authority::enrol
//!                             Enrolment::finish  <── reply ──── certificate, CA, revocation list
//! ```
//!
//! A host is its certificate: the URI name `spiffe://CLUSTER/region/REGION/node/NAME` says who it
//! is, and both ends of every connection check it, the cluster in it, and the revocation list
//! during the handshake. Sessions are never resumed, because a resumed session skips those checks.
//!
//! Nothing here opens a socket, and nothing but the TLS verifiers reads the clock: whoever calls
//! says what time it is.

mod authority;
mod credentials;
mod enrolment;
mod fields;
mod files;
mod fingerprint;
mod identity;
mod inventory;
mod issued;
mod moment;
mod revocation;
mod token;
mod tokens;
mod verifier;

pub use authority::{Authority, AuthorityError, Invitation, Issued, Revocation};
pub use credentials::{Credentials, CredentialsError, enrol_client_config};
pub use enrolment::{
    ENROL_REPLY_BYTES_MAX, ENROL_REQUEST_BYTES_MAX, EnrolError, Enrolled, Enrolment, JoinError,
};
pub use files::{FileError, Layout};
pub use fingerprint::Fingerprint;
pub use identity::{HostIdentity, IdentityError, dns_name};
pub use inventory::{HostEntry, HostState, Inventory};
pub use moment::UnixSeconds;
pub use token::{JoinToken, TokenError};
pub use tokens::Outstanding;

/// Application protocol of connections between hosts: both ends show a certificate.
pub const ALPN_DATA: &[u8] = b"thalweg/1";

/// Application protocol of enrolment: the client has no certificate yet and pins the authority's.
pub const ALPN_ENROL: &[u8] = b"thalweg-enrol/1";
