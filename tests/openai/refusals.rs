//! Requests that are not answered, and why.

use serde_json::{Value, json};
use thalweg::generate::{Full, GatewayHandle, Rejection};

use super::client::{Reply, post, send};
use super::fake::{MODEL, Puppet, RETRY_AFTER, Server, refusing, talking};

const PATH: &str = "/v1/chat/completions";

fn ask() -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]})
}

/// Checks status, type and code of a refusal, and returns its message.
async fn check(reply: Reply, status: u16, kind: &str, code: Value) -> String {
    assert_eq!(reply.status, status);
    let body = reply.json().await;
    let error = &body["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!(kind), &code), "{body}");
    error["message"].as_str().expect("a message").to_owned()
}

async fn talker() -> Server {
    Server::start(talking(), &[]).await
}

#[tokio::test]
async fn invalid_json_is_400_and_says_where() {
    let server = talker().await;
    let reply = send(server.address, "POST", PATH, "", r#"{"messages": ["#).await;
    let message = check(reply, 400, "invalid_request_error", Value::Null).await;
    assert!(message.contains("not valid JSON") && message.contains("line 1"), "{message}");
}

#[tokio::test]
async fn missing_field_is_400_and_named() {
    let server = talker().await;
    let reply = post(server.address, PATH, &json!({"model": MODEL})).await;
    let message = check(reply, 400, "invalid_request_error", Value::Null).await;
    assert!(message.contains("`messages`"), "{message}");
}

#[tokio::test]
async fn prompt_above_the_context_is_400_with_both_numbers() {
    let server = talker().await;
    let mut body = ask();
    body["messages"][0]["content"] = "x".repeat(300).into();
    let reply = post(server.address, PATH, &body).await;
    let code = json!("context_length_exceeded");
    let message = check(reply, 400, "invalid_request_error", code).await;
    // BOS, "user:", 300 times x, and a line end.
    assert!(message.contains("256 tokens") && message.contains("307 tokens"), "{message}");
}

#[tokio::test]
async fn prompt_that_fills_the_context_leaves_no_room() {
    let server = talker().await;
    let full = json!({"prompt": vec![1; 256], "max_tokens": 1});
    let reply = post(server.address, "/v1/completions", &full).await;
    check(reply, 400, "invalid_request_error", json!("context_length_exceeded")).await;
    let one_less = json!({"prompt": vec![1; 255], "max_tokens": 9});
    let answer = post(server.address, "/v1/completions", &one_less).await.json().await;
    assert_eq!(answer["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn parameters_out_of_range_are_named() {
    let server = talker().await;
    for (name, value) in [
        ("temperature", json!(3)),
        ("top_p", json!(0)),
        ("max_tokens", json!(0)),
        ("n", json!(0)),
        ("n", json!(17)),
        ("presence_penalty", json!(9)),
    ] {
        let mut body = ask();
        body[name] = value;
        let reply = post(server.address, PATH, &body).await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.json().await["error"]["param"], name);
    }
}

#[tokio::test]
async fn too_many_likely_tokens_are_refused() {
    let server = talker().await;
    let mut body = ask();
    body["logprobs"] = true.into();
    body["top_logprobs"] = 21.into();
    let reply = post(server.address, PATH, &body).await;
    assert_eq!(reply.json().await["error"]["param"], "top_logprobs");
}

#[tokio::test]
async fn token_ids_above_the_vocabulary_are_refused() {
    let server = talker().await;
    let body = json!({"prompt": [258]});
    let reply = post(server.address, "/v1/completions", &body).await;
    let message = check(reply, 400, "invalid_request_error", Value::Null).await;
    assert!(message.contains("258"), "{message}");
}

#[tokio::test]
async fn templates_refusal_is_passed_on() {
    let server = talker().await;
    let mut body = ask();
    body["messages"][0]["role"] = "stranger".into();
    let reply = post(server.address, PATH, &body).await;
    let message = check(reply, 400, "invalid_request_error", Value::Null).await;
    assert!(message.ends_with("role `stranger` is unknown"), "{message}");
}

#[tokio::test]
async fn unknown_model_is_404_and_names_those_there_are() {
    let server = talker().await;
    let mut body = ask();
    body["model"] = "gpt-9".into();
    let reply = post(server.address, PATH, &body).await;
    let message = check(reply, 404, "invalid_request_error", json!("model_not_found")).await;
    assert!(message.contains("`gpt-9`") && message.contains(MODEL), "{message}");
}

#[tokio::test]
async fn keys_are_asked_for_where_answers_are_and_not_where_health_is() {
    let server = Server::start(talking(), &["k1", "k2"]).await;
    let body = ask().to_string();
    for wrong in ["", "authorization: Bearer k3\r\n", "authorization: Basic k1\r\n"] {
        let reply = send(server.address, "POST", PATH, wrong, &body).await;
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        check(reply, 401, "invalid_request_error", json!("invalid_api_key")).await;
    }
    for path in ["/v1/models", "/api/v1/status"] {
        assert_eq!(send(server.address, "GET", path, "", "").await.status, 401, "{path}");
    }
    for path in ["/health", "/healthz", "/readyz", "/metrics", "/version"] {
        assert_eq!(send(server.address, "GET", path, "", "").await.status, 200, "{path}");
    }
    for key in ["k1", "k2"] {
        let header = format!("authorization: Bearer {key}\r\n");
        assert_eq!(send(server.address, "POST", PATH, &header, &body).await.status, 200);
    }
}

#[tokio::test]
async fn full_queue_is_429_with_retry_after_streamed_or_not() {
    let gateway = refusing(Rejection::Overloaded { retry_after: RETRY_AFTER });
    let server = Server::start(gateway, &[]).await;
    for stream in [false, true] {
        let mut body = ask();
        body["stream"] = stream.into();
        let reply = post(server.address, PATH, &body).await;
        assert_eq!(reply.headers["retry-after"], "3");
        check(reply, 429, "rate_limit_error", json!("queue_full")).await;
    }
}

#[tokio::test]
async fn gateway_that_takes_no_commands_is_429_too() {
    let server = Server::start(GatewayHandle::new(|_| Err(Full)), &[]).await;
    let reply = post(server.address, PATH, &ask()).await;
    assert_eq!(reply.headers["retry-after"], "1");
    check(reply, 429, "rate_limit_error", json!("queue_full")).await;
}

#[tokio::test]
async fn no_plan_is_503() {
    let server = Server::start(refusing(Rejection::NoPlan), &[]).await;
    let reply = post(server.address, PATH, &ask()).await;
    check(reply, 503, "service_unavailable_error", json!("no_plan")).await;
}

#[tokio::test]
async fn one_refused_answer_cancels_the_others() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let mut body = ask();
    body["n"] = 2.into();
    let address = server.address;
    let reply = tokio::spawn(async move { post(address, PATH, &body).await });
    let (first, second) = (puppet.order().await, puppet.order().await);
    second.reject(Rejection::NoPlan);
    let reply = reply.await.expect("the request does not panic");
    check(reply, 503, "service_unavailable_error", json!("no_plan")).await;
    assert_eq!(puppet.cancel().await, first.ticket);
}

#[tokio::test]
async fn stream_that_fails_half_way_says_so_and_ends() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let mut body = ask();
    body["stream"] = true.into();
    let address = server.address;
    let stream = tokio::spawn(async move { post(address, PATH, &body).await });
    let order = puppet.order().await;
    order.say("a", None);
    drop(order);
    let events = stream.await.expect("the request does not panic").events().await;
    let last = events.last().expect("an error");
    assert_eq!(last["error"]["code"], "generation_ended");
}

#[tokio::test]
async fn unknown_paths_and_methods_have_envelopes() {
    let server = talker().await;
    let reply = send(server.address, "GET", "/v2/x", "", "").await;
    check(reply, 404, "invalid_request_error", json!("unknown_url")).await;
    let reply = send(server.address, "GET", PATH, "", "").await;
    check(reply, 405, "invalid_request_error", Value::Null).await;
}

#[tokio::test]
async fn body_above_the_limit_is_413() {
    let server = talker().await;
    let headers = "expect: 100-continue\r\ncontent-length: 99999999\r\n";
    let mut connection = tokio::net::TcpStream::connect(server.address).await.expect("it listens");
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut connection, head.as_bytes()).await.expect("it reads");
    let mut line = String::new();
    let mut lines = tokio::io::BufReader::new(connection);
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.expect("a status line");
    assert_eq!(line.trim_end(), "HTTP/1.1 413 Payload Too Large");
}
