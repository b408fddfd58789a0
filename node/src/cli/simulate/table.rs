//! Outcomes as text.

use thalweg_sim::outcome::{HostOutcome, Outcome};

use super::Ran;

/// Everything of one run that fits a screen.
pub(super) fn one(ran: &Ran) -> String {
    let it = &ran.outcome;
    let (from, to) = it.window_seconds;
    let mut text = format!(
        "{} on {}, layers by {}, scheduled as {}; seconds {from} to {to}\n\n",
        it.model, it.cluster, it.placement, it.policy
    );
    text += &format!(
        "  decode  {:9.1} tokens/s\n  prompt  {:9.1} tokens/s\n\n",
        it.decode_tokens_per_second, it.prompt_tokens_per_second
    );
    text += "              mean       p50       p95\n";
    for (name, mean, p50, p95) in [
        ("TTFT", it.ttft_mean_seconds, it.ttft_p50_seconds, it.ttft_p95_seconds),
        ("TPOT", it.tpot_mean_seconds, it.tpot_p50_seconds, it.tpot_p95_seconds),
        ("queueing", it.queue_mean_seconds, it.queue_p50_seconds, it.queue_p95_seconds),
    ] {
        text += &format!("  {name:<8}{mean:8.3} s{p50:8.3} s{p95:8.3} s\n");
    }
    text += &format!(
        "\n  arrived {}, accepted {}, finished {}, rejected {}, replayed {}, preempted {}, lost {}\n",
        it.arrived, it.accepted, it.finished, it.rejected, it.replays, it.preempted, it.lost
    );
    text += "\nHOST            MACHINE    LAYERS   BUSY   STEPS   BATCH   PROMPT ROWS     KV\n";
    it.hosts.iter().filter(|it| it.layers.is_some()).for_each(|it| text += &host(it));
    text += &format!(
        "\n{} events in {:.1} s, {:.2} million a second\n",
        it.events,
        ran.wall_seconds,
        ran.events_per_second() / 1e6
    );
    text
}

fn host(it: &HostOutcome) -> String {
    let layers = it.layers.map_or(String::new(), |(first, end)| format!("{first}..{end}"));
    let HostOutcome { name, machine, utilisation, steps, batch_mean, .. } = it;
    let (rows, kv) = (it.prompt_rows_mean, it.kv_used_mean * 100.0);
    let busy = utilisation * 100.0;
    format!(
        "{name:<16}{machine:<9}{layers:>8}{busy:>5.0} %{steps:>8}{batch_mean:>8.1}{rows:>14.1}{kv:>5.0} %\n"
    )
}

/// First line of a table of outcomes.
pub(super) const HEADER: &str = "\
CLUSTER      MODEL         PLACEMENT         POLICY          DECODE/S  TTFT p50  TTFT p95 TPOT mean  TPOT p95 FINISHED REJECTED
";

/// One outcome as a line of the table.
pub(super) fn row(it: &Outcome) -> String {
    format!(
        "{:<13}{:<14}{:<18}{:<16}{:>8.1}{:>8.2} s{:>8.2} s{:>8.3} s{:>8.3} s{:>9}{:>9}",
        it.cluster,
        it.model,
        it.placement,
        it.policy,
        it.decode_tokens_per_second,
        it.ttft_p50_seconds,
        it.ttft_p95_seconds,
        it.tpot_mean_seconds,
        it.tpot_p95_seconds,
        it.finished,
        it.rejected
    )
}
