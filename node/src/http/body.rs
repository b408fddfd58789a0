//! Reads JSON bodies, whatever their content type says, and refuses them in the API's own words.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Size of a request body at most: some million token ids, far above any context.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;

/// A JSON body, parsed.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            match axum::response::IntoResponse::into_response(rejection).status() {
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
