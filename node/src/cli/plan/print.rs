//! A plan for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use thalweg_planner::cluster::Resolved;
use thalweg_planner::report::{ChargeName, Report};

/// Hosts listed at most; `--json` has them all.
const HOSTS_MAX: usize = 64;

/// Width of the layer axis at most, in characters.
const AXIS_CHARS_MAX: u32 = 80;

/// A plan as lines of text, with the placement as bars over the layer axis.
pub(super) fn plan(resolved: &Resolved, report: &Report) -> String {
    let mut text = head(resolved, report);
    let mut held: Vec<_> = report.placement.iter().collect();
    held.sort_by_key(|it| (it.first, it.end));
    let names = held.iter().map(|it| it.host.chars().count()).max().unwrap_or(0);
    let mut through: BTreeMap<&str, f64> = BTreeMap::new();
    for weight in &report.weights {
        *through.entry(&weight.to).or_default() += weight.tokens_per_second;
    }
    for it in held.iter().take(HOSTS_MAX) {
        let bar = bar(it.first, it.end, resolved.instance.layers);
        let range = format!("{}..{}", it.first, it.end);
        let rate = through.get(it.host.as_str()).copied().unwrap_or(0.0);
        let steps = match (it.chunk_tokens, it.micro_batches) {
            (Some(tokens), Some(groups)) => {
                format!(", steps of {tokens} prompt tokens and one of {groups} decode groups")
            }
            (Some(tokens), None) => format!(", steps of {tokens} prompt tokens"),
            (None, _) => String::new(),
        };
        let host = &it.host;
        line(
            &mut text,
            format_args!("{host:names$}  {bar}  {range:>7}  {rate:.0} tokens/s{steps}"),
        );
    }
    if held.len() > HOSTS_MAX {
        let more = held.len() - HOSTS_MAX;
        line(&mut text, format_args!("and {more} more hosts; `--json` lists all"));
    }
    text
}

fn head(resolved: &Resolved, report: &Report) -> String {
    let charge = match report.charge {
        ChargeName::FullCharge => "full charge",
        ChargeName::WorkCharge => "work charge",
    };
    let (hosts, layers) = (resolved.instance.hosts.len(), resolved.instance.layers);
    let Report { model, method, flow, bound, bottleneck, depth, seconds, .. } = report;
    let gap = report.gap * 100.0;
    let mut text = String::new();
    line(&mut text, format_args!("model   {model}, {layers} layers on {hosts} hosts, by {method}"));
    line(
        &mut text,
        format_args!(
            "flow    {flow:.1} tokens/s ({charge}); no placement exceeds {bound:.1}, gap {gap:.2} %"
        ),
    );
    line(&mut text, format_args!("limit   {bottleneck}"));
    if let Some(loss) = &report.worst_loss {
        let share = (loss.share * 100.0).max(0.0);
        line(&mut text, format_args!("loss    without {} {share:.0} % of it is left", loss.host));
    }
    line(&mut text, format_args!("depth   {depth:.1} hosts per token; found in {seconds:.1} s"));
    report.notes.iter().for_each(|it| line(&mut text, format_args!("note    {it}")));
    text.push('\n');
    text
}

/// Adds a line.
pub(super) fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

/// Each character stands for one layer, or for several of a tall model; a part of them counts.
fn bar(first: u32, end: u32, layers: u32) -> String {
    let width = u64::from(layers.min(AXIS_CHARS_MAX));
    let layers = u64::from(layers.max(1));
    let held = |at: u64| {
        let (from, to) = (at * layers / width, ((at + 1) * layers).div_ceil(width));
        u64::from(first) < to && from < u64::from(end)
    };
    (0..width).map(|at| if held(at) { '█' } else { '·' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_every_layer_and_fit_the_axis() {
        assert_eq!(bar(1, 3, 4), "·██·");
        let tall = bar(125, 126, 126);
        assert_eq!(tall.chars().count(), AXIS_CHARS_MAX as usize);
        assert!(tall.ends_with('█'));
    }
}
