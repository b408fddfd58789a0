//! `POST /v1/chat/completions`.

use serde_json::{Value, json};
use thalweg_wire::Finish;

use super::client::{post, write};
use super::fake::{CONTEXT, EOS, MODEL, Puppet, SPEECH, Server, talking};

const PATH: &str = "/v1/chat/completions";

/// A chat request of one message, with more fields.
fn ask(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let fields = more.as_object().expect("fields").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

/// What the deltas of answer `index` say together.
fn said(events: &[Value], index: u32) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().expect("choices"));
    let ours = choices.filter(|choice| choice["index"] == index);
    ours.filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn whole_answer_has_openai_shape() {
    let server = Server::start(talking(), &[]).await;
    let reply = post(server.address, PATH, &ask(json!({"temperature": 0, "max_tokens": 9}))).await;
    assert_eq!(reply.status, 200);
    let request_id = reply.headers["x-request-id"].clone();
    let mut answer = reply.json().await;
    assert_eq!(answer["id"], format!("chatcmpl-{request_id}"));
    assert!(answer["created"].as_u64().is_some_and(|seconds| seconds > 1_700_000_000));
    for name in ["id", "created", "system_fingerprint"] {
        answer.as_object_mut().expect("an object").remove(name);
    }
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": "The river", "refusal": null},
        "logprobs": null,
        "finish_reason": "length",
    });
    // The prompt is BOS and "user:hi\n".
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18});
    assert_eq!(
        answer,
        json!({"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}),
    );
}

#[tokio::test]
async fn stream_opens_with_a_role_and_ends_with_reason_usage_and_done() {
    let server = Server::start(talking(), &[]).await;
    let body = ask(json!({
        "temperature": 0, "max_tokens": 3, "stream": true,
        "stream_options": {"include_usage": true},
    }));
    let reply = post(server.address, PATH, &body).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let events = reply.events().await;
    let deltas = events.iter().map(|it| it["choices"][0]["delta"].clone()).collect::<Vec<_>>();
    let text = |text: &str| json!({"content": text});
    let opening = json!({"role": "assistant", "content": ""});
    assert_eq!(deltas, [opening, text("T"), text("h"), text("e"), json!({}), Value::Null]);
    assert_eq!(events[4]["choices"][0]["finish_reason"], "length");
    for event in &events[..5] {
        assert_eq!(event["object"], "chat.completion.chunk");
        assert!(event.as_object().expect("an object").contains_key("usage"));
        assert_eq!(event["usage"], Value::Null);
    }
    assert_eq!(events[5]["choices"], json!([]));
    assert_eq!(
        events[5]["usage"],
        json!({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}),
    );
}

#[tokio::test]
async fn without_include_usage_no_chunk_has_it() {
    let server = Server::start(talking(), &[]).await;
    let body = ask(json!({"max_tokens": 2, "stream": true}));
    let events = post(server.address, PATH, &body).await.events().await;
    assert!(events.iter().all(|event| event.get("usage").is_none()), "{events:?}");
}

#[tokio::test]
async fn first_token_is_sent_before_the_second_exists() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let stream = tokio::spawn({
        let address = server.address;
        async move { post(address, PATH, &ask(json!({"stream": true}))).await }
    });
    let order = puppet.order().await;
    order.say("a", None);
    let mut reply = stream.await.expect("the request does not panic");
    let _opening = reply.event().await;
    let first = reply.event().await.expect("the first token");
    assert!(first.contains(r#""content":"a""#), "{first}");
    order.say("b", Some(Finish::Length));
    let events = reply.events().await;
    assert_eq!(said(&events, 0), "b");
}

#[tokio::test]
async fn client_that_leaves_a_stream_cancels_it_at_once() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let address = server.address;
    let stream =
        tokio::spawn(async move { post(address, PATH, &ask(json!({"stream": true}))).await });
    let order = puppet.order().await;
    order.say("a", None);
    let reply = stream.await.expect("the request does not panic");
    drop(reply);
    // No further token is needed to notice.
    assert_eq!(puppet.cancel().await, order.ticket);
    assert_eq!(server.metrics.requests_running.get(), 0);
}

#[tokio::test]
async fn client_that_leaves_before_the_first_token_cancels_too() {
    for stream in [true, false] {
        let (gateway, mut puppet) = Puppet::new();
        let server = Server::start(gateway, &[]).await;
        let body = ask(json!({"stream": stream})).to_string();
        let connection = write(server.address, "POST", PATH, "", &body).await;
        let order = puppet.order().await;
        drop(connection);
        assert_eq!(puppet.cancel().await, order.ticket);
    }
}

#[tokio::test]
async fn stop_string_cut_by_tokens_ends_the_answer_and_the_generation() {
    for (stop, expected) in [
        (json!("river bends"), "The "),
        (json!(["nowhere", "because"]), "The river bends 🌊 "),
        (json!(["🌊"]), "The river bends "),
    ] {
        let server = Server::start(talking(), &[]).await;
        let fields = json!({"temperature": 0, "max_tokens": 50, "stop": stop});
        let answer = post(server.address, PATH, &ask(fields)).await.json().await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], expected);
        assert_eq!(choice["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn stop_string_is_never_streamed_and_overshoot_is_discarded() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let address = server.address;
    let body = ask(json!({"stream": true, "stop": ["END"]}));
    let stream = tokio::spawn(async move { post(address, PATH, &body).await });
    let order = puppet.order().await;
    order.say("one EN", None);
    order.say("D two", None);
    let events = stream.await.expect("the request does not panic").events().await;
    assert_eq!(said(&events, 0), "one ");
    let last = events.last().expect("a finish");
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(puppet.cancel().await, order.ticket);
}

#[tokio::test]
async fn held_back_start_of_a_stop_is_shown_at_the_end() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let address = server.address;
    let body = ask(json!({"stop": ["END"]}));
    let reply = tokio::spawn(async move { post(address, PATH, &body).await.json().await });
    puppet.order().await.say("one EN", Some(Finish::Length));
    let answer = reply.await.expect("the request does not panic");
    assert_eq!(answer["choices"][0]["message"]["content"], "one EN");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn end_of_sequence_is_counted_but_not_shown() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let address = server.address;
    let reply =
        tokio::spawn(async move { post(address, PATH, &ask(json!({}))).await.json().await });
    let order = puppet.order().await;
    assert_eq!(order.submission.sampling.stop_tokens, [EOS]);
    // Without a limit of its own, an answer may fill the context.
    assert_eq!(order.submission.sampling.max_tokens, CONTEXT - 9);
    order.say("ok", None);
    order.token(EOS, Some(Finish::Stop));
    let answer = reply.await.expect("the request does not panic");
    assert_eq!(answer["choices"][0]["message"]["content"], "ok");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert!(puppet.is_quiet(), "a finished generation was cancelled");
}

#[tokio::test]
async fn character_of_several_tokens_is_streamed_whole() {
    let server = Server::start(talking(), &[]).await;
    let body = ask(json!({"temperature": 0, "max_tokens": SPEECH.len(), "stream": true}));
    let events = post(server.address, PATH, &body).await.events().await;
    assert_eq!(said(&events, 0), SPEECH);
    let wave = events.iter().filter(|it| it["choices"][0]["delta"]["content"] == "🌊");
    assert_eq!(wave.count(), 1);
}

#[tokio::test]
async fn two_answers_of_one_seed_differ_and_the_first_is_that_of_one() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let address = server.address;
    let body = ask(json!({"n": 2, "seed": 5}));
    let reply = tokio::spawn(async move { post(address, PATH, &body).await.json().await });
    let (first, second) = (puppet.order().await, puppet.order().await);
    assert_eq!(first.submission.sampling.seed, 5);
    assert_ne!(second.submission.sampling.seed, 5);
    second.say("second", Some(Finish::Length));
    first.say("first", Some(Finish::Length));
    let answer = reply.await.expect("the request does not panic");
    let content = |index: usize| answer["choices"][index]["message"]["content"].clone();
    assert_eq!((content(0), content(1)), (json!("first"), json!("second")));
    assert_eq!(answer["usage"]["prompt_tokens"], 9);
    assert_eq!(answer["usage"]["completion_tokens"], 11);
}

#[tokio::test]
async fn streamed_answers_carry_their_index() {
    let server = Server::start(talking(), &[]).await;
    let body = ask(json!({"n": 2, "seed": 5, "max_tokens": 8}));
    let whole = post(server.address, PATH, &body).await.json().await;
    let mut streamed = body;
    streamed["stream"] = true.into();
    let events = post(server.address, PATH, &streamed).await.events().await;
    for index in 0..2 {
        let content = &whole["choices"][index as usize]["message"]["content"];
        assert_eq!(said(&events, index), *content);
    }
}

#[tokio::test]
async fn logprobs_have_openai_shape() {
    let server = Server::start(talking(), &[]).await;
    let body = ask(json!({"temperature": 0, "max_tokens": 2, "logprobs": true, "top_logprobs": 2}));
    let answer = post(server.address, PATH, &body).await.json().await;
    let content = &answer["choices"][0]["logprobs"]["content"];
    assert_eq!(content.as_array().map(Vec::len), Some(2));
    let half = Value::from(-std::f32::consts::LN_2);
    let quarter = Value::from(-2.0 * std::f32::consts::LN_2);
    assert_eq!(
        content[0],
        json!({
            "token": "T", "logprob": half, "bytes": [84],
            "top_logprobs": [
                {"token": "T", "logprob": half, "bytes": [84]},
                {"token": "U", "logprob": quarter, "bytes": [85]},
            ],
        }),
    );
}

#[tokio::test]
async fn streamed_logprobs_come_with_their_text_and_end_with_it() {
    let server = Server::start(talking(), &[]).await;
    let body = ask(json!({
        "temperature": 0, "max_tokens": 40, "stop": "because", "stream": true, "logprobs": true,
    }));
    let events = post(server.address, PATH, &body).await.events().await;
    let entries = events.iter().filter_map(|it| it["choices"][0]["logprobs"]["content"].as_array());
    let bytes = entries.flatten().flat_map(|entry| entry["bytes"].as_array().expect("bytes"));
    let bytes = bytes.map(|it| u8::try_from(it.as_u64().expect("a number")).expect("a byte"));
    let text = String::from_utf8(bytes.collect()).expect("tokens make whole text");
    assert_eq!(text, "The river bends 🌊 ");
    assert_eq!(text, said(&events, 0));
}

#[tokio::test]
async fn parameters_reach_the_gateway() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let body = ask(json!({
        "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": -1,
        "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5,
        "seed": -1, "logprobs": true, "top_logprobs": 4, "ignore_eos": true,
        "stop_token_ids": [65],
    }));
    let address = server.address;
    let reply = tokio::spawn(async move { post(address, PATH, &body).await.json().await });
    let order = puppet.order().await;
    let sampling = &order.submission.sampling;
    assert_eq!((sampling.max_tokens, sampling.seed, sampling.top_k), (7, u64::MAX, 0));
    assert_eq!((sampling.temperature, sampling.top_p, sampling.min_p), (0.5, 0.9, 0.1));
    assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (1.0, -1.0));
    assert_eq!((sampling.repetition_penalty, sampling.logprobs), (1.5, Some(4)));
    assert_eq!(sampling.stop_tokens, [65]);
    order.token(65, Some(Finish::Stop));
    assert_eq!(reply.await.expect("no panic")["choices"][0]["message"]["content"], "");
}
