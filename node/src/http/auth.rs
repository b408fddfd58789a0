//! API keys.

use std::hint::black_box;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::error::ApiError;

/// The keys that open the API. Without any, it is open to whoever reaches it.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<(String, Tenant)>);

/// Who asks: the same for all who have the same key, zero where there are no keys. Hosts tell each
/// other tenants and not keys, and no key can be found from its tenant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Tenant(pub u64);

impl Tenant {
    fn of(key: &str) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        Self(digest.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }
}

impl ApiKeys {
    /// Creates the set of accepted keys; empty ones are left out, since everybody knows them.
    pub fn new(keys: impl IntoIterator<Item = String>) -> Self {
        let keys = keys.into_iter().filter(|key| !key.is_empty());
        let with_tenant = |key: String| {
            let tenant = Tenant::of(&key);
            (key, tenant)
        };
        Self(keys.map(with_tenant).collect())
    }

    /// Whether every request passes.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key `given` is, if it is one. Takes as long for a nearly right key as for a wrong one
    /// of the same length.
    pub(super) fn accept(&self, given: &str) -> Option<Tenant> {
        self.0.iter().fold(None, |found, (key, tenant)| {
            if same(key.as_bytes(), given.as_bytes()) { Some(*tenant) } else { found }
        })
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({} keys)", self.0.len())
    }
}

/// Compares without stopping at the first difference.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    a.len() == b.len() && black_box(difference) == 0
}

/// Refuses requests without a valid key; tells the others' tenant to what follows.
pub(super) async fn require(
    State(keys): State<ApiKeys>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let tenant = match keys.is_open() {
        true => Some(Tenant::default()),
        false => given.and_then(bearer).and_then(|key| keys.accept(key)),
    };
    let Some(tenant) = tenant else { return ApiError::Key.into_response() };
    request.extensions_mut().insert(tenant);
    next.run(request).await
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, key) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_open() {
        let keys = ApiKeys::new(["abc".to_owned(), "defg".to_owned(), String::new()]);
        for key in ["abc", "defg"] {
            assert_eq!(keys.accept(key), Some(Tenant::of(key)), "{key} refused");
        }
        for key in ["", "ab", "abcd", "abd", "def"] {
            assert_eq!(keys.accept(key), None, "{key} accepted");
        }
    }

    #[test]
    fn tenants_are_told_apart_and_stay() {
        assert_ne!(Tenant::of("abc"), Tenant::of("abd"));
        // The first bytes of SHA-256, as FIPS 180-4 gives it for "abc".
        assert_eq!(Tenant::of("abc"), Tenant(0xba78_16bf_8f01_cfea));
    }

    #[test]
    fn empty_keys_do_not_close_the_api() {
        assert!(ApiKeys::new([String::new()]).is_open());
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", ApiKeys::new(["secret".to_owned()])), "ApiKeys(1 keys)");
    }

    #[test]
    fn scheme_is_case_insensitive() {
        assert_eq!(bearer("bEaReR k"), Some("k"));
        assert_eq!(bearer("Basic k"), None);
    }
}
