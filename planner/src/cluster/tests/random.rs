//! Whatever a file says, it is a plan's input or a refusal, never a panic.

use proptest::prelude::*;

use super::*;

/// Numbers as operators, typing errors and enemies give them.
fn number() -> impl Strategy<Value = f64> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0, 1e-300, 1e300, 1e15];
    prop_oneof![
        60 => 1.0..1e9_f64,
        30 => (1_u32..100).prop_map(f64::from),
        1 => proptest::sample::select(odd.to_vec()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let usual = proptest::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned);
    prop_oneof![30 => usual, 1 => "gateway|a-0|[a-z]{0,3}"]
}

fn machine() -> impl Strategy<Value = String> {
    prop_oneof![20 => Just("own".to_owned()), 1 => "A100|T4|H100"]
}

fn some<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(of)
}

fn host() -> impl Strategy<Value = HostEntry> {
    let parts = (name(), machine(), some(1_u32..20), some(name()), some(number()), some(number()));
    parts.prop_map(|(name, machine, count, region, memory_bytes, nic_bytes_per_second)| HostEntry {
        name,
        machine,
        count,
        region,
        memory_bytes,
        nic_bytes_per_second,
        price_per_hour: None,
    })
}

fn line() -> impl Strategy<Value = Line> {
    let parts = (number(), 0.0..1.0);
    parts.prop_map(|(bytes_per_second, latency_seconds)| Line { bytes_per_second, latency_seconds })
}

fn link() -> impl Strategy<Value = LinkEntry> {
    let ends = prop_oneof![
        8 => (name(), name()).prop_map(|it| (Some(it), None, None)),
        8 => (name(), name()).prop_map(|(from, to)| (None, Some(from), Some(to))),
        1 => (some((name(), name())), some(name()), some(name())),
    ];
    (ends, line()).prop_map(|((between, from, to), line)| LinkEntry {
        between,
        from,
        to,
        bytes_per_second: line.bytes_per_second,
        latency_seconds: line.latency_seconds,
    })
}

fn network() -> impl Strategy<Value = NetworkEntry> {
    let links = || prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(link(), 1..3)];
    let gateway_region = prop_oneof![3 => Just(None), 1 => some(name())];
    (some(line()), some(line()), gateway_region, (links(), links())).prop_map(
        |(default, gateway, gateway_region, (region_links, links))| NetworkEntry {
            default,
            within_region: None,
            gateway,
            gateway_region,
            region_links,
            links,
            shared: Vec::new(),
        },
    )
}

fn model() -> impl Strategy<Value = Model> {
    (1_u32..40, proptest::array::uniform4(number()), some((number(), number(), 0.0..9.0))).prop_map(
        |(layers, bytes, ends)| {
            let (embedding_bytes, head_bytes, head_layers) = ends.unwrap_or_default();
            let [layer_bytes, activation_bytes, token_bytes, kv_bytes_per_token_layer] = bytes;
            Model {
                layers,
                layer_bytes,
                activation_bytes,
                token_bytes,
                kv_bytes_per_token_layer,
                embedding_bytes,
                head_bytes,
                head_layers,
            }
        },
    )
}

fn profile() -> impl Strategy<Value = ProfileEntry> {
    let curve = || {
        proptest::collection::vec((number(), number()), 1..3).prop_map(|mut points| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        })
    };
    let list = || proptest::collection::vec(number(), 0..6);
    (proptest::bool::ANY, list(), curve(), curve(), some(number())).prop_map(
        |(listed, list, prefill_ms, decode_ms, start_layer_tokens_per_second)| {
            let own = ProfileEntry {
                model: "own".to_owned(),
                machine: "own".to_owned(),
                start_layer_tokens_per_second,
                ..ProfileEntry::default()
            };
            if listed {
                ProfileEntry { tokens_per_second: list, ..own }
            } else {
                ProfileEntry { kv_blocks: list, prefill_ms, decode_ms, ..own }
            }
        },
    )
}

pub(super) fn file() -> impl Strategy<Value = ClusterFile> {
    let hosts = proptest::collection::vec(host(), 1..4);
    let lengths = (some(number()), some(number()));
    (hosts, lengths, network(), model(), profile(), proptest::array::uniform3(number())).prop_map(
        |(hosts, (prompt_tokens, output_tokens), network, model, profile, [memory, nic, load])| {
            let machine = Machine {
                memory_bytes: memory,
                nic_bytes_per_second: nic,
                load_bytes_per_second: load,
            };
            ClusterFile {
                model: Some("own".to_owned()),
                hosts,
                workload: Demand { prompt_tokens, output_tokens, ..Demand::default() },
                network,
                machines: [("own".to_owned(), machine)].into(),
                models: [("own".to_owned(), model)].into(),
                profiles: vec![profile],
                ..ClusterFile::default()
            }
        },
    )
}

fn sound(found: &Resolved) -> bool {
    let it = &found.instance;
    let rates = it.classes.iter().all(|class| {
        (1..=it.layers).all(|count| {
            let ranges = [(0, count), (it.layers - count, it.layers)];
            ranges.into_iter().all(|(first, end)| {
                let range = LayerRange::new(first, end).expect("not empty");
                let rate = class.rates.of(range, it.layers);
                rate.is_finite() && rate >= 0.0
            })
        })
    });
    let links = (0..it.hosts.len())
        .all(|at| it.wire(at, 0).is_none_or(|it| it.tokens_per_second.is_finite()));
    rates && links && !it.hosts.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_structure_is_resolved_or_refused(file in file()) {
        if let Ok(found) = file.resolve(&Choice::default()) {
            prop_assert!(sound(&found), "{found:?}");
        }
    }

    /// What is written can be read, unless it cannot be compared with itself.
    #[test]
    fn what_is_written_is_read_again(file in file()) {
        let text = file.to_toml();
        let again = parse(&text).expect("our own words");
        prop_assert_eq!(again.to_toml(), text);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-z\\[\\]{}=\", \n0-9.-]{0,80}") {
        if let Ok(file) = parse(&text) {
            prop_assert!(file.resolve(&Choice::default()).is_err());
        }
    }

    #[test]
    fn a_spoilt_tour_is_parsed_or_refused(at in 0_usize..3000, with in "[a-z\\[\\]{}=\", \n0-9.-]{0,3}") {
        let at = (0..=at.min(TOUR.len())).rev().find(|it| TOUR.is_char_boundary(*it));
        let (before, after) = TOUR.split_at(at.expect("zero is a boundary"));
        let text = format!("{before}{with}{}", after.get(with.len()..).unwrap_or_default());
        if let Ok(found) = parse(&text).and_then(|it| it.resolve(&Choice::default())) {
            prop_assert!(sound(&found));
        }
    }
}
