//! More requests at once than KV has room for: all end, and say what each says alone.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::thread;

use thalweg_tests::cluster::{Cluster, equal};
use thalweg_tests::golden::{self, Case};

/// Memory of each of four hosts: weights, and KV for about a third of the requests.
const MEMORY_MIB: u64 = 176;
const HOSTS: usize = 4;
/// Clients at the same time.
const REQUESTS: usize = 64;
/// Tokens of each answer: as many as the reference has.
const TOKENS: usize = 64;
/// Longest prompt used, in tokens, so that the answers are what fills the blocks.
const PROMPT_MAX: usize = 24;

#[test]
fn requests_beyond_the_kv_give_way_and_lose_nothing() {
    let mut cluster = Cluster::serving(equal(HOSTS, MEMORY_MIB));
    let cases: Vec<Case> =
        golden::cases().into_iter().filter(|it| it.prompt.len() <= PROMPT_MAX).collect();
    let room = cluster.until(0, |status| {
        let free: Option<Vec<u64>> = status.hosts.iter().map(|it| it.kv_free_tokens).collect();
        free?.into_iter().min().filter(|&it| it > 0)
    });
    let prompts: usize = cases.iter().map(|it| it.prompt.len()).sum();
    let fit = room as usize / (prompts / cases.len() + TOKENS);
    assert!((10..=30).contains(&fit), "KV for {fit} of {REQUESTS} requests");
    let answers: Vec<(usize, Vec<String>)> = thread::scope(|scope| {
        let ask = |at: usize| {
            let (client, index) = (cluster.client(at % HOSTS), at % cases.len());
            let prompt = &cases[index].prompt;
            scope.spawn(move || (index, client.tokens_in_turn(prompt, TOKENS)))
        };
        let running: Vec<_> = (0..REQUESTS).map(ask).collect();
        running.into_iter().map(|it| it.join().expect("every request ends")).collect()
    });
    for (at, (case, found)) in answers.iter().enumerate() {
        assert_eq!(found.len(), TOKENS, "request {at}");
        cases[*case].check(found, &format!("request {at} of {REQUESTS}"));
    }
    let sum = |name| (0..HOSTS).map(|it| cluster.client(it).metric(name)).sum::<f64>();
    let preemptions = sum("vllm:num_preemptions_total");
    assert!(preemptions > 0.0, "all {REQUESTS} fit at once");
    println!("KV for {fit} of {REQUESTS} requests, {preemptions} preemptions");
}
