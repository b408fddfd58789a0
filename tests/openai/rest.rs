//! Models, tokens, health, metrics, names of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use thalweg::generate::{GatewayCommand, GatewayHandle, Rejection, TokenEvent};
use thalweg_wire::{Candidate, Finish};

use super::client::{get, post, send};
use super::fake::{CONTEXT, MODEL, Server, refusing, talking};

#[tokio::test]
async fn models_are_listed_and_found_by_name() {
    let server = Server::start(talking(), &[]).await;
    let list = get(server.address, "/v1/models").await.json().await;
    assert_eq!(list["object"], "list");
    let names = list["data"].as_array().expect("models").iter().map(|it| it["id"].clone());
    assert_eq!(names.collect::<Vec<_>>(), [json!(MODEL), json!("alias")]);
    let one = get(server.address, &format!("/v1/models/{MODEL}")).await.json().await;
    assert_eq!(one, list["data"][0]);
    assert_eq!(one["max_model_len"], CONTEXT);
    assert_eq!(get(server.address, "/v1/models/other").await.status, 404);
}

#[tokio::test]
async fn tokens_go_forth_and_back() {
    let server = Server::start(talking(), &[]).await;
    let body = json!({"model": MODEL, "prompt": "é", "add_special_tokens": false});
    let tokens = post(server.address, "/tokenize", &body).await.json().await;
    let expected = json!({"count": 2, "max_model_len": CONTEXT, "tokens": [195, 169]});
    assert_eq!(tokens, expected);
    let back = json!({"tokens": tokens["tokens"]});
    let text = post(server.address, "/detokenize", &back).await.json().await;
    assert_eq!(text, json!({"prompt": "é"}));
    let chat = json!({"messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(post(server.address, "/tokenize", &chat).await.json().await["count"], 9);
    assert_eq!(post(server.address, "/tokenize", &json!({})).await.status, 400);
}

#[tokio::test]
async fn ready_means_that_a_token_came_and_is_remembered_for_a_moment() {
    let probes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&probes);
    let gateway = GatewayHandle::new(move |command| {
        if let GatewayCommand::Submit { submission, events, .. } = command {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(submission.sampling.max_tokens, 1);
            let sampled = Candidate { token: 65, logprob: 0.0 };
            let finish = Some(Finish::Length);
            let event = TokenEvent::Token { sampled, top: Vec::new(), finish };
            events.try_send(event).expect("the first event");
        }
        Ok(())
    });
    let server = Server::start(gateway, &[]).await;
    for _ in 0..3 {
        let reply = get(server.address, "/readyz").await;
        assert_eq!((reply.status, reply.json().await), (200, json!({"ready": true})));
    }
    assert_eq!(probes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn not_ready_says_why_while_health_stays_good() {
    let server = Server::start(refusing(Rejection::NoPlan), &[]).await;
    let reply = get(server.address, "/readyz").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json().await["reason"], Rejection::NoPlan.to_string());
    assert_eq!(get(server.address, "/health").await.status, 200);
}

#[tokio::test]
async fn metrics_count_what_was_answered() {
    let server = Server::start(talking(), &[]).await;
    let body = json!({"prompt": "Say: ", "max_tokens": 4});
    assert_eq!(post(server.address, "/v1/completions", &body).await.status, 200);
    let reply = get(server.address, "/metrics").await;
    assert!(reply.headers["content-type"].starts_with("application/openmetrics-text"));
    let text = reply.text().await;
    let labels = format!(r#"model_name="{MODEL}",host="h1""#);
    for line in [
        format!("vllm:prompt_tokens_total{{{labels}}} 6"),
        format!("vllm:generation_tokens_total{{{labels}}} 4"),
        format!("vllm:time_to_first_token_seconds_count{{{labels}}} 1"),
        format!("vllm:inter_token_latency_seconds_count{{{labels}}} 3"),
        format!("vllm:request_success_total{{{labels},finished_reason=\"length\"}} 1"),
        format!("vllm:num_requests_running{{{labels}}} 0"),
        format!(
            "thalweg_http_requests_total{{{labels},handler=\"/v1/completions\",status=\"200\"}} 1"
        ),
    ] {
        assert!(text.contains(&line), "`{line}` is not in\n{text}");
    }
}

#[tokio::test]
async fn requests_have_names_and_keep_those_they_bring() {
    let server = Server::start(talking(), &[]).await;
    let reply = send(server.address, "GET", "/version", "x-request-id: mine-7\r\n", "").await;
    assert_eq!(reply.headers["x-request-id"], "mine-7");
    assert_eq!(reply.json().await, json!({"version": thalweg::http::VERSION}));
    let long = format!("x-request-id: {}\r\n", "x".repeat(200));
    let reply = send(server.address, "GET", "/nowhere", &long, "").await;
    assert_eq!(reply.headers["x-request-id"].len(), 32);
}

#[tokio::test]
async fn status_is_what_the_host_says() {
    let server = Server::start(talking(), &[]).await;
    let status: Value = get(server.address, "/api/v1/status").await.json().await;
    assert_eq!(status["cluster"], "test");
    assert_eq!(status["phase"], "electing");
}
