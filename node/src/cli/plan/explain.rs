//! What a plan depends on: layers, crossings, errors of measurement.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::report::{ChargeName, Report};
use thalweg_planner::sensitivity::{self, Disturbance, Kept};

use super::interrupt::Interrupt;
use super::print::line;
use super::search;

/// Stretches of layers shown at most.
const STRETCHES_MAX: usize = 24;

/// Explains a plan: coverage of the layers, traffic between regions, hosts with room.
pub(super) fn plan(instance: &Instance, placement: &Placement, report: &Report) -> String {
    let mut text = String::from("\n");
    coverage(instance, placement, report, &mut text);
    crossings(instance, report, &mut text);
    alternatives(instance, placement, report, &mut text);
    text
}

/// Layers by how much more than the flow their holders could compute.
fn coverage(instance: &Instance, placement: &Placement, report: &Report, text: &mut String) {
    let coverage = instance.coverage(placement);
    let holders = |layer: usize| {
        let holds = |it: &&Option<thalweg_wire::LayerRange>| {
            it.is_some_and(|range| range.contains(layer as u32))
        };
        placement.iter().filter(holds).count()
    };
    let alike = |a: &usize, b: &usize| {
        let near = (coverage[*a] - coverage[*b]).abs() <= 1e-6 * coverage[*a].max(1.0);
        near && holders(*a) == holders(*b)
    };
    let layers: Vec<usize> = (0..coverage.len()).collect();
    let stretches: Vec<&[usize]> = layers.chunk_by(alike).collect();
    line(text, format_args!("LAYERS     HOLDERS  TOKENS/S  OF THE FLOW"));
    for stretch in stretches.iter().take(STRETCHES_MAX) {
        let (first, last) = (stretch[0], stretch[stretch.len() - 1]);
        let share = if report.flow > 0.0 { coverage[first] / report.flow * 100.0 } else { 0.0 };
        let range = if first == last { format!("{first}") } else { format!("{first}-{last}") };
        let (count, rate) = (holders(first), coverage[first]);
        line(text, format_args!("{range:<9}  {count:>7}  {rate:>8.1}  {share:>9.0} %"));
    }
    if stretches.len() > STRETCHES_MAX {
        let more = stretches.len() - STRETCHES_MAX;
        line(text, format_args!("and {more} more stretches"));
    }
}

/// What goes from region to region, and what of the shared capacities is used.
fn crossings(instance: &Instance, report: &Report, text: &mut String) {
    let regions: BTreeMap<&str, usize> =
        instance.hosts.iter().map(|it| (it.name.as_str(), it.region)).collect();
    let mut loads: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for weight in &report.weights {
        let ends = (regions.get(weight.from.as_str()), regions.get(weight.to.as_str()));
        if let (Some(&from), Some(&to)) = ends
            && from != to
        {
            *loads.entry((from, to)).or_default() += weight.tokens_per_second;
        }
    }
    if !loads.is_empty() {
        line(text, format_args!("\nCROSSING, TOKENS/S"));
    }
    for (&(from, to), load) in &loads {
        let (from, to) = (&instance.regions[from], &instance.regions[to]);
        line(text, format_args!("{from} -> {to}  {load:.1}"));
    }
    for shared in &instance.network.shared {
        let drawn = shared.carries.iter().filter_map(|pair| loads.get(pair)).sum::<f64>();
        let share = drawn / shared.tokens_per_second * 100.0;
        line(text, format_args!("{}  {drawn:.1}, {share:.0} % of what it carries", shared.name));
    }
}

fn alternatives(instance: &Instance, placement: &Placement, report: &Report, text: &mut String) {
    let (this, other) = match report.charge {
        ChargeName::FullCharge => ("full", "work"),
        ChargeName::WorkCharge => ("work", "full"),
    };
    let flow = report.flow_other_charge;
    line(
        text,
        format_args!("\nplanned with {this} charge; {other} charge gives {flow:.1} tokens/s"),
    );
    let idle = placement.iter().filter(|it| it.is_none()).count();
    if idle > 0 {
        line(text, format_args!("{idle} of {} hosts hold nothing", instance.hosts.len()));
    }
}

/// Finds out how much flow errors and losses leave.
pub(super) fn disturbed(
    instance: &Instance,
    placement: &Placement,
    seed: u64,
    interrupt: &Interrupt,
) -> Vec<Kept> {
    let bar = search::bar();
    let mut watch = |done: usize, of: usize| {
        bar.set_message(format!("sensitivity: {done} of {of} cases"));
        bar.tick();
        if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let kept = sensitivity::report(instance, placement, seed, &mut watch);
    bar.finish_and_clear();
    kept
}

/// How much flow errors and losses leave, by new weights alone and after repair.
pub(super) fn sensitivity(report: &Report) -> String {
    let mut text = format!("\n{:37}{:^26}{:^26}\n", "", "NEW WEIGHTS ALONE", "AFTER REPAIR");
    let columns = format!("{:>10}{:>8}{:>8}", "LEAST", "P10", "MEDIAN");
    line(&mut text, format_args!("{:<30}{:>7}{columns}{columns}", "FLOW KEPT IF", "CASES"));
    for it in &report.sensitivity {
        let what = disturbance(it.disturbance);
        let columns = [it.reweighted, it.repaired].map(|spread| {
            let [min, p10, median] = [spread.min, spread.p10, spread.median].map(|it| it * 100.0);
            format!("{min:>8.1} %{p10:>6.1} %{median:>6.1} %")
        });
        line(&mut text, format_args!("{what:<30}{:>7}{}{}", it.cases, columns[0], columns[1]));
    }
    text
}

const fn disturbance(it: Disturbance) -> &'static str {
    match it {
        Disturbance::AllProfiles => "all profiles are off by 10 %",
        Disturbance::OneClass => "one machine type is",
        Disturbance::EachHost => "each host is, up to that",
        Disturbance::RegionLink => "a region link loses 30 %",
        Disturbance::HostLost => "one host is lost",
    }
}
