//! Numbers that cannot be meant.

use super::{
    ArrivalsEntry, BoundsEntry, FaultEntry, LengthsEntry, LimitsEntry, ScenarioError, ScenarioFile,
};

/// Largest time of a scenario: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;
/// Largest rate of arrivals.
const RATE_MAX: f64 = 1e6;
/// Largest number of users, requests in flight or requests waiting.
const REQUESTS_MAX: u32 = 1_000_000;
/// Longest prompt or answer.
const TOKENS_MAX: u32 = 1 << 20;

type Checked = Result<(), ScenarioError>;

/// Checks every number of a scenario.
pub(super) fn check(file: &ScenarioFile) -> Checked {
    let (from, to) = file.window_seconds;
    time("window_seconds", from)?;
    time("window_seconds", to)?;
    if to <= from {
        return number("window_seconds", to, "an end behind the beginning");
    }
    arrivals(&file.workload.arrivals)?;
    lengths(&file.workload.lengths)?;
    if let Some(it) = file.workload.prefixes {
        let key = "workload.prefixes";
        between(&format!("{key}.share"), it.share, 0.0, 1.0, "a share between 0 and 1")?;
        count(&format!("{key}.count"), it.count, REQUESTS_MAX)?;
        count(&format!("{key}.tokens"), it.tokens, TOKENS_MAX)?;
    }
    if let Some(it) = file.workload.longer {
        let key = "workload.longer";
        between(&format!("{key}.factor"), it.factor, 1e-3, 1e3, "a factor between 0.001 and 1000")?;
        time(&format!("{key}.from_seconds"), it.from_seconds)?;
        time(&format!("{key}.to_seconds"), it.to_seconds)?;
    }
    for (name, it) in &file.overheads {
        let key = |of: &str| format!("overheads.{name}.{of}");
        between(&key("share"), it.share, 0.0, 0.99, "a share between 0 and 0.99")?;
        for (name, value) in [("step_ms", it.step_ms), ("part_ms", it.part_ms)] {
            between(&key(name), value, 0.0, 1e6, "a time from 0 up to 1000000 ms")?;
        }
    }
    for (name, value) in
        [("ttft_seconds", file.targets.ttft_seconds), ("tpot_seconds", file.targets.tpot_seconds)]
    {
        value.map_or(Ok(()), |it| time(&format!("targets.{name}"), it))?;
    }
    bounds(&file.bounds)?;
    limits(&file.limits)?;
    time("replan.delay_seconds", file.replan.delay_seconds)?;
    file.faults.iter().enumerate().try_for_each(|(at, it)| fault(&format!("faults[{at}]"), it))
}

fn arrivals(entry: &ArrivalsEntry) -> Checked {
    let key = |name: &str| format!("workload.arrivals.{name}");
    let rate = |value: f64| {
        positive(&key("requests_per_second"), value, RATE_MAX, "a rate above 0 and up to a million")
    };
    let long = |name: &str, value: f64| {
        positive(&key(name), value, SECONDS_MAX, "a time above 0 and up to a year")
    };
    match *entry {
        ArrivalsEntry::Poisson { requests_per_second } => rate(requests_per_second),
        ArrivalsEntry::Bursts { requests_per_second, every_seconds, lasting_seconds, factor } => {
            rate(requests_per_second)?;
            long("every_seconds", every_seconds)?;
            long("lasting_seconds", lasting_seconds)?;
            between(&key("factor"), factor, 1.0, 1e3, "a factor between 1 and 1000")
        }
        ArrivalsEntry::Diurnal { requests_per_second, period_seconds, depth } => {
            rate(requests_per_second)?;
            long("period_seconds", period_seconds)?;
            between(&key("depth"), depth, 0.0, 1.0, "a share between 0 and 1")
        }
        ArrivalsEntry::Recorded { .. } => Ok(()),
        ArrivalsEntry::Users { count: users, start, ramp_seconds, pause_seconds } => {
            count(&key("count"), users, REQUESTS_MAX)?;
            let (begin, most) = (f64::from(start.unwrap_or(users)), f64::from(users));
            between(
                &key("start"),
                begin,
                1.0,
                most,
                "at least one user, and no more than `count`",
            )?;
            time(&key("ramp_seconds"), ramp_seconds)?;
            time(&key("pause_seconds"), pause_seconds)
        }
        ArrivalsEntry::Backlog { in_flight_max, waiting } => {
            count(&key("in_flight_max"), in_flight_max, REQUESTS_MAX)?;
            count(&key("waiting"), waiting, REQUESTS_MAX)
        }
    }
}

fn lengths(entry: &LengthsEntry) -> Checked {
    let LengthsEntry::Fixed { prompt_tokens, output_tokens } = *entry else { return Ok(()) };
    count("workload.lengths.prompt_tokens", prompt_tokens, TOKENS_MAX)?;
    count("workload.lengths.output_tokens", output_tokens, TOKENS_MAX)
}

fn bounds(entry: &BoundsEntry) -> Checked {
    let BoundsEntry { batch_max, chunk_tokens, step_ms, requests_max, micro_batches } = *entry;
    batch_max.map_or(Ok(()), |it| count("bounds.batch_max", it, REQUESTS_MAX))?;
    chunk_tokens.map_or(Ok(()), |it| count("bounds.chunk_tokens", it, TOKENS_MAX))?;
    requests_max.map_or(Ok(()), |it| count("bounds.requests_max", it, REQUESTS_MAX))?;
    micro_batches.map_or(Ok(()), |it| count("bounds.micro_batches", it, REQUESTS_MAX))?;
    let milliseconds = "a time above 0 and up to 1000000 ms";
    step_ms.map_or(Ok(()), |it| positive("bounds.step_ms", it, 1e6, milliseconds))
}

fn limits(entry: &LimitsEntry) -> Checked {
    let LimitsEntry { context_tokens, waiting_max, .. } = *entry;
    context_tokens.map_or(Ok(()), |it| count("limits.context_tokens", it, TOKENS_MAX))?;
    waiting_max.map_or(Ok(()), |it| count("limits.waiting_max", it, REQUESTS_MAX))?;
    for (name, value) in [
        ("patience_seconds", entry.patience_seconds),
        ("stall_seconds", entry.stall_seconds),
        ("heartbeat_seconds", entry.heartbeat_seconds),
        ("suspect_seconds", entry.suspect_seconds),
        ("dead_seconds", entry.dead_seconds),
        ("look_seconds", entry.look_seconds),
    ] {
        // A heartbeat every nanosecond would never end.
        let Some(value) = value else { continue };
        between(&format!("limits.{name}"), value, 1e-3, SECONDS_MAX, "0.001 s to a year")?;
    }
    match (entry.suspect_seconds, entry.dead_seconds) {
        (Some(suspect), Some(dead)) if dead < suspect => {
            number("limits.dead_seconds", dead, "no less than suspect_seconds")
        }
        _ => Ok(()),
    }
}

fn fault(key: &str, entry: &FaultEntry) -> Checked {
    time(&format!("{key}.at_seconds"), entry.at_seconds)?;
    let share = "a share above 0, up to 1000";
    if let Some(keeps) = entry.links.as_ref().and_then(|it| it.keeps) {
        positive(&format!("{key}.links.keeps"), keeps, 1e3, share)?;
    }
    if let Some(loss) = entry.links.as_ref().and_then(|it| it.loss) {
        between(&format!("{key}.links.loss"), loss, 0.0, 0.99, "a share between 0 and 0.99")?;
    }
    let shared = entry.shared.as_ref();
    shared.map_or(Ok(()), |it| positive(&format!("{key}.shared.keeps"), it.keeps, 1e3, share))
}

fn time(key: &str, value: f64) -> Checked {
    between(key, value, 0.0, SECONDS_MAX, "seconds from 0 up to a year")
}

fn count(key: &str, value: u32, most: u32) -> Checked {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    number(key, f64::from(value), "a number from 1 up to a million")
}

fn positive(key: &str, value: f64, most: f64, expected: &'static str) -> Checked {
    if value > 0.0 && value <= most { Ok(()) } else { number(key, value, expected) }
}

fn between(key: &str, value: f64, least: f64, most: f64, expected: &'static str) -> Checked {
    if (least..=most).contains(&value) { Ok(()) } else { number(key, value, expected) }
}

fn number(key: &str, value: f64, expected: &'static str) -> Checked {
    Err(ScenarioError::Number { key: key.to_owned(), value, expected })
}
