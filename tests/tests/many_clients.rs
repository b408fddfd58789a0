//! Clients beside each other, clients that leave, memory, and requests that are wrong.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::thread;

use serde_json::{Value, json};
use thalweg::http::{ClusterStatus, PlacedStatus};
use thalweg_engine::{KvType, ModelSource, Precision};
use thalweg_tests::cluster::{CONTEXT_TOKENS, Cluster, equal, model};
use thalweg_tests::{golden, official};

/// Memory of each of two hosts, neither of which holds the model alone.
const MEMORY_MIB: u64 = 400;
/// Resident memory allowed beside weights and used KV: program, model file pages, buffers.
const BESIDE_BYTES: u64 = 150_000_000;
/// Streams at the same time.
const STREAMS: usize = 16;
/// Tokens of each of them.
const STREAM_TOKENS: usize = 12;

#[test]
fn concurrent_streams_say_what_each_says_alone() {
    let cluster = Cluster::serving(equal(2, MEMORY_MIB));
    let prompts: Vec<_> = golden::cases().into_iter().take(STREAMS).map(|it| it.prompt).collect();
    let alone: Vec<_> =
        prompts.iter().map(|it| cluster.client(0).tokens(it, STREAM_TOKENS)).collect();
    let together: Vec<Vec<String>> = thread::scope(|scope| {
        let start = |at: usize| {
            let (client, prompt) = (cluster.client(at % 2), &prompts[at]);
            scope.spawn(move || {
                let pieces: Result<Vec<_>, _> = client.stream(prompt, STREAM_TOKENS).collect();
                pieces.expect("the stream ends well").concat()
            })
        };
        let running: Vec<_> = (0..prompts.len()).map(start).collect();
        running.into_iter().map(|it| it.join().expect("the stream is read")).collect()
    });
    assert_eq!(together.len(), STREAMS);
    assert!(alone.iter().all(|it| it.len() == STREAM_TOKENS), "{alone:?}");
    assert_eq!(together, alone);
}

#[test]
fn official_client_understands_a_cluster() {
    let cluster = Cluster::serving(equal(2, MEMORY_MIB));
    official::check(cluster.client(1).base(), &[]);
}

#[test]
fn what_a_client_held_is_freed_when_it_leaves() {
    let mut cluster = Cluster::serving(equal(2, MEMORY_MIB));
    // Heartbeats from before the layers were loaded tell of no room at all.
    let idle = cluster.until(0, |it| kv_free(it).filter(|it| it.iter().all(|&free| free > 0)));
    let prompt = &golden::cases()[0].prompt;
    let mut stream = cluster.client(0).stream(prompt, CONTEXT_TOKENS as usize / 2);
    let first = stream.next().expect("a long answer has a first piece");
    assert!(!first.expect("the stream is well").is_empty());
    cluster.until(0, |it| (requests(it)? == [1, 1] && less(&kv_free(it)?, &idle)).then_some(()));
    drop(stream);
    cluster.until(0, |it| (requests(it)? == [0, 0] && kv_free(it)? == idle).then_some(()));
}

fn kv_free(status: &ClusterStatus) -> Option<Vec<u64>> {
    status.hosts.iter().map(|it| it.kv_free_tokens).collect()
}

fn requests(status: &ClusterStatus) -> Option<Vec<u32>> {
    status.hosts.iter().map(|it| it.requests).collect()
}

fn less(now: &[u64], idle: &[u64]) -> bool {
    now.iter().zip(idle).all(|(now, idle)| now < idle)
}

#[test]
fn resident_memory_is_weights_and_used_kv() {
    let mut cluster = Cluster::serving(equal(2, MEMORY_MIB));
    let case = &golden::cases()[19];
    let found = cluster.client(0).tokens(&case.prompt, 16);
    case.check(&found, "two hosts");
    let status = cluster.status(0);
    let plan = status.plan.expect("the cluster serves");
    let tokens = (case.prompt.len() + found.len()) as u64;
    for placed in &plan.placement {
        let index = usize::from(placed.host == "h2");
        assert_eq!(placed.host, format!("h{}", index + 1));
        let allowed = share_bytes(placed, tokens) + BESIDE_BYTES;
        let resident = cluster.memory_bytes(index, "VmRSS");
        assert!(resident <= allowed, "{placed:?}: {resident} bytes resident, {allowed} allowed");
    }
}

/// Weights of a host's part, and the KV of one request of `tokens` in it.
fn share_bytes(placed: &PlacedStatus, tokens: u64) -> u64 {
    let source = ModelSource::open(&model()).unwrap_or_else(|error| panic!("{error}"));
    let shape = source.shape(CONTEXT_TOKENS, Precision::F32, KvType::F32);
    let layers = &shape.layer_bytes[placed.first as usize..placed.end as usize];
    let mut bytes: u64 = layers.iter().map(|it| it.0).sum();
    bytes += layers.len() as u64 * tokens.next_multiple_of(16) * shape.kv_bytes_per_token_layer.0;
    if placed.first == 0 {
        bytes += shape.embedding_bytes.0;
    }
    if placed.end == shape.layers {
        bytes += shape.head_bytes.0;
    }
    bytes
}

#[test]
fn wrong_requests_are_refused_and_right_ones_still_answered() {
    let cluster = Cluster::serving(equal(1, 900));
    let client = cluster.client(0);
    let (code, answer) = client.post("/v1/completions", "{\"prompt\": \"The cap");
    assert_eq!(code, 400, "{answer}");
    assert!(message(&answer).contains("not valid JSON"), "{answer}");
    let prompt = vec![1; CONTEXT_TOKENS as usize + 1];
    let (code, answer) = client.post("/v1/completions", &json!({"prompt": prompt}).to_string());
    assert_eq!(code, 400, "{answer}");
    assert_eq!(answer["error"]["code"], "context_length_exceeded", "{answer}");
    let said = message(&answer);
    assert!(said.contains("2048") && said.contains("2049"), "{answer}");
    let case = &golden::cases()[0];
    case.check(&client.tokens(&case.prompt, 8), "after wrong requests");
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_default()
}
