use std::fs;
use std::time::Duration;

use super::*;
use crate::authority::Invitation;
use crate::credentials::Credentials;

const NOW: UnixSeconds = UnixSeconds(1_795_420_805);
const HOUR: Duration = Duration::from_secs(3600);

/// An authority, and the directory of a host that wants to join.
struct Scene {
    root: tempfile::TempDir,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("the system has a temporary directory");
        let authority = Authority::create(&root.path().join("ca"), "river", NOW).expect("new");
        Self { root, authority }
    }

    fn host_dir(&self) -> PathBuf {
        self.root.path().join("host")
    }

    fn token(&self, name: Option<&str>, region: Option<&str>) -> JoinToken {
        let invitation = Invitation {
            address: "127.0.0.1:7100".into(),
            region: region.map(str::to_owned),
            name: name.map(str::to_owned),
            expiry: NOW.after(HOUR),
        };
        self.authority.invite(invitation, NOW).expect("a good invitation")
    }

    fn begin(&self, token: &JoinToken, name: &str) -> Enrolment {
        let begun = Enrolment::begin(token, Some(name), Some("eu"), &self.host_dir(), NOW);
        begun.expect("token, name and directory are good")
    }
}

#[test]
fn enrolled_host_has_credentials() {
    let scene = Scene::new();
    let token: JoinToken = scene.token(None, None).to_string().parse().expect("a word parses");
    let enrolment = scene.begin(&token, "h7");
    let enrolled = scene.authority.enrol(enrolment.request(), NOW).expect("a good request");
    assert_eq!(enrolled.token_hash, token.hash());
    assert_eq!(enrolled.identity.to_string(), "spiffe://river/region/eu/node/h7");
    let identity = enrolment.finish(&enrolled.reply).expect("a good reply");
    assert_eq!(identity, enrolled.identity);
    let credentials = Credentials::load(&scene.host_dir(), "h7").expect("files were written");
    assert_eq!(credentials.identity(), &identity);
    credentials.check(NOW).expect("the certificate is new");
    assert!(scene.authority.revoke("h7", NOW).is_ok(), "an enrolled host can be revoked");
}

#[test]
fn token_admits_once() {
    let scene = Scene::new();
    let token = scene.token(None, None);
    let (first, second) = (scene.begin(&token, "h7"), scene.begin(&token, "h8"));
    scene.authority.enrol(first.request(), NOW).expect("a good request");
    let refused = scene.authority.enrol(second.request(), NOW).expect_err("the token is used");
    assert!(matches!(refused, EnrolError::UnknownToken), "{refused}");
    let refused = second.finish(&refused.reply()).expect_err("a refusal");
    assert_eq!(
        refused.to_string(),
        "enrolment was refused: join token is unknown or was used already",
    );
    assert!(!scene.host_dir().exists(), "a refusal writes nothing");
}

#[test]
fn expired_token_is_refused_at_both_ends() {
    let scene = Scene::new();
    let token = scene.token(None, None);
    let enrolment = scene.begin(&token, "h7");
    let late = scene.authority.enrol(enrolment.request(), NOW.after(HOUR)).expect_err("late");
    assert!(matches!(late, EnrolError::Expired { expiry } if expiry == NOW.after(HOUR)), "{late}");
    let begin = |now| Enrolment::begin(&token, Some("h7"), Some("eu"), &scene.host_dir(), now);
    assert!(matches!(begin(NOW.after(HOUR)), Err(JoinError::Expired { .. })));
    assert!(begin(UnixSeconds(NOW.after(HOUR).0 - 1)).is_ok(), "the last second counts");
}

#[test]
fn token_of_another_authority_admits_nobody() {
    let (scene, other) = (Scene::new(), Scene::new());
    let enrolment = scene.begin(&other.token(None, None), "h7");
    let refused = scene.authority.enrol(enrolment.request(), NOW).expect_err("a foreign token");
    assert!(matches!(refused, EnrolError::UnknownToken), "{refused}");
    // A reply of an authority that is not in the token is refused, however good it looks.
    let good = scene.begin(&scene.token(None, None), "h7");
    let reply = scene.authority.enrol(good.request(), NOW).expect("a good request").reply;
    let refused = enrolment.finish(&reply).expect_err("another authority");
    assert!(matches!(refused, JoinError::OtherAuthority { .. }), "{refused}");
}

#[test]
fn bound_token_admits_only_whom_it_names() {
    let scene = Scene::new();
    let token = scene.token(Some("h7"), Some("us"));
    let begin = |name, region| Enrolment::begin(&token, name, region, &scene.host_dir(), NOW);
    assert!(matches!(begin(Some("h8"), None), Err(JoinError::Bound { field: "host name", .. })));
    assert!(matches!(begin(None, Some("eu")), Err(JoinError::Bound { field: "region", .. })));
    // A host that lies to itself about the token is caught by the authority.
    let lie = JoinToken { name: None, region: None, ..token.clone() };
    let refused = scene.authority.enrol(scene.begin(&lie, "h7").request(), NOW);
    let refused = refused.expect_err("region eu is not us").to_string();
    assert_eq!(refused, "join token is for region `us`, not `eu`");
    // A refused request leaves the token alone.
    let enrolment = begin(None, None).expect("the token says it all");
    scene.authority.enrol(enrolment.request(), NOW).expect("as the token says");

    let open = scene.token(None, None);
    let undecided = Enrolment::begin(&open, Some("h8"), None, &scene.host_dir(), NOW);
    assert!(matches!(undecided, Err(JoinError::Undecided { field: "region" })));
}

#[test]
fn taken_name_is_refused_and_the_token_stays() {
    let scene = Scene::new();
    scene.authority.issue("h1", "eu", NOW).expect("free name");
    let token = scene.token(None, None);
    let refused = scene.authority.enrol(scene.begin(&token, "h1").request(), NOW);
    let reply = refused.expect_err("h1 is taken").reply();
    let told = String::from_utf8_lossy(&reply[1..]).into_owned();
    assert!(told.starts_with("host `h1` has a certificate"), "{told}");
    scene.authority.enrol(scene.begin(&token, "h2").request(), NOW).expect("h2 is free");
}

#[test]
fn directory_of_another_cluster_is_left_alone() {
    let (scene, other) = (Scene::new(), Scene::new());
    let token = scene.token(None, None);
    let begin = |dir: &Path, name| Enrolment::begin(&token, Some(name), Some("eu"), dir, NOW);
    let refused = begin(other.authority.layout().dir(), "h7");
    assert!(matches!(refused, Err(JoinError::Occupied { .. })), "{refused:?}");
    let issued = scene.authority.issue("h1", "eu", NOW).expect("free name");
    let refused = begin(scene.authority.layout().dir(), "h1");
    assert!(matches!(refused, Err(JoinError::Occupied { path }) if path == issued.key));
}

#[test]
fn damaged_messages_are_refused() {
    let scene = Scene::new();
    let token = scene.token(None, None);
    let enrolment = scene.begin(&token, "h7");
    let request = enrolment.request().to_vec();
    for cut in [0, 3, request.len() - 1] {
        let refused = scene.authority.enrol(&request[..cut], NOW);
        assert!(matches!(refused, Err(EnrolError::Malformed)), "{cut}: {refused:?}");
    }
    let long = vec![0; ENROL_REQUEST_BYTES_MAX + 1];
    assert!(matches!(scene.authority.enrol(&long, NOW), Err(EnrolError::Malformed)));
    let enrolled = scene.authority.enrol(&request, NOW).expect("the token was left alone");

    let twin = Enrolment { key: KeyPair::generate().expect("ring makes keys"), ..enrolment };
    let refused = twin.finish(&enrolled.reply).expect_err("another key");
    assert!(matches!(refused, JoinError::OtherHost), "{refused}");
    for reply in [&[][..], &[GRANTED], &[7], &enrolled.reply[..enrolled.reply.len() - 1]] {
        let refused = scene.begin(&token, "h7").finish(reply);
        assert!(matches!(refused, Err(JoinError::Malformed)), "{refused:?}");
    }
    assert!(!scene.host_dir().exists(), "nothing was written");
}

#[test]
fn failure_of_the_authority_stays_with_it() {
    let scene = Scene::new();
    let token = scene.token(None, None);
    let enrolment = scene.begin(&token, "h7");
    fs::remove_file(scene.authority.layout().ca_crl()).expect("it was there");
    let failed = scene.authority.enrol(enrolment.request(), NOW).expect_err("no list");
    let refused = enrolment.finish(&failed.reply()).expect_err("a refusal").to_string();
    assert_eq!(refused, "enrolment was refused: the authority cannot sign now; its log says why",);
}
