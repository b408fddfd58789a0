//! Refusals as OpenAI clients expect them: a status and an envelope.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::text::TextError;
use crate::generate::{Full, Rejection};

/// Shortest wait suggested to a client, in seconds: `Retry-After` counts whole ones.
const RETRY_AFTER_MIN_S: u64 = 1;

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("The request body is not valid JSON: {0}")]
    Json(#[source] serde_json::Error),
    #[error("The request is not understood: {0}")]
    Fields(#[source] serde_json::Error),
    #[error("{message}")]
    Invalid { param: Option<&'static str>, message: String },
    #[error(
        "This model's maximum context length is {context} tokens, but the prompt has {prompt} \
         tokens and leaves no room for an answer."
    )]
    PromptTooLong { param: &'static str, prompt: usize, context: u32 },
    #[error("The request body is above the limit of {max_bytes} bytes.")]
    BodyTooLarge { max_bytes: usize },
    #[error("The request body could not be read.")]
    BodyUnreadable,
    #[error("Give a valid API key as `Authorization: Bearer KEY`.")]
    Key,
    #[error("The model `{name}` does not exist. Available: {available}.")]
    Model { name: String, available: String },
    #[error("There is nothing at `{path}`.")]
    Path { path: String },
    #[error("`{path}` does not take {method}.")]
    Method { method: String, path: String },
    #[error("The cluster takes no more requests now: {0}.")]
    Busy(#[source] Full),
    #[error("The cluster cannot answer: {0}.")]
    Rejected(#[source] Rejection),
    #[error("The generation ended before its last token.")]
    Ended,
    #[error("The request does not become tokens: {0}")]
    Text(#[source] TextError),
    #[error("The server failed: {0}")]
    Internal(&'static str),
}

impl ApiError {
    /// A refusal of a parameter.
    pub(super) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { param: Some(param), message: message.into() }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Json(_)
            | Self::Fields(_)
            | Self::Invalid { .. }
            | Self::PromptTooLong { .. }
            | Self::BodyUnreadable
            | Self::Text(_)
            | Self::Rejected(Rejection::TooLong { .. } | Rejection::EmptyPrompt) => {
                StatusCode::BAD_REQUEST
            }
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Key => StatusCode::UNAUTHORIZED,
            Self::Model { .. } | Self::Path { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy(_) | Self::Rejected(Rejection::Overloaded { .. }) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Rejected(Rejection::NoPlan) | Self::Ended => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The envelope: `{"error": {message, type, param, code}}`.
    pub(super) fn envelope(&self) -> Value {
        let (kind, code) = self.kind_and_code();
        let param = match self {
            Self::Invalid { param, .. } => *param,
            Self::PromptTooLong { param, .. } => Some(*param),
            Self::Model { .. } => Some("model"),
            _ => None,
        };
        let message = self.message();
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }

    fn message(&self) -> String {
        let mut message = self.to_string();
        if let Self::Text(source) = self {
            let mut cause = std::error::Error::source(source);
            while let Some(error) = cause {
                message = format!("{message}: {error}");
                cause = error.source();
            }
        }
        message
    }

    fn kind_and_code(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::PromptTooLong { .. } | Self::Rejected(Rejection::TooLong { .. }) => {
                ("invalid_request_error", Some("context_length_exceeded"))
            }
            Self::Key => ("invalid_request_error", Some("invalid_api_key")),
            Self::Model { .. } => ("invalid_request_error", Some("model_not_found")),
            Self::Path { .. } => ("invalid_request_error", Some("unknown_url")),
            Self::Busy(_) | Self::Rejected(Rejection::Overloaded { .. }) => {
                ("rate_limit_error", Some("queue_full"))
            }
            Self::Rejected(Rejection::NoPlan) => ("service_unavailable_error", Some("no_plan")),
            Self::Ended => ("service_unavailable_error", Some("generation_ended")),
            Self::Internal(_) => ("server_error", None),
            _ => ("invalid_request_error", None),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(Rejection::Overloaded { retry_after }) => Some(*retry_after),
            Self::Busy(_) | Self::Rejected(Rejection::NoPlan) | Self::Ended => Some(Duration::ZERO),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status().is_server_error() {
            tracing::debug!(error = %self, "request refused");
        }
        let mut response = (self.status(), Json(self.envelope())).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after() {
            let whole_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, whole_s.max(RETRY_AFTER_MIN_S).into());
        }
        if matches!(self, Self::Key) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_says_when_to_retry_in_whole_seconds() {
        let rejection = Rejection::Overloaded { retry_after: Duration::from_millis(2_100) };
        let response = ApiError::from(rejection).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
    }

    #[test]
    fn envelope_has_the_four_fields() {
        let error = ApiError::PromptTooLong { param: "messages", prompt: 9, context: 8 };
        let message = "This model's maximum context length is 8 tokens, but the prompt has 9 \
                       tokens and leaves no room for an answer.";
        assert_eq!(
            error.envelope(),
            json!({"error": {
                "message": message,
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }}),
        );
    }
}
