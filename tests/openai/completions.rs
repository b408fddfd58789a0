//! `POST /v1/completions`.

use serde_json::{Value, json};
use thalweg_wire::Finish;

use super::client::post;
use super::fake::{MODEL, Puppet, Server, talking};

const PATH: &str = "/v1/completions";

/// A greedy request of a few tokens, with other fields.
async fn answer(server: &Server, more: Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": "Say: ", "max_tokens": 9, "temperature": 0});
    let fields = more.as_object().expect("fields").clone();
    body.as_object_mut().expect("an object").extend(fields);
    post(server.address, PATH, &body).await.json().await
}

#[tokio::test]
async fn answer_has_openai_shape() {
    let server = Server::start(talking(), &[]).await;
    let answer = answer(&server, json!({})).await;
    assert_eq!(answer["object"], "text_completion");
    let choice =
        json!({"index": 0, "text": "The river", "logprobs": null, "finish_reason": "length"});
    assert_eq!(answer["choices"], json!([choice]));
    let usage = json!({"prompt_tokens": 6, "completion_tokens": 9, "total_tokens": 15});
    assert_eq!(answer["usage"], usage);
}

#[tokio::test]
async fn sixteen_tokens_are_the_default() {
    let server = Server::start(talking(), &[]).await;
    let answer = answer(&server, json!({"max_tokens": null})).await;
    assert_eq!(answer["choices"][0]["text"], "The river bends ");
}

#[tokio::test]
async fn prompts_are_numbered_before_their_answers() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &[]).await;
    let body = json!({"prompt": [[1, 2], [3]], "n": 2, "max_tokens": 1});
    let address = server.address;
    let reply = tokio::spawn(async move { post(address, PATH, &body).await.json().await });
    for text in ["a", "b", "c", "d"] {
        let order = puppet.order().await;
        let expected: &[u32] = if text < "c" { &[1, 2] } else { &[3] };
        assert_eq!(order.submission.prompt, expected);
        order.say(text, Some(Finish::Length));
    }
    let answer = reply.await.expect("the request does not panic");
    let texts = (0..4).map(|index| answer["choices"][index]["text"].clone());
    assert_eq!(texts.collect::<Vec<_>>(), [json!("a"), json!("b"), json!("c"), json!("d")]);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn echo_repeats_the_prompt() {
    let server = Server::start(talking(), &[]).await;
    let whole = answer(&server, json!({"echo": true})).await;
    assert_eq!(whole["choices"][0]["text"], "Say: The river");
    let body = json!({"prompt": "Say: ", "echo": true, "stream": true, "temperature": 0,
                      "max_tokens": 3});
    let events = post(server.address, PATH, &body).await.events().await;
    let texts = events.iter().filter_map(|event| event["choices"][0]["text"].as_str());
    assert_eq!(texts.collect::<String>(), "Say: The");
}

#[tokio::test]
async fn logprobs_are_four_lists_side_by_side() {
    let server = Server::start(talking(), &[]).await;
    let answer = answer(&server, json!({"logprobs": 2, "max_tokens": 2})).await;
    let half = -std::f32::consts::LN_2;
    let quarter = 2.0 * half;
    assert_eq!(
        answer["choices"][0]["logprobs"],
        json!({
            "tokens": ["T", "h"],
            "token_logprobs": [half, half],
            "top_logprobs": [{"T": half, "U": quarter}, {"h": half, "i": quarter}],
            "text_offset": [0, 1],
        }),
    );
}

#[tokio::test]
async fn offsets_count_characters() {
    let server = Server::start(talking(), &[]).await;
    // "The river bends " are 16 tokens, the wave is four, then a space.
    let answer = answer(&server, json!({"logprobs": 0, "max_tokens": 21})).await;
    let offsets = answer["choices"][0]["logprobs"]["text_offset"].as_array().expect("offsets");
    let last = offsets[16..].iter().map(|it| it.as_u64().expect("a number"));
    assert_eq!(last.collect::<Vec<_>>(), [16, 16, 16, 16, 17]);
}

#[tokio::test]
async fn kept_stop_string_ends_the_text() {
    let server = Server::start(talking(), &[]).await;
    let fields = json!({"stop": "riv", "include_stop_str_in_output": true});
    assert_eq!(answer(&server, fields).await["choices"][0]["text"], "The riv");
}
