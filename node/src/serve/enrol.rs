//! Lets hosts with a join token in: signs their request, remembers that the token was used.

use std::path::Path;
use std::sync::Arc;

use thalweg_certs::{Authority, EnrolError, Enrolled, UnixSeconds};
use thalweg_wire::Command;

use super::runtime::Seat;
use crate::cli::advice::Advice;
use crate::journal::wall_clock_us;
use crate::transport::EnrolHandler;

/// Opens the authority in `dir`, if this host has one, and returns what answers joining hosts.
pub(super) fn service(dir: Option<&Path>, seat: &Seat) -> Result<Option<EnrolHandler>, Advice> {
    let Some(dir) = dir else { return Ok(None) };
    let authority = Authority::open(dir).map_err(|source| {
        Advice::new(format!("cannot use the authority in `{}`", dir.display()), source)
            .hint("`thalweg certs init` makes one.")
    })?;
    let (authority, seat) = (Arc::new(authority), Arc::clone(seat));
    let handler: EnrolHandler = Arc::new(move |request| {
        let (authority, seat) = (Arc::clone(&authority), Arc::clone(&seat));
        Box::pin(async move {
            let signed = move || authority.enrol(&request, now());
            let enrolled = match tokio::task::spawn_blocking(signed).await {
                Ok(Ok(enrolled)) => enrolled,
                Ok(Err(error)) => return Ok(refuse(&error).into()),
                Err(_) => return Err("this host stops".to_owned()),
            };
            admit(&seat, enrolled).await
        })
    });
    Ok(Some(handler))
}

/// Has the cluster remember the token, then lets the host in.
async fn admit(seat: &Seat, enrolled: Enrolled) -> Result<bytes::Bytes, String> {
    let consensus = seat.get().ok_or("this host is starting")?;
    let used = Command::UseToken { token: enrolled.token_hash };
    consensus.propose(used).await.map_err(|error| error.to_string())?;
    let identity = &enrolled.identity;
    tracing::info!(name = identity.name, region = identity.region, "host enrolled");
    Ok(enrolled.reply.into())
}

fn refuse(error: &EnrolError) -> Vec<u8> {
    tracing::warn!(%error, "enrolment refused");
    error.reply()
}

/// Returns the time certificates are checked against.
pub(crate) fn now() -> UnixSeconds {
    UnixSeconds(wall_clock_us() / 1_000_000)
}
