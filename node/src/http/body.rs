//! Reads JSON bodies, whatever their content type says, and refuses them in the API's own words.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Size of a request body at most: some million token ids, far above any context.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;

/// A JSON body, parsed.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        // Refused before the client sends it, if it says how much it will be.
        if announced_bytes(&request).is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
            return Err(ApiError::BodyTooLarge { max_bytes: BODY_BYTES_MAX });
        }
        let body =
            Bytes::from_request(request, state).await.map_err(|rejection| {
                match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => {
                        ApiError::BodyTooLarge { max_bytes: BODY_BYTES_MAX }
                    }
                    _ => ApiError::BodyUnreadable,
                }
            })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            if error.is_data() { ApiError::Fields(error) } else { ApiError::Json(error) }
        })
    }
}

fn announced_bytes(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
