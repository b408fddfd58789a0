//! The OpenAI API: HTTP on one side, tokens on the other.
//!
//! ```text
//! request -> request_id -> auth -> chat | completions -> Choices -> GatewayHandle
//!                                         answer <------ Piece  <- Choice <- TokenEvent
//! ```
//!
//! Bodies are dropped when their client leaves, and with them the generations they were made of:
//! that is all there is to cancelling. This is the only place that knows axum.

mod answer;
mod auth;
mod body;
mod chat;
mod choice;
mod choices;
mod completions;
mod cut;
mod error;
mod meta;
mod meter;
mod model_text;
mod probe;
mod request;
mod request_id;
mod status;
mod text;

use std::future::Future;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Request};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Router, middleware};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use self::auth::ApiKeys;
pub use self::model_text::ModelText;
pub use self::status::{
    ClusterStatus, HopStatus, HostState, HostStatus, LinkStatus, Loading, Phase, PlacedStatus,
    PlanStatus, WeightStatus, end_name,
};
pub use self::text::{ChatTurn, Decoder, Text, TextError};

use self::body::BODY_BYTES_MAX;
use self::error::ApiError;
use self::probe::Probe;
use crate::generate::GatewayHandle;
use crate::metrics::Metrics;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the API serves, and with what.
pub struct ApiConfig {
    /// Where tokens come from.
    pub gateway: GatewayHandle,
    /// The model's tokenizer and chat template.
    pub text: Arc<dyn Text>,
    /// Names the model is served under, at least one; the first is the default.
    pub models: Vec<String>,
    /// Longest context served, in tokens.
    pub context_tokens: u32,
    /// Keys that open the API.
    pub keys: ApiKeys,
    /// Describes the cluster. Must not block.
    pub status: Arc<dyn Fn() -> ClusterStatus + Send + Sync>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

/// The API of one host.
pub struct Api {
    gateway: GatewayHandle,
    text: Arc<dyn Text>,
    models: Vec<String>,
    context_tokens: u32,
    keys: ApiKeys,
    status: Arc<dyn Fn() -> ClusterStatus + Send + Sync>,
    metrics: Arc<Metrics>,
    probe: Probe,
    /// Seconds since 1970.
    started_s: u64,
}

impl Api {
    /// Creates the API.
    ///
    /// # Panics
    ///
    /// If the model has no name.
    pub fn new(config: ApiConfig) -> Arc<Self> {
        let ApiConfig { gateway, text, models, context_tokens, keys, status, metrics } = config;
        assert!(!models.is_empty(), "a model without a name cannot be asked for");
        let probe = Probe::default();
        let started_s = now_s();
        Arc::new(Self {
            gateway,
            text,
            models,
            context_tokens,
            keys,
            status,
            metrics,
            probe,
            started_s,
        })
    }

    /// Answers requests on `listener` until `stop` resolves and the requests in progress are
    /// answered.
    ///
    /// # Errors
    ///
    /// If the listener fails for good.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        // A token is a small packet that should leave at once.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "tokens of a connection may be held back");
            }
        });
        axum::serve(listener, self.router()).with_graceful_shutdown(stop).await
    }

    fn router(self: Arc<Self>) -> Router {
        let locked = Router::new()
            .route("/v1/chat/completions", post(chat::chat))
            .route("/v1/completions", post(completions::completions))
            .route("/v1/models", get(meta::models))
            .route("/v1/models/{*id}", get(meta::model))
            .route("/tokenize", post(meta::tokenize))
            .route("/detokenize", post(meta::detokenize))
            .route("/api/v1/status", get(meta::status))
            .route_layer(middleware::from_fn_with_state(self.keys.clone(), auth::require));
        let open = Router::new()
            .route("/health", get(meta::health))
            .route("/healthz", get(meta::health))
            .route("/readyz", get(meta::ready))
            .route("/metrics", get(meta::metrics))
            .route("/version", get(meta::version));
        locked
            .merge(open)
            .fallback(nothing_there)
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(Arc::clone(&self), request_id::name))
            .with_state(self)
    }

    /// Returns the name to answer under.
    fn model(&self, asked: Option<&str>) -> Result<String, ApiError> {
        let Some(asked) = asked else { return Ok(self.models[0].clone()) };
        if self.models.iter().any(|name| name == asked) {
            return Ok(asked.to_owned());
        }
        Err(ApiError::Model { name: asked.to_owned(), available: self.models.join(", ") })
    }

    /// Runs work of the tokenizer where it holds no other request up: a long prompt takes a while.
    async fn with_text<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Text) -> Result<T, TextError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let text = Arc::clone(&self.text);
        let result = tokio::task::spawn_blocking(move || work(text.as_ref())).await;
        result.map_err(|_| ApiError::Internal("the tokenizer panicked"))?.map_err(ApiError::Text)
    }
}

async fn nothing_there(request: Request) -> ApiError {
    ApiError::Path { path: request.uri().path().to_owned() }
}

async fn wrong_method(request: Request) -> ApiError {
    let path = request.uri().path().to_owned();
    ApiError::Method { method: request.method().to_string(), path }
}

/// What every object of one response says.
struct Head {
    id: String,
    model: String,
    created_s: u64,
}

impl Head {
    fn new(api: &Api, id: String, model: String) -> Self {
        Self { id, model, created_s: now_s().max(api.started_s) }
    }

    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": concat!("thalweg-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }
}

fn now_s() -> u64 {
    // A clock before 1970 is wrong anyway.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
