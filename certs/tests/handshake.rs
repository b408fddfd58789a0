//! Real TLS handshakes between hosts, in memory: who gets through, and who does not.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use thalweg_certs::{
    ALPN_DATA, ALPN_ENROL, Authority, Credentials, CredentialsError, Enrolment, HostIdentity,
    Invitation, UnixSeconds, dns_name, enrol_client_config,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Flights a TLS 1.3 handshake takes at most, with room to spare.
const FLIGHTS_MAX: usize = 10;

/// The verifiers read the clock, so these tests do as well.
fn now() -> UnixSeconds {
    SystemTime::now().into()
}

/// A cluster's directory, with hosts `h1` and `h2` in it.
struct Cluster {
    root: tempfile::TempDir,
    authority: Authority,
}

impl Cluster {
    fn new(name: &str) -> Self {
        let root = tempfile::tempdir().expect("the system has a temporary directory");
        let authority = Authority::create(&root.path().join("ca"), name, now()).expect("new");
        for host in ["h1", "h2"] {
            authority.issue(host, "eu", now()).expect("free name");
        }
        Self { root, authority }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("ca")
    }

    fn credentials(&self, host: &str) -> Credentials {
        Credentials::load(&self.dir(), host).expect("issued before")
    }
}

/// What both ends knew after a handshake that worked.
#[derive(Debug)]
struct Connected {
    seen_by_client: HostIdentity,
    seen_by_server: Option<HostIdentity>,
    protocol: Vec<u8>,
}

/// Runs a handshake until both ends are through, or returns what the end that refused it says.
fn handshake(
    mut client: ClientConfig,
    mut server: ServerConfig,
    dialled: &str,
    protocol: &[u8],
) -> Result<Connected, String> {
    client.alpn_protocols = vec![protocol.to_vec()];
    server.alpn_protocols = vec![ALPN_DATA.to_vec(), ALPN_ENROL.to_vec()];
    let name = ServerName::try_from(dns_name(dialled)).expect("host names are DNS labels");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("a good name");
    let mut server = ServerConnection::new(Arc::new(server)).expect("a good configuration");
    for _ in 0..FLIGHTS_MAX {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("memory takes any bytes");
        }
        server.read_tls(&mut &flight[..]).expect("a flight fits the buffer");
        server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).expect("memory takes any bytes");
        }
        client.read_tls(&mut &flight[..]).expect("a flight fits the buffer");
        client.process_new_packets().map_err(|error| format!("client: {error}"))?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking(), "the handshake never ended");
    let identity = |shown: Option<&[CertificateDer<'_>]>| {
        shown.map(|chain| HostIdentity::from_certificate(&chain[0]).expect("it was verified"))
    };
    Ok(Connected {
        seen_by_client: identity(client.peer_certificates()).expect("servers show certificates"),
        seen_by_server: identity(server.peer_certificates()),
        protocol: server.alpn_protocol().unwrap_or_default().to_vec(),
    })
}

fn meet(client: &Credentials, server: &Credentials) -> Result<Connected, String> {
    let dialled = &server.identity().name;
    handshake(client.client_config(), server.server_config(), dialled, ALPN_DATA)
}

fn assert_refused(result: Result<Connected, String>, by: &str, because: &str) {
    let error = result.expect_err("nobody should get through");
    assert!(error.starts_with(by) && error.contains(because), "{error}");
}

#[test]
fn hosts_of_a_cluster_know_each_other() {
    let cluster = Cluster::new("river");
    let (h1, h2) = (cluster.credentials("h1"), cluster.credentials("h2"));
    for server in [h2.server_config(), h2.enrol_server_config()] {
        let connected = handshake(h1.client_config(), server, "h2", ALPN_DATA).expect("friends");
        assert_eq!(&connected.seen_by_client, h2.identity());
        assert_eq!(connected.seen_by_server.as_ref(), Some(h1.identity()));
        assert_eq!(connected.protocol, ALPN_DATA);
    }
}

#[test]
fn host_at_the_wrong_address_is_refused() {
    let cluster = Cluster::new("river");
    let (h1, h2) = (cluster.credentials("h1"), cluster.credentials("h2"));
    let met = handshake(h1.client_config(), h2.server_config(), "h3", ALPN_DATA);
    assert_refused(met, "client", "h3.thalweg");
}

#[test]
fn client_without_certificate_is_refused() {
    let cluster = Cluster::new("river");
    let h2 = cluster.credentials("h2");
    let stranger = enrol_client_config(cluster.authority.fingerprint());
    let met = handshake(stranger, h2.server_config(), "h2", ALPN_DATA);
    assert_refused(met, "server", "peer sent no certificates");
}

#[test]
fn hosts_of_another_authority_are_refused_by_both_ends() {
    let cluster = Cluster::new("river");
    let h1 = cluster.credentials("h1");
    for (name, because) in [("river", "BadSignature"), ("lake", "UnknownIssuer")] {
        let other = Cluster::new(name);
        let theirs = other.credentials("h2");
        assert_refused(meet(&h1, &theirs), "client", because);
        // A client that trusts our authority and shows a certificate of theirs.
        for server in [h1.server_config(), h1.enrol_server_config()] {
            let mut client = h1.client_config();
            client.client_auth_cert_resolver = theirs.client_config().client_auth_cert_resolver;
            assert_refused(handshake(client, server, "h1", ALPN_DATA), "server", because);
        }
    }
}

#[test]
fn revoked_host_is_refused_by_both_ends() {
    let cluster = Cluster::new("river");
    let revoked = cluster.credentials("h2");
    revoked.check(now()).expect("not yet revoked");
    cluster.authority.revoke("h2", now()).expect("issued");
    let h1 = cluster.credentials("h1");
    assert_refused(meet(&h1, &revoked), "client", "Revoked");
    assert_refused(meet(&revoked, &h1), "server", "Revoked");
    let met = handshake(revoked.client_config(), h1.enrol_server_config(), "h1", ALPN_DATA);
    assert_refused(met, "server", "Revoked");
    let own = cluster.credentials("h2").check(now()).expect_err("its own list names it");
    assert_eq!(own.to_string(), "certificate of `h2` was revoked");
}

#[test]
fn new_certificate_after_a_revocation_is_good() {
    let cluster = Cluster::new("river");
    cluster.authority.revoke("h2", now()).expect("issued");
    cluster.authority.issue("h2", "us", now()).expect("free again");
    let connected = meet(&cluster.credentials("h2"), &cluster.credentials("h1"));
    let seen = connected.expect("friends").seen_by_server.expect("a certificate was demanded");
    assert_eq!(seen.region, "us");
}

#[test]
fn host_of_another_cluster_under_one_authority_is_refused_by_both_ends() {
    let cluster = Cluster::new("river");
    let forged = forge(&cluster, "spiffe://lake/region/eu/node/h2");
    let h1 = cluster.credentials("h1");
    let because = "host belongs to cluster `lake`, not to `river`";
    let mut client = h1.client_config();
    client.client_auth_cert_resolver = forged.clone();
    assert_refused(handshake(client, h1.server_config(), "h1", ALPN_DATA), "server", because);
    let mut server = h1.server_config();
    server.cert_resolver = forged;
    assert_refused(handshake(h1.client_config(), server, "h2", ALPN_DATA), "client", because);
}

#[test]
fn certificate_that_names_no_host_is_refused() {
    let cluster = Cluster::new("river");
    let forged = forge(&cluster, "https://river/h2");
    let h1 = cluster.credentials("h1");
    let mut client = h1.client_config();
    client.client_auth_cert_resolver = forged;
    let met = handshake(client, h1.server_config(), "h1", ALPN_DATA);
    assert_refused(met, "server", "which is not spiffe://");
}

#[test]
fn certificate_out_of_its_time_is_refused() {
    let cluster = Cluster::new("river");
    let long_ago = now().before(DAY * 400);
    cluster.authority.issue("old", "eu", long_ago).expect("free name");
    cluster.authority.issue("new", "eu", now().after(DAY)).expect("free name");
    let h1 = cluster.credentials("h1");
    let (old, new) = (cluster.credentials("old"), cluster.credentials("new"));
    assert_refused(meet(&old, &h1), "server", "expired");
    assert_refused(meet(&h1, &old), "client", "expired");
    assert_refused(meet(&new, &h1), "server", "not valid yet");
    assert!(matches!(old.check(now()), Err(CredentialsError::Expired { .. })));
    assert!(matches!(new.check(now()), Err(CredentialsError::NotYetValid { .. })));
    old.check(long_ago).expect("it was good then");
}

#[test]
fn sessions_are_never_resumed() {
    let cluster = Cluster::new("river");
    let (client, server) = (cluster.credentials("h1"), cluster.credentials("h2"));
    let (client, server) = (client.client_config(), server.server_config());
    handshake(client.clone(), server.clone(), "h2", ALPN_DATA).expect("friends");
    assert!(!server.session_storage.can_cache());
    assert_eq!((server.send_tls13_tickets, server.ticketer.enabled()), (0, false));
    assert_eq!(server.max_early_data_size, 0);
    handshake(client, server, "h2", ALPN_DATA).expect("friends");
}

#[test]
fn joining_host_enrols_over_its_pinned_connection_and_is_a_friend() {
    let cluster = Cluster::new("river");
    let h1 = cluster.credentials("h1");
    let token = invite(&cluster);
    let client = enrol_client_config(token.ca_fingerprint);
    let connected = handshake(client, h1.enrol_server_config(), "anybody", ALPN_ENROL);
    let connected = connected.expect("the fingerprint is right");
    assert_eq!(connected.seen_by_server, None, "it has no certificate yet");
    assert_eq!(&connected.seen_by_client, h1.identity());
    assert_eq!(connected.protocol, ALPN_ENROL);

    let dir = cluster.root.path().join("h3");
    let enrolment = Enrolment::begin(&token, Some("h3"), Some("us"), &dir, now()).expect("good");
    let enrolled = cluster.authority.enrol(enrolment.request(), now()).expect("good");
    enrolment.finish(&enrolled.reply).expect("good");
    let h3 = Credentials::load(&dir, "h3").expect("just written");
    let connected = meet(&h3, &h1).expect("friends now");
    assert_eq!(connected.seen_by_server.map(|host| host.name), Some("h3".to_owned()));
    meet(&h1, &h3).expect("and the other way round");
}

#[test]
fn joining_host_refuses_an_authority_with_another_fingerprint() {
    let (cluster, impostor) = (Cluster::new("river"), Cluster::new("lake"));
    let token = invite(&cluster);
    let client = enrol_client_config(token.ca_fingerprint);
    let server = impostor.credentials("h1").enrol_server_config();
    assert_refused(
        handshake(client, server, "h1", ALPN_ENROL),
        "client",
        &format!("host shows no authority with fingerprint {}", token.ca_fingerprint),
    );
    // Showing the right authority beside a certificate it never signed does not help.
    let path = impostor.dir().join("node-h1.crt");
    let theirs = CertificateDer::from_pem_file(path).expect("issued before");
    let key = PrivateKeyDer::from_pem_file(impostor.dir().join("node-h1.key")).expect("issued");
    let chain = vec![theirs, cluster.authority.certificate().clone()];
    let mut server = impostor.credentials("h1").enrol_server_config();
    server.cert_resolver = showing(chain, key);
    let client = enrol_client_config(token.ca_fingerprint);
    let met = handshake(client, server, "h1", ALPN_ENROL);
    assert_refused(met, "client", "UnknownIssuer");
}

#[test]
fn mixed_up_files_are_named() {
    let (cluster, other) = (Cluster::new("river"), Cluster::new("river"));
    let dir = cluster.dir();
    let swap = |from: PathBuf, name: &str| {
        let kept = fs::read(dir.join(name)).expect("created before");
        fs::copy(from, dir.join(name)).expect("both files exist");
        let refused = Credentials::load(&dir, "h1").expect_err("one file is foreign");
        fs::write(dir.join(name), kept).expect("writable");
        refused.to_string().replace(&format!("{}/", dir.display()), "")
    };
    let said = [
        swap(other.dir().join("ca.crl"), "ca.crl"),
        swap(other.dir().join("node-h1.crt"), "node-h1.crt"),
        swap(dir.join("node-h2.crt"), "node-h1.crt"),
        swap(dir.join("node-h2.key"), "node-h1.key"),
        swap(dir.join("node-h2.crt"), "ca.crt"),
    ];
    assert_eq!(
        said,
        [
            "`ca.crl` was not signed by `ca.crt`",
            "`node-h1.crt` was not signed by `ca.crt`",
            "`node-h1.crt` is the certificate of `spiffe://river/region/eu/node/h2`",
            "`node-h1.key` is not the key of `node-h1.crt`",
            "`ca.crl` was not signed by `ca.crt`",
        ],
    );
    cluster.credentials("h1");
}

/// Makes a certificate of the cluster's authority that this crate would never issue.
fn forge(cluster: &Cluster, uri: &str) -> Arc<SingleCertAndKey> {
    let key = fs::read_to_string(cluster.dir().join("ca.key")).expect("created before");
    let key = KeyPair::from_pem(&key).expect("created before");
    let issuer = Issuer::from_ca_cert_der(cluster.authority.certificate(), key).expect("readable");
    let mut params = CertificateParams::new(vec![dns_name("h2")]).expect("a DNS name");
    params.subject_alt_names.push(SanType::URI(uri.try_into().expect("URIs of tests are ASCII")));
    let key = KeyPair::generate().expect("ring makes keys");
    let certificate = params.signed_by(&key, &issuer).expect("parameters are complete");
    showing(vec![certificate.into()], key.into())
}

fn showing(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Arc<SingleCertAndKey> {
    let shown = CertifiedKey::from_der(chain, key, &ring::default_provider());
    Arc::new(SingleCertAndKey::from(shown.expect("key and certificate belong together")))
}

fn invite(cluster: &Cluster) -> thalweg_certs::JoinToken {
    let address = "127.0.0.1:7100".to_owned();
    let invitation = Invitation { address, region: None, name: None, expiry: now().after(DAY) };
    cluster.authority.invite(invitation, now()).expect("a good invitation")
}
