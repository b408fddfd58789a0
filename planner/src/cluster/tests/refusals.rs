//! What the operator reads when a file cannot be used.

use super::*;

/// A good file to spoil.
const GOOD: &str = r#"model = "llama-2-70b"
hosts = [
    { name = "a", machine = "A100", region = "eu" },
    { name = "b", machine = "L4", region = "us", count = 2 },
]
[network]
within_region = { bytes_per_second = 1e9 }
region_links = [{ between = ["eu", "us"], bytes_per_second = 1e7, latency_seconds = 0.05 }]
links = [{ from = "a", to = "b-0", bytes_per_second = 2e7 }]
[policy]
first_stage_hosts = ["a"]
"#;

/// Replaces `from` in the good file and compares the refusal.
#[track_caller]
fn refused(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "{from} is not in the file");
    let text = GOOD.replacen(from, to, 1);
    let error = parse(&text).and_then(|it| it.resolve(&Choice::default())).expect_err(to);
    let error = error.to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_good_file_is_good() {
    resolved(GOOD);
}

#[test]
fn keys_that_are_no_keys_are_named_with_their_line() {
    refused("[policy]", "[polices]", "TOML parse error at line 10");
    refused("count = 2", "cuont = 2", "unknown field `cuont`");
    refused("machine = \"L4\", ", "", "missing field `machine`");
    refused("count = 2", "count = -2", "line 4");
    refused("count = 2", "count = \"two\"", "invalid type: string \"two\", expected u32");
}

#[test]
fn numbers_that_cannot_be_meant_are_named() {
    let links = "network.region_links[0].bytes_per_second";
    let rates = "give bytes/s, up to 1e15; 0 means no link";
    for (number, shown) in [("nan", "NaN"), ("-1", "-1"), ("inf", "inf"), ("1e16", "1000000000000")]
    {
        let to = format!("bytes_per_second = {number}");
        refused("bytes_per_second = 1e7", &to, &format!("{links} = {shown}"));
        refused("bytes_per_second = 1e7", &to, rates);
    }
    let latency = "network.region_links[0].latency_seconds = -0.05: give seconds, 0 to 3600";
    refused("latency_seconds = 0.05", "latency_seconds = -0.05", latency);
    refused("count = 2", "count = 0", "hosts[1].count = 0: give hosts, 1 to 65536");
    refused("count = 2", "memory_bytes = 0", "hosts[1].memory_bytes = 0: give bytes, 1 to 1e15");
    refused("[policy]", "[workload]\noutput_tokens = 0\n[policy]", "workload.output_tokens = 0");
    refused("[policy]", "[prices]\nL4 = -1\n[policy]", "prices.L4 = -1: give dollars per hour");
    let many = "the cluster has 65537 hosts, above the limit of 65536; plan parts of it";
    refused("count = 2", "count = 65536", many);
}

#[test]
fn names_that_nothing_has_are_named_with_the_likeliest() {
    let machine = "hosts[1].machine = \"l4\": there is no such machine type; did you mean \"L4\"?";
    refused("\"L4\"", "\"l4\"", machine);
    let model = "model = \"llama-70b\": there is no such model; did you mean \"llama-2-70b\"?";
    refused("llama-2-70b", "llama-70b", model);
    let region = "network.region_links[0] = \"euu\": there is no such region; did you mean \"eu\"?";
    refused("[\"eu\"", "[\"euu\"", region);
    refused("to = \"b-0\"", "to = \"b\"", "network.links[0] = \"b\": there is no such host");
    let pinned = "policy.first_stage_hosts = \"b-7\": there is no such host; did you mean \"b-0\"?";
    refused("[\"a\"]", "[\"b-7\"]", pinned);
    refused(
        "[policy]",
        "[regions.eu]\n[policy]",
        "hosts[1].region = \"us\": there is no such region",
    );
    let provider = "[regions.eu]\nprovider = \"x\"\n[regions.us]\n[policy]";
    refused("[policy]", provider, "regions.eu.provider = \"x\": there is no such provider");
}

#[test]
fn things_that_are_there_twice_are_named() {
    let twice = "hosts[1].name = \"a\" is there twice; rename or remove one";
    refused(
        "\"b\", machine = \"L4\", region = \"us\", count = 2",
        "\"a\", machine = \"L4\"",
        twice,
    );
    let link = "{ from = \"a\", to = \"b-0\", bytes_per_second = 2e7 }";
    let both = format!("{link}, {{ between = [\"b-0\", \"a\"], bytes_per_second = 1 }}");
    refused(link, &both, "network.links[1] = \"a -> b-0\" is there twice");
}

#[test]
fn things_that_do_not_go_together_are_named() {
    refused("from = \"a\", to", "to", "network.links[0]: give either `between = [A, B]` or");
    refused("to = \"b-0\"", "to = \"a\"", "network.links[0]: \"a\" needs no link to itself");
    refused("name = \"a\"", "name = \"gateway\"", "\"gateway\" names no host");
    let all = "[policy]\nexcluded_hosts = [\"a\", \"b\"]";
    refused("[policy]", all, "policy: it leaves no host for llama-2-70b; allow at least one");
    let lengths = "[workload]\nprompt_tokens = 5\nlengths = [[1, 1, 1]]\n[policy]";
    refused("[policy]", lengths, "workload.lengths: prompt_tokens and output_tokens are given");
    let machine = "[machines.X]\nmemory_bytes = 1e9\nnic_bytes_per_second = 1e9\n\
                   load_bytes_per_second = 1e9\n[policy]";
    let text = GOOD.replace("\"L4\"", "\"X\"").replace("[policy]", machine);
    let error =
        parse(&text).expect("good TOML").resolve(&Choice::default()).expect_err("no profile");
    let expected = "profiles: nothing is known of llama-2-70b on X; add an entry with \
                    model = \"llama-2-70b\" and machine = \"X\"";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn curves_that_are_no_curves_are_named() {
    let spoilt = |curves: &str, expected: &str| {
        let head = "[[profiles]]\nmodel = \"llama-2-70b\"\nmachine = \"L4\"\n";
        refused("[policy]", &format!("{head}{curves}\n[policy]"), expected);
    };
    spoilt("", "profiles[0].kv_blocks: give blocks for one layer, two, ..., or tokens_per_second");
    spoilt("kv_blocks = [9]", "profiles[0].prefill_ms: give at least one [size, milliseconds]");
    let falling = "kv_blocks = [9]\nprefill_ms = [[2, 1], [1, 2]]\ndecode_ms = [[1, 1]]";
    spoilt(falling, "profiles[0].prefill_ms[1]: 1 after 2; sort the points, each size once");
    let free = "kv_blocks = [9]\nprefill_ms = [[1, 0]]\ndecode_ms = [[1, 1]]";
    spoilt(free, "profiles[0].prefill_ms[0][1] = 0: give milliseconds, 1e-9 to 1e9");
    spoilt("tokens_per_second = [1]\nkv_blocks = [1]", "profiles[0].prefill_ms: give at least one");
    let more = "tokens_per_second = [1]\nlast_tokens_per_second = [1, 2]";
    spoilt(more, "profiles[0].last_tokens_per_second: give as many numbers as tokens_per_second");
}

#[test]
fn a_file_without_hosts_or_model_says_so() {
    let of = |text: &str| parse(text).expect("good TOML").resolve(&Choice::default());
    let error = of("").expect_err("no hosts").to_string();
    assert_eq!(error, "the cluster has no hosts; add at least one to `hosts`");
    let error = of("hosts = [{ name = \"a\", machine = \"L4\" }]").expect_err("no model");
    let expected = "no model is named; set `model` or choose one of llama-1-30b, llama-2-70b";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_region_that_nothing_joins_is_noted() {
    let text = GOOD.replace("region_links", "# ").replace("links = [{", "# ");
    let found = resolved(&text);
    let expected = [
        "no host has a link from the gateway; see network.gateway and default",
        "no host has a link to the gateway; see network.gateway and default",
        "region eu has no link to or from another; see network.region_links",
        "region us has no link to or from another; see network.region_links",
    ];
    assert_eq!(found.notes, expected);
}
