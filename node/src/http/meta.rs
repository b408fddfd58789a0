//! Everything that is not an answer: models, tokens, health, metrics, status.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};

use super::body::Body;
use super::error::ApiError;
use super::request::{DetokenizeRequest, TokenizeRequest, turns};
use super::status::ClusterStatus;
use super::{Api, VERSION};
use crate::metrics;

/// `GET /v1/models`.
pub(super) async fn models(State(api): State<Arc<Api>>) -> Json<Value> {
    let models = api.models.iter().map(|name| model_json(&api, name)).collect::<Vec<_>>();
    Json(json!({"object": "list", "data": models}))
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let name = api.model(Some(&id))?;
    Ok(Json(model_json(&api, &name)))
}

fn model_json(api: &Api, name: &str) -> Value {
    json!({
        "id": name,
        "object": "model",
        "created": api.started_s,
        "owned_by": "thalweg",
        "max_model_len": api.context_tokens,
    })
}

/// `POST /tokenize`.
pub(super) async fn tokenize(
    State(api): State<Arc<Api>>,
    Body(request): Body<TokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    api.model(request.model.as_deref())?;
    let tokens = match (request.prompt, request.messages) {
        (Some(prompt), None) => {
            let special = request.add_special_tokens.unwrap_or(true);
            api.with_text(move |text| text.encode(&prompt, special)).await?
        }
        (None, Some(messages)) => {
            let turns = turns(&messages)?;
            api.with_text(move |text| text.encode_chat(&turns)).await?
        }
        _ => return Err(ApiError::invalid("prompt", "Give either `prompt` or `messages`.")),
    };
    let count = tokens.len();
    Ok(Json(json!({"count": count, "max_model_len": api.context_tokens, "tokens": tokens})))
}

/// `POST /detokenize`.
pub(super) async fn detokenize(
    State(api): State<Arc<Api>>,
    Body(request): Body<DetokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    api.model(request.model.as_deref())?;
    let prompt = api.with_text(move |text| text.decode(&request.tokens)).await?;
    Ok(Json(json!({"prompt": prompt})))
}

/// `GET /health`, `GET /healthz`: this process answers, whatever the cluster does.
pub(super) async fn health() -> StatusCode {
    StatusCode::OK
}

/// `GET /readyz`: the cluster answered a probe.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    match api.probe.run(&api).await {
        Ok(()) => (StatusCode::OK, Json(json!({"ready": true}))),
        Err(reason) => {
            let body = json!({"ready": false, "reason": reason});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], api.metrics.render())
}

/// `GET /version`.
pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

/// `GET /api/v1/status`.
pub(super) async fn status(State(api): State<Arc<Api>>) -> Json<ClusterStatus> {
    Json((api.status)())
}
