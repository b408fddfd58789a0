//! However many hosts the model is split over, the tokens are the reference's.

#![allow(missing_docs, reason = "tests are read, not documented")]

use thalweg_tests::cluster::{Cluster, equal};
use thalweg_tests::golden;

/// Tokens compared per prompt.
const TOKENS: usize = 32;
/// Prompts of 5, 17, 12, 66 and 255 tokens: the last is longer than one chunk of prefill.
const CASES: [usize; 5] = [0, 5, 12, 18, 19];

/// Splits the model over `count` hosts. With `memory_mib` each, fewer could not hold it.
fn check(count: usize, memory_mib: u64) {
    let mut cluster = Cluster::serving(equal(count, memory_mib));
    let plan = cluster.status(0).plan.expect("the cluster serves");
    assert_eq!(plan.placement.len(), count, "{plan:?}");
    assert!(plan.placement.iter().all(|it| it.end > it.first), "{plan:?}");
    let cases = golden::cases();
    for (at, index) in CASES.into_iter().enumerate() {
        // Every host is a gateway.
        let found = cluster.client(at % count).tokens(&cases[index].prompt, TOKENS);
        assert_eq!(found.len(), TOKENS, "{count} hosts, case {index}: {found:?}");
        cases[index].check(&found, &format!("{count} hosts, case {index}"));
    }
}

#[test]
fn one_host() {
    check(1, 900);
}

#[test]
fn two_hosts() {
    check(2, 400);
}

#[test]
fn three_hosts() {
    check(3, 280);
}

#[test]
fn four_hosts() {
    check(4, 200);
}
