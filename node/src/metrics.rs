//! What `/metrics` says: vLLM's names and buckets, so that its dashboards work, and our own.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// vLLM's bucket edges, in seconds.
const TIME_TO_FIRST_TOKEN_S: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
/// vLLM's bucket edges, in seconds.
const INTER_TOKEN_LATENCY_S: [f64; 19] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
/// vLLM's bucket edges, in seconds.
const REQUEST_LATENCY_S: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
/// vLLM's bucket edges (1, 2, 5 of each decade), in tokens.
const REQUEST_TOKENS: [f64; 16] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];

/// A gauge of real numbers.
pub type RealGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Everything measured of this host. Fields are handles on shared numbers: cloning one is cheap,
/// and they may be set from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Generations that have their first token and not yet their last.
    pub requests_running: Gauge,
    /// Generations submitted that have no token yet.
    pub requests_waiting: Gauge,
    /// Fraction of this host's KV memory in use, from 0 to 1.
    pub kv_cache_usage: RealGauge,
    /// Requests that gave way here because KV ran out.
    pub preemptions: Counter,
    /// Tokens of requests that opened here, looked for among cached prefixes.
    pub prefix_cache_queries: Counter,
    /// Of these, tokens whose KV was there already.
    pub prefix_cache_hits: Counter,
    /// Prompt tokens taken.
    pub prompt_tokens: Counter,
    /// Tokens generated.
    pub generation_tokens: Counter,
    /// Time from submission to first token, in seconds.
    pub time_to_first_token: Histogram,
    /// Time between tokens of a generation, in seconds.
    pub inter_token_latency: Histogram,
    /// Time from submission to last token, in seconds.
    pub e2e_request_latency: Histogram,
    /// Time from first to last token, in seconds.
    pub request_decode_time: Histogram,
    /// Prompt tokens per generation.
    pub request_prompt_tokens: Histogram,
    /// Tokens generated per generation.
    pub request_generation_tokens: Histogram,
    /// Generations ended, by reason: `stop`, `length`, `abort`, `error`.
    pub request_success: Family<FinishedLabels, Counter>,
    /// HTTP responses, by path and status.
    pub http_requests: Family<HttpLabels, Counter>,
    /// Number of the active plan.
    pub plan_epoch: Gauge,
    /// Maximum flow of the active plan, in tokens/s.
    pub plan_flow: RealGauge,
    /// Upper bound no plan exceeds, in tokens/s.
    pub plan_bound: RealGauge,
    /// Hosts alive, this one included.
    pub hosts_alive: Gauge,
    /// Requests replayed on another route because a host was lost.
    pub failovers: Counter,
    /// Tokens computed again for that reason.
    pub replayed_tokens: Counter,
    /// Round trip to each peer, in seconds.
    pub link_round_trip: Family<PeerLabels, RealGauge>,
    /// Seconds this host's shard spent computing.
    pub shard_busy: Counter<f64, std::sync::atomic::AtomicU64>,
    /// Steps this host's shard computed.
    pub shard_steps: Counter,
    /// Parts of requests in these steps.
    pub shard_parts: Counter,
}

/// Labels of [`Metrics::request_success`].
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct FinishedLabels {
    /// Why the generation ended.
    pub finished_reason: &'static str,
}

/// Labels of [`Metrics::http_requests`].
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct HttpLabels {
    /// Path as routed, or `other`.
    pub handler: &'static str,
    /// Status code.
    pub status: u16,
}

/// Labels of [`Metrics::link_round_trip`].
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct PeerLabels {
    /// Name of the far end.
    pub peer: String,
}

impl Metrics {
    /// Creates metrics that all carry `model_name` and `host`.
    pub fn new(model_name: &str, host: &str) -> Arc<Self> {
        let labels = [("model_name", model_name), ("host", host)];
        let labels = labels.map(|(name, value)| (name.into(), value.to_owned().into()));
        let mut metrics = Self::unregistered(Registry::with_labels(labels.into_iter()));
        metrics.register_vllm();
        metrics.register_own();
        Arc::new(metrics)
    }

    /// Renders every metric in OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    fn unregistered(registry: Registry) -> Self {
        Self {
            registry,
            requests_running: Gauge::default(),
            requests_waiting: Gauge::default(),
            kv_cache_usage: RealGauge::default(),
            preemptions: Counter::default(),
            prefix_cache_queries: Counter::default(),
            prefix_cache_hits: Counter::default(),
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            time_to_first_token: Histogram::new(TIME_TO_FIRST_TOKEN_S),
            inter_token_latency: Histogram::new(INTER_TOKEN_LATENCY_S),
            e2e_request_latency: Histogram::new(REQUEST_LATENCY_S),
            request_decode_time: Histogram::new(REQUEST_LATENCY_S),
            request_prompt_tokens: Histogram::new(REQUEST_TOKENS),
            request_generation_tokens: Histogram::new(REQUEST_TOKENS),
            request_success: Family::default(),
            http_requests: Family::default(),
            plan_epoch: Gauge::default(),
            plan_flow: RealGauge::default(),
            plan_bound: RealGauge::default(),
            hosts_alive: Gauge::default(),
            failovers: Counter::default(),
            replayed_tokens: Counter::default(),
            link_round_trip: Family::default(),
            shard_busy: Counter::default(),
            shard_steps: Counter::default(),
            shard_parts: Counter::default(),
        }
    }

    /// Counters lose their `_total` here: the encoder adds it.
    fn register_vllm(&mut self) {
        let Self { registry: to, .. } = self;
        let running = self.requests_running.clone();
        to.register("vllm:num_requests_running", "Requests being computed", running);
        let waiting = self.requests_waiting.clone();
        to.register("vllm:num_requests_waiting", "Requests without a token yet", waiting);
        let kv = self.kv_cache_usage.clone();
        to.register("vllm:kv_cache_usage_perc", "KV memory in use, 1 is all", kv);
        let preempted = self.preemptions.clone();
        to.register("vllm:num_preemptions", "Requests that gave way as KV ran out", preempted);
        let queries = self.prefix_cache_queries.clone();
        to.register("vllm:prefix_cache_queries", "Tokens looked for in cached prefixes", queries);
        let hits = self.prefix_cache_hits.clone();
        to.register("vllm:prefix_cache_hits", "Tokens found in cached prefixes", hits);
        to.register("vllm:prompt_tokens", "Prompt tokens taken", self.prompt_tokens.clone());
        let generated = self.generation_tokens.clone();
        to.register("vllm:generation_tokens", "Tokens generated", generated);
        let first = self.time_to_first_token.clone();
        to.register("vllm:time_to_first_token_seconds", "Submission to first token", first);
        let between = self.inter_token_latency.clone();
        to.register("vllm:inter_token_latency_seconds", "Between two tokens", between);
        let whole = self.e2e_request_latency.clone();
        to.register("vllm:e2e_request_latency_seconds", "Submission to last token", whole);
        let decode = self.request_decode_time.clone();
        to.register("vllm:request_decode_time_seconds", "First to last token", decode);
        let prompts = self.request_prompt_tokens.clone();
        to.register("vllm:request_prompt_tokens", "Prompt tokens of a request", prompts);
        let answers = self.request_generation_tokens.clone();
        to.register("vllm:request_generation_tokens", "Tokens generated for a request", answers);
        let ended = self.request_success.clone();
        to.register("vllm:request_success", "Requests ended, by reason", ended);
    }

    fn register_own(&mut self) {
        let Self { registry: to, .. } = self;
        let http = self.http_requests.clone();
        to.register("thalweg_http_requests", "Responses, by path and status", http);
        to.register("thalweg_plan_epoch", "Active plan", self.plan_epoch.clone());
        let flow = self.plan_flow.clone();
        to.register("thalweg_plan_flow_tokens_per_second", "Maximum flow of the plan", flow);
        let bound = self.plan_bound.clone();
        to.register("thalweg_plan_bound_tokens_per_second", "No plan exceeds this", bound);
        to.register("thalweg_hosts_alive", "Hosts alive", self.hosts_alive.clone());
        to.register("thalweg_failovers", "Requests moved off a lost host", self.failovers.clone());
        let replayed = self.replayed_tokens.clone();
        to.register("thalweg_replayed_tokens", "Tokens computed again after that", replayed);
        let links = self.link_round_trip.clone();
        to.register("thalweg_link_round_trip_seconds", "Round trip to a peer", links);
        let busy = self.shard_busy.clone();
        to.register("thalweg_shard_busy_seconds", "Time spent computing", busy);
        to.register("thalweg_shard_steps", "Steps computed", self.shard_steps.clone());
        let parts = self.shard_parts.clone();
        to.register("thalweg_shard_parts", "Parts of requests in the steps computed", parts);
    }

    /// Counts a generation that ended for `reason` after `total`, having had `tokens`.
    pub fn observe_end(&self, reason: &'static str, total: Duration, tokens: u32) {
        self.request_success.get_or_create(&FinishedLabels { finished_reason: reason }).inc();
        self.e2e_request_latency.observe(total.as_secs_f64());
        self.request_generation_tokens.observe(f64::from(tokens));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_dashboards() {
        let metrics = Metrics::new("m", "h1");
        metrics.prompt_tokens.inc_by(3);
        metrics.time_to_first_token.observe(0.03);
        metrics.observe_end("stop", Duration::from_secs(1), 5);
        let text = metrics.render();
        for line in [
            r#"vllm:prompt_tokens_total{model_name="m",host="h1"} 3"#,
            r#"vllm:num_preemptions_total{model_name="m",host="h1"} 0"#,
            r#"vllm:prefix_cache_hits_total{model_name="m",host="h1"} 0"#,
            r#"vllm:num_requests_running{model_name="m",host="h1"} 0"#,
            r#"vllm:time_to_first_token_seconds_bucket{model_name="m",host="h1",le="0.04"} 1"#,
            r#"vllm:request_success_total{model_name="m",host="h1",finished_reason="stop"} 1"#,
            "# EOF",
        ] {
            assert!(text.contains(line), "`{line}` is not in\n{text}");
        }
    }
}
