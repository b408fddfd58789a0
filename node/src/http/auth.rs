//! API keys.

use std::hint::black_box;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// The keys that open the API. Without any, it is open to whoever reaches it.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// Creates the set of accepted keys; empty ones are left out, since everybody knows them.
    pub fn new(keys: impl IntoIterator<Item = String>) -> Self {
        Self(keys.into_iter().filter(|key| !key.is_empty()).collect())
    }

    /// Whether every request passes.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `given` is one of the keys. Takes as long for a nearly right key as for a wrong one
    /// of the same length.
    pub fn accept(&self, given: &str) -> bool {
        self.0.iter().fold(false, |found, key| found | same(key.as_bytes(), given.as_bytes()))
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

/// Refuses requests without a valid key.
pub(super) async fn require(State(keys): State<ApiKeys>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    if keys.is_open() || given.and_then(bearer).is_some_and(|key| keys.accept(key)) {
        return next.run(request).await;
    }
    ApiError::Key.into_response()
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
            assert!(keys.accept(key), "{key} refused");
        }
        for key in ["", "ab", "abcd", "abd", "def"] {
            assert!(!keys.accept(key), "{key} accepted");
        }
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
