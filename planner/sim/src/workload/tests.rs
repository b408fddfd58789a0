use super::*;
use crate::agenda::SECOND;

fn workload(arrivals: Arrivals) -> Workload {
    Workload {
        arrivals,
        lengths: Lengths::AzureConversation,
        prefixes: None,
        longer: None,
        seed: 3,
    }
}

fn arrivals(arrivals: Arrivals, gateways: usize, until: Nanos) -> Vec<(Nanos, usize)> {
    let mut source = Source::new(workload(arrivals), gateways);
    let (mut now, mut found) = (0, Vec::new());
    while let Some((at, gateway)) = source.next_arrival(now).filter(|it| it.0 < until) {
        found.push((at, gateway));
        now = at;
    }
    found
}

#[test]
fn poisson_arrivals_come_at_their_rate() {
    let found = arrivals(Arrivals::Poisson { per_second: 5.0 }, 1, 10_000 * SECOND);
    assert!((found.len() as f64 / 50_000.0 - 1.0).abs() < 0.02, "{}", found.len());
    let waits = found.windows(2).map(|it| seconds(it[1].0 - it[0].0));
    let above_mean = waits.filter(|&it| it > 0.2).count() as f64 / found.len() as f64;
    assert!((above_mean - (-1.0_f64).exp()).abs() < 0.01, "exponential: {above_mean}");
}

#[test]
fn bursts_are_bursts() {
    let bursts = Arrivals::Bursts {
        per_second: 1.0,
        every_seconds: 100.0,
        lasting_seconds: 10.0,
        factor: 9.0,
    };
    let found = arrivals(bursts, 1, 10_000 * SECOND);
    let inside = found.iter().filter(|it| it.0 % (100 * SECOND) < 10 * SECOND).count() as f64;
    assert!((inside / 9_000.0 - 1.0).abs() < 0.05, "{inside}");
    assert!(((found.len() as f64 - inside) / 9_000.0 - 1.0).abs() < 0.05);
}

#[test]
fn day_moves_from_gateway_to_gateway() {
    let diurnal = Arrivals::Diurnal { per_second: 4.0, period_seconds: 1000.0, depth: 1.0 };
    let found = arrivals(diurnal, 2, 10_000 * SECOND);
    assert!((found.len() as f64 / 40_000.0 - 1.0).abs() < 0.03, "{}", found.len());
    let morning = |gateway: usize| {
        let first_half =
            |it: &&(Nanos, usize)| it.1 == gateway && it.0 % (1000 * SECOND) < 500 * SECOND;
        found.iter().filter(first_half).count() as f64
    };
    // The mean of 1 + sin over a half wave is 1 + 2 / pi.
    assert!((morning(0) / (10_000.0 * (1.0 + 2.0 / std::f64::consts::PI)) - 1.0).abs() < 0.05);
    assert!(morning(1) < 0.5 * morning(0));
}

#[test]
fn the_nth_request_is_the_same_whoever_asks_when() {
    let asks = |arrivals, at: Nanos| {
        let mut source = Source::new(workload(arrivals), 1);
        source.next_arrival(0);
        (0..100).map(|_| source.ask(at)).collect::<Vec<_>>()
    };
    let closed = Arrivals::Users { count: 9, start: 9, ramp_seconds: 0.0, pause_seconds: 0.0 };
    assert_eq!(asks(Arrivals::Poisson { per_second: 1.0 }, 5), asks(closed, 77));
}

#[test]
fn users_begin_by_themselves_or_after_others() {
    let users = Arrivals::Users { count: 5, start: 2, ramp_seconds: 4e-9, pause_seconds: 0.0 };
    let mut source = Source::new(workload(users), 1);
    assert_eq!(source.users(), [0, 2]);
    let more = [(); 5].map(|()| source.next_user());
    assert_eq!(more, [true, true, true, false, false]);
    let mut source = Source::new(workload(Arrivals::Poisson { per_second: 1.0 }), 1);
    assert!(source.users().is_empty() && !source.next_user());
}

#[test]
fn longer_prompts_come_only_in_their_time() {
    let longer = Longer { factor: 4.0, from: 10, to: 20 };
    let lengths = Lengths::Fixed(Length { prompt: 100, output: 7 });
    let arrivals = Arrivals::Poisson { per_second: 1.0 };
    let workload = Workload { lengths, longer: Some(longer), ..workload(arrivals) };
    let mut source = Source::new(workload, 1);
    let prompts = [9, 10, 19, 20].map(|at| source.ask(at).length.prompt);
    assert_eq!(prompts, [100, 400, 400, 100]);
}

#[test]
fn prompts_share_what_they_should_and_nothing_else() {
    let prefixes = Prefixes { share: 0.5, count: 2, tokens: 30 };
    let lengths = Lengths::Fixed(Length { prompt: 10, output: 7 });
    let arrivals = Arrivals::Poisson { per_second: 1.0 };
    let mut source =
        Source::new(Workload { lengths, prefixes: Some(prefixes), ..workload(arrivals) }, 1);
    let asks: Vec<Ask> = (0..1000).map(|_| source.ask(0)).collect();
    let shared = asks.iter().filter(|it| it.prefix.is_some()).count();
    assert!((450..550).contains(&shared), "{shared}");
    for ask in &asks {
        let prompt = ask.prompt();
        assert_eq!(prompt.len(), if ask.prefix.is_some() { 40 } else { 10 });
        let alike = |other: &&Ask| other.prompt()[0] == prompt[0];
        let same = asks.iter().filter(alike).count();
        match ask.prefix {
            Some(prefix) => {
                assert_eq!(same, asks.iter().filter(|it| it.prefix == Some(prefix)).count());
            }
            None => assert_eq!(same, 1),
        }
    }
}
