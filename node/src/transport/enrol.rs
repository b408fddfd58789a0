//! Enrolment over the wire: one question and one answer, before a host has a certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes as Buffer;
use quinn::Connection;
use thalweg_certs::{ENROL_REPLY_BYTES_MAX, ENROL_REQUEST_BYTES_MAX, dns_name};
use thalweg_wire::Bytes;

use super::BoxFuture;
use super::endpoint::open_client;
use super::error::{LinkError, TransportError, peer_words};
use super::framing::{read_parcel, write_parcel};
use super::handshake::{HANDSHAKE_TIME_MAX, resolve};

/// Answers a joining host's request with a certificate, or refuses it in words.
pub type EnrolHandler = Arc<dyn Fn(Buffer) -> BoxFuture<Result<Buffer, String>> + Send + Sync>;

/// Tags of the parcels.
const REQUEST: u8 = 0;
const GRANTED: u8 = 0;
const REFUSED: u8 = 1;

/// Why a host could not enrol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolCallError {
    /// No socket.
    #[error("no endpoint for enrolment")]
    Endpoint(#[from] TransportError),
    /// The host with the authority cannot be reached, or is not the one the token names.
    #[error("cannot enrol at {address}: {reason}")]
    Link {
        /// Where it was looked for.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// It answered no.
    #[error("enrolment refused: {message}")]
    Refused {
        /// In its own words.
        message: String,
    },
}

/// Sends `request` to the enrolment service at `address` (`host:port`) and returns its reply. `tls`
/// pins the authority (see [`thalweg_certs::enrol_client_config`]).
///
/// # Errors
///
/// If the service cannot be reached, is not what `tls` demands, or refuses.
pub async fn enrol(
    address: &str,
    tls: rustls::ClientConfig,
    request: Buffer,
) -> Result<Buffer, EnrolCallError> {
    let lost =
        |error: LinkError| EnrolCallError::Link { address: address.into(), reason: error.text() };
    let resolved = resolve(address).await.map_err(lost)?[0];
    let any: SocketAddr = match resolved {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let endpoint = open_client(any, tls)?;
    let asked = ask(&endpoint, address, resolved, request);
    let asked = tokio::time::timeout(2 * HANDSHAKE_TIME_MAX, asked).await;
    endpoint.close(0_u32.into(), b"done");
    let late = |_| LinkError::TimedOut { after: 2 * HANDSHAKE_TIME_MAX };
    let (tag, body) = asked.map_err(late).flatten().map_err(lost)?;
    // Leave the service time to see the end; it stops waiting by itself otherwise.
    let _idle_or_not = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    if tag == GRANTED {
        return Ok(body);
    }
    Err(EnrolCallError::Refused { message: peer_words(&body) })
}

async fn ask(
    endpoint: &quinn::Endpoint,
    address: &str,
    resolved: SocketAddr,
    request: Buffer,
) -> Result<(u8, Buffer), LinkError> {
    let connecting = endpoint.connect(resolved, &dns_name("enrol"));
    let undiallable = |source| LinkError::Undiallable { address: address.into(), source };
    let connection = connecting.map_err(undiallable)?.await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    write_parcel(&mut send, REQUEST, request).await?;
    read_parcel(&mut recv, |_| Ok(Bytes(ENROL_REPLY_BYTES_MAX as u64))).await
}

/// Serves one request of a host without certificate, and closes the connection.
pub(super) async fn serve(
    connection: &Connection,
    handler: Option<&EnrolHandler>,
) -> Result<(), LinkError> {
    let handler = handler.ok_or(LinkError::NoCertificate)?;
    let (mut send, mut recv) = connection.accept_bi().await?;
    let limit = |_| Ok(Bytes(ENROL_REQUEST_BYTES_MAX as u64));
    let (_, request) = read_parcel(&mut recv, limit).await?;
    let (tag, reply) = match handler(request).await {
        Ok(reply) => (GRANTED, reply),
        Err(words) => (REFUSED, words.into()),
    };
    write_parcel(&mut send, tag, reply).await?;
    connection.closed().await;
    Ok(())
}
