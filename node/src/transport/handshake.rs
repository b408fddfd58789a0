//! How a connection becomes a link: certificates, then greetings both ways.
//!
//! ```text
//! dialler                               acceptor
//!   TLS 1.3, both certificates  <──────>  TLS 1.3, both certificates
//!   control stream: Hello       ───────>  certificate = Hello? model? duplicate?
//!   certificate = HelloAck? …   <───────  HelloAck
//!   up                                    up
//! ```
//!
//! That both belong to one cluster is part of TLS: the verifiers of `thalweg-certs` see to it.
//! In TLS 1.3 a client whose certificate was refused still believes itself connected for a round
//! trip; it never sees a HelloAck, so it is never up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, SendStream};
use rustls_pki_types::CertificateDer;
use thalweg_certs::{ALPN_ENROL, HostIdentity, dns_name};
use thalweg_wire::{Class, Frame, Hello, HostId, Message};
use tokio::net::lookup_host;

use super::error::LinkError;
use super::framing::{Packet, read_greeting};
use super::link::{Control, Link};
use super::outgoing::control_packet;
use super::peers::{Side, Target};
use super::shared::Shared;
use super::{Peer, enrol};

/// Time a handshake may take, from the first packet to the last greeting.
pub(super) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// Dials a host and runs the link once it is up.
pub(super) async fn dial(shared: &Arc<Shared>, target: &Target) -> Result<(), LinkError> {
    let connection = within_limit(connect(shared, target)).await?;
    let greeted = async {
        let identity = identify(shared, &connection)?;
        check_name(&target.name, &identity)?;
        shared.peers.claim(HostId::of(&identity.name))?;
        let host = HostId::of(&identity.name);
        let greeted = within_limit(greet(shared, &connection, identity)).await;
        greeted.inspect_err(|_| shared.peers.give_up(host))
    };
    let installed = match greeted.await {
        Ok(ready) => shared.install(ready, Side::Dialled),
        Err(error) => Err(error),
    };
    installed.inspect_err(|error| refuse(&connection, error))
}

/// Takes in a connection and runs the link once it is up.
pub(super) async fn accept(shared: &Arc<Shared>, incoming: Incoming) -> Result<(), LinkError> {
    let connection = within_limit(async { Ok(incoming.await?) }).await?;
    if protocol(&connection).as_deref() == Some(ALPN_ENROL) {
        let served = within_limit(enrol::serve(&connection, shared.enrol.as_ref())).await;
        return served.inspect_err(|error| refuse(&connection, error));
    }
    let ready = within_limit(answer(shared, &connection)).await;
    let installed = ready.and_then(|ready| shared.install(ready, Side::Accepted));
    installed.inspect_err(|error| refuse(&connection, error))
}

async fn within_limit<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    let late = |_| LinkError::TimedOut { after: HANDSHAKE_TIME_MAX };
    tokio::time::timeout(HANDSHAKE_TIME_MAX, work).await.map_err(late)?
}

async fn connect(shared: &Shared, target: &Target) -> Result<Connection, LinkError> {
    let server = dns_name(&target.name);
    let mut failure = None;
    for address in resolve(&target.address).await? {
        let connecting = shared
            .endpoint
            .connect(address, &server)
            .map_err(|source| LinkError::Undiallable { address: target.address.clone(), source });
        match connecting {
            Ok(connecting) => match connecting.await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = Some(error.into()),
            },
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.expect("resolving fails where there is no address"))
}

/// Resolves `host:port` to at least one address.
pub(super) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, LinkError> {
    let unresolved = |source| LinkError::Unresolved { address: address.to_owned(), source };
    let found: Vec<_> = lookup_host(address).await.map_err(unresolved)?.collect();
    if found.is_empty() {
        return Err(unresolved(std::io::ErrorKind::NotFound.into()));
    }
    Ok(found)
}

async fn greet(
    shared: &Shared,
    connection: &Connection,
    identity: HostIdentity,
) -> Result<(Arc<Link>, Control), LinkError> {
    let (mut send, mut recv) = connection.open_bi().await?;
    prioritise(&send)?;
    let hello = Frame::bare(Message::Hello(shared.hello.clone()));
    Packet::new(hello)?.write(&mut send).await?;
    let hello = match read_greeting(&mut recv).await? {
        Message::HelloAck(hello) => hello,
        other => {
            return Err(LinkError::Unexpected { found: other.kind(), expected: "HelloAck" });
        }
    };
    let peer = check_hello(shared, identity, hello)?;
    Ok((Link::new(peer, connection.clone()), (send, recv)))
}

async fn answer(
    shared: &Shared,
    connection: &Connection,
) -> Result<(Arc<Link>, Control), LinkError> {
    let identity = identify(shared, connection)?;
    let (send, mut recv) = connection.accept_bi().await?;
    prioritise(&send)?;
    let hello = match read_greeting(&mut recv).await? {
        Message::Hello(hello) => hello,
        other => return Err(LinkError::Unexpected { found: other.kind(), expected: "Hello" }),
    };
    let peer = check_hello(shared, identity, hello)?;
    let link = Link::new(peer, connection.clone());
    // First in the control lane, so that whatever is sent on the link follows it.
    link.push_greeting(control_packet(Message::HelloAck(shared.hello.clone())));
    Ok((link, (send, recv)))
}

fn prioritise(control: &SendStream) -> Result<(), LinkError> {
    control.set_priority(Class::Control.priority()).map_err(|_| LinkError::Cancelled)
}

/// Reads who is at the other end out of its certificate.
fn identify(shared: &Shared, connection: &Connection) -> Result<HostIdentity, LinkError> {
    let shown = connection.peer_identity().ok_or(LinkError::NoCertificate)?;
    let chain = shown.downcast::<Vec<CertificateDer<'static>>>();
    let chain = chain.expect("rustls sessions identify peers by certificates");
    let leaf = chain.first().ok_or(LinkError::NoCertificate)?;
    let identity = HostIdentity::from_certificate(leaf).map_err(LinkError::Certificate)?;
    if HostId::of(&identity.name) == shared.hello.host {
        return Err(LinkError::OwnName);
    }
    Ok(identity)
}

fn check_name(claimed: &str, identity: &HostIdentity) -> Result<(), LinkError> {
    if claimed == identity.name {
        return Ok(());
    }
    Err(LinkError::Identity { claimed: claimed.to_owned(), certified: identity.name.clone() })
}

fn check_hello(shared: &Shared, identity: HostIdentity, hello: Hello) -> Result<Peer, LinkError> {
    check_name(&hello.name, &identity)?;
    let HostIdentity { name, region, .. } = identity;
    if hello.host != HostId::of(&name) {
        return Err(LinkError::Identity { claimed: hello.host.to_string(), certified: name });
    }
    if hello.model != shared.hello.model {
        return Err(LinkError::Model { found: hello.model, own: shared.hello.model });
    }
    let Hello { host, incarnation, address, .. } = hello;
    Ok(Peer { host, name, region, incarnation, address })
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    data.protocol
}

/// Tells the peer why there will be no link.
fn refuse(connection: &Connection, error: &LinkError) {
    connection.close(error.code(), error.text().as_bytes());
}
