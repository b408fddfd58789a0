use std::fs;

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_795_420_805);
const YEAR: Duration = HOST_LIFETIME;

fn authority() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().expect("the system has a temporary directory");
    let authority = Authority::create(&dir.path().join("certs"), "river", NOW).expect("new");
    (dir, authority)
}

fn request() -> Vec<u8> {
    let key = KeyPair::generate().expect("ring makes keys");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri("spiffe://river/region/eu/node/king")];
    params.serialize_request(&key).expect("parameters are complete").der().to_vec()
}

#[test]
fn second_authority_in_a_directory_is_refused() {
    let (_dir, authority) = authority();
    let before = fs::read(authority.layout.ca_key()).expect("created");
    let again = Authority::create(authority.layout.dir(), "river", NOW);
    let path = authority.layout.ca_key();
    assert!(matches!(again, Err(AuthorityError::Exists { path: found }) if found == path));
    assert_eq!(fs::read(authority.layout.ca_key()).expect("created"), before);
}

#[test]
fn opened_authority_is_the_created_one() {
    let (_dir, authority) = authority();
    let opened = Authority::open(authority.layout.dir()).expect("just created");
    assert_eq!(opened.cluster(), "river");
    assert_eq!(opened.fingerprint(), authority.fingerprint());
}

#[test]
fn key_of_another_authority_is_refused() {
    let (_dir, one) = authority();
    let (_other_dir, other) = authority();
    fs::copy(other.layout.ca_key(), one.layout.ca_key()).expect("writable");
    let opened = Authority::open(one.layout.dir());
    assert!(matches!(opened, Err(AuthorityError::WrongKey { .. })), "{opened:?}");
}

#[test]
fn host_certificate_is_no_authority() {
    let (_dir, authority) = authority();
    let issued = authority.issue("h1", "eu", NOW).expect("free name");
    fs::copy(&issued.certificate, authority.layout.ca_certificate()).expect("writable");
    let opened = Authority::open(authority.layout.dir());
    assert!(matches!(opened, Err(AuthorityError::NotAnAuthority { .. })), "{opened:?}");
}

#[test]
fn issued_certificate_says_who_the_host_is() {
    let (_dir, authority) = authority();
    let issued = authority.issue("h1", "eu", NOW).expect("free name");
    let certificate = files::read_pem(&issued.certificate, "certificate").expect("written");
    let identity = HostIdentity::from_certificate(&certificate).expect("issued by this crate");
    assert_eq!(identity.to_string(), "spiffe://river/region/eu/node/h1");
    assert_eq!(issued.not_after, NOW.after(YEAR));
    let (_, end) = issued::serial_and_end(&certificate).expect("readable");
    assert_eq!(end, issued.not_after);
}

#[test]
fn name_is_free_again_once_revoked_or_expired() {
    let (_dir, authority) = authority();
    authority.issue("h1", "eu", NOW).expect("free name");
    let taken = authority.issue("h1", "us", NOW).expect_err("h1 has a certificate");
    assert_eq!(
        taken.to_string(),
        "host `h1` has a certificate that is good until 2027-11-23T08:00:05Z",
    );
    assert!(authority.sign_request(&request(), "h1", "eu", NOW).is_err(), "taken for all");

    let revoked = authority.revoke("h1", NOW).expect("h1 was issued");
    assert_eq!(revoked, Revocation::Revoked { certificates: 1 });
    assert_eq!(authority.revoke("h1", NOW).expect("known"), Revocation::AlreadyRevoked);
    authority.issue("h1", "us", NOW).expect("free again");
    authority.issue("h1", "us", NOW.after(YEAR)).expect("expired");
    let revoked = authority.revoke("h1", NOW.after(YEAR)).expect("h1 was issued");
    assert_eq!(revoked, Revocation::Revoked { certificates: 2 });
}

#[test]
fn revocation_lists_only_grow() {
    let (_dir, authority) = authority();
    for name in ["h1", "h2", "h3"] {
        authority.issue(name, "eu", NOW).expect("free name");
    }
    authority.revoke("h1", NOW).expect("issued");
    authority.revoke("h3", NOW.after(Duration::from_secs(9))).expect("issued");
    let list = RevocationList::read(&authority.layout, authority.certificate()).expect("written");
    assert_eq!(list.number, 3);
    let entries = issued::read(&authority.layout).expect("written");
    let revoked: Vec<bool> = entries.iter().map(|entry| list.contains(entry.serial)).collect();
    assert_eq!(revoked, [true, false, true]);
    assert_eq!(list.revoked[1].1, NOW.after(Duration::from_secs(9)));

    let (_other_dir, other) = self::authority();
    fs::copy(other.layout.ca_crl(), authority.layout.ca_crl()).expect("writable");
    let foreign = authority.revoke("h2", NOW).expect_err("the list is not ours").to_string();
    assert!(foreign.contains("ca.crl` was not signed by"), "{foreign}");

    let unknown = authority.revoke("h4", NOW).expect_err("never issued");
    assert_eq!(unknown.to_string(), "no certificate was ever issued to a host `h4`");
}

#[test]
fn request_decides_nothing_but_the_key() {
    let (_dir, authority) = authority();
    let certificate = authority.sign_request(&request(), "h9", "us", NOW).expect("free name");
    let identity = HostIdentity::from_certificate(&certificate).expect("issued by this crate");
    assert_eq!(identity.to_string(), "spiffe://river/region/us/node/h9");
    assert!(!authority.layout.key("h9").exists(), "the key stays with the host");

    let mut forged = request();
    *forged.last_mut().expect("requests are not empty") ^= 1;
    let refused = authority.sign_request(&forged, "h8", "us", NOW);
    assert!(matches!(refused, Err(AuthorityError::Request { .. })), "{refused:?}");
    authority.issue("h8", "us", NOW).expect("a refused request leaves the name free");
}

#[test]
fn invitations_are_checked_before_they_leave() {
    let (_dir, authority) = authority();
    authority.issue("h1", "eu", NOW).expect("free name");
    let invite = |address: &str, name: Option<&str>| {
        let address = address.into();
        let name = name.map(str::to_owned);
        authority.invite(Invitation { address, region: None, name, expiry: NOW.after(YEAR) }, NOW)
    };
    for bad in ["", "h1", "h1:", ":7100", "h1:0", "h1:70000", "a b:7100", "::1:7100"] {
        let refused = invite(bad, None);
        assert!(matches!(refused, Err(AuthorityError::Address { .. })), "{bad}: {refused:?}");
    }
    for good in ["h1.example:7100", "10.0.0.1:7100", "[::1]:7100"] {
        invite(good, None).expect(good);
    }
    assert!(matches!(invite("h:1", Some("h1")), Err(AuthorityError::NameTaken { .. })));
    assert!(matches!(invite("h:1", Some("H1")), Err(AuthorityError::Identity(_))));
    assert_eq!(tokens::list(&authority.layout).expect("readable").len(), 3);
}
