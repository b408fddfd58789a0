//! Names every request, so that a client's log and ours can be laid side by side.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use crate::metrics::HttpLabels;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Length of a client's own name at most; a longer one is replaced.
const NAME_BYTES_MAX: usize = 128;

/// The request's name: the client's, or one made up here.
#[derive(Clone, Debug)]
pub(super) struct RequestName(pub Arc<str>);

/// Gives the request its name, the response too, and counts it.
pub(super) async fn name(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let name = given(request.headers()).unwrap_or_else(made_up);
    let handler = handler_of(request.uri().path());
    request.extensions_mut().insert(RequestName(Arc::clone(&name)));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(HEADER, value);
    }
    let status = response.status().as_u16();
    let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
    tracing::debug!(request = %name, handler, status, elapsed_ms, "answered");
    api.metrics.http_requests.get_or_create(&HttpLabels { handler, status }).inc();
    response
}

fn given(headers: &HeaderMap) -> Option<Arc<str>> {
    let name = headers.get(HEADER)?.to_str().ok()?;
    let acceptable = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    acceptable.then(|| Arc::from(name))
}

fn made_up() -> Arc<str> {
    let mut bytes = [0; 16];
    // A name only has to be told apart from others in a log; without randomness all are alike.
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::warn!(%error, "the system gives no random numbers");
    }
    format!("{:032x}", u128::from_le_bytes(bytes)).into()
}

/// The path as a metric's label: a fixed set, so that strangers cannot grow it.
fn handler_of(path: &str) -> &'static str {
    const PATHS: [&str; 12] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/health",
        "/healthz",
        "/readyz",
        "/metrics",
        "/version",
        "/tokenize",
        "/detokenize",
        "/api/v1/status",
        "/v1/models/",
    ];
    let known = |known: &&str| path == *known || known.ends_with('/') && path.starts_with(known);
    PATHS.into_iter().find(|it| known(it)).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_differ() {
        assert_eq!(made_up().len(), 32);
        assert_ne!(made_up(), made_up());
    }

    #[test]
    fn labels_are_a_fixed_set() {
        assert_eq!(handler_of("/v1/models/a/b"), "/v1/models/");
        assert_eq!(handler_of("/v1/anything"), "other");
    }
}
