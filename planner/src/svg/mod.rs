//! The picture of a plan: hosts over the layer axis, flows as ribbons, the bottleneck in red.
//!
//! ```text
//! title: flow, bound, gap; what limits the plan
//!            name machine T used │ 0    10    20 …  layers
//! region A   a100-0 A100 …       │ ██████╮
//!            t4-3   T4   …       │       ╰███╮
//! region B   l4-1   L4   …       │           ╰█████
//!            coverage            │ ▁▁▂▂▁▁▃▃▁▁▁▁▁▁      and the flow as a line
//! ```
//!
//! A hop leaves a host where its range ends, and enters the next at the same layer, so that ribbons
//! run up and down. Many hosts are drawn as one row for all that hold the same.

mod canvas;
mod rows;
#[cfg(test)]
mod tests;

use canvas::{Canvas, Text};
use rows::{Row, Rows};

use crate::instance::Instance;
use crate::report::{ChargeName, Report, SINK, SOURCE};

/// Pixels of the whole picture from left to right.
const WIDTH: f64 = 1440.0;
/// Where the layer axis begins and ends.
const AXIS: (f64, f64) = (390.0, 1390.0);
/// Where the first row begins.
const TOP: f64 = 128.0;
/// Height of a region's name.
const REGION: f64 = 24.0;
/// Height of the coverage below the rows.
const COVERAGE: f64 = 70.0;
/// Bars end so far from the border of their layers; ribbons bridge the gap.
const INSET: f64 = 3.0;
/// Width of a ribbon that carries the whole flow.
const RIBBON_MAX: f64 = 15.0;
/// Width of the thinnest ribbon.
const RIBBON_MIN: f64 = 0.7;
/// Ribbons drawn at most, the widest ones.
const RIBBONS_MAX: usize = 1500;
/// Characters of a line of text across the picture.
const LINE_CHARS: usize = 190;

/// What limits the plan.
const RED: &str = "#d7263d";
/// Text.
const INK: &str = "#1f2933";
/// Lesser text, and lines.
const GREY: &str = "#7b8794";
/// Bars and ribbons by region, in turn.
const REGIONS: [&str; 8] =
    ["#2f6fb2", "#e08e1b", "#2a9d8f", "#8e5ea2", "#5b8c2a", "#b5651d", "#3d8fb8", "#a14a76"];

/// Draws a plan for `instance` as an SVG file of its own.
pub fn draw(report: &Report, instance: &Instance) -> String {
    let rows = Rows::new(report, instance);
    let bottom = TOP + rows.height(REGION);
    let mut picture = Picture { canvas: Canvas::new(WIDTH, bottom + COVERAGE + 78.0), instance };
    picture.title(report);
    picture.axis(bottom);
    picture.ends(&rows, bottom);
    let mut y = TOP;
    for (region, group) in rows.regions() {
        picture.region(region, y);
        y += REGION + group.len() as f64 * rows.step;
    }
    for row in &rows.list {
        picture.row(row, &rows);
    }
    picture.ribbons(report, &rows);
    picture.coverage(report, bottom);
    picture.notes(&rows, bottom + COVERAGE + 62.0);
    picture.canvas.end()
}

struct Picture<'a> {
    canvas: Canvas,
    instance: &'a Instance,
}

impl Picture<'_> {
    /// Where a layer begins on the axis.
    fn x(&self, layer: u32) -> f64 {
        let share = f64::from(layer) / f64::from(self.instance.layers.max(1));
        AXIS.0 + (AXIS.1 - AXIS.0) * share
    }

    fn title(&mut self, report: &Report) {
        let Report { model, cluster, flow, bound, method, seconds, depth, .. } = report;
        let charge = match report.charge {
            ChargeName::FullCharge => "full charge",
            ChargeName::WorkCharge => "work charge",
        };
        let gap = report.gap * 100.0;
        let title = format!("{model} on {cluster}: {flow:.1} tokens/s");
        let proof = format!(
            "no placement exceeds {bound:.1} tokens/s, gap {gap:.2} %   \u{b7}   {method}, {charge}, \
             {seconds:.1} s   \u{b7}   {depth:.1} hosts per token"
        );
        let text = Text { size: 24.0, color: INK, bold: true, ..Text::default() };
        self.canvas.text(24.0, 38.0, &cut(&title, LINE_CHARS / 2), text);
        let text = Text { size: 14.0, color: GREY, ..Text::default() };
        self.canvas.text(24.0, 62.0, &cut(&proof, LINE_CHARS), text);
        let text = Text { size: 14.0, color: RED, ..Text::default() };
        self.canvas.text(24.0, 84.0, &cut(&report.bottleneck, LINE_CHARS), text);
    }

    /// Marks layers, and draws a faint line at each mark through all the rows.
    fn axis(&mut self, bottom: f64) {
        let layers = self.instance.layers;
        let step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
        let step = step.into_iter().find(|it| layers <= it * 16).unwrap_or(2000);
        let marks = (0..=layers).step_by(step as usize);
        for layer in marks.filter(|it| it + step / 2 < layers).chain([layers]) {
            let x = self.x(layer);
            self.canvas.line((x, TOP - 6.0), (x, bottom + COVERAGE + 16.0), "#e4e7eb", 1.0);
            let text = Text { size: 11.0, color: GREY, anchor: "middle", ..Text::default() };
            self.canvas.text(x, TOP - 12.0, &layer.to_string(), text);
        }
        let heads =
            [(24.0, "start", "host"), (232.0, "end", "machine"), (292.0, "end", "tokens/s")];
        for (x, anchor, head) in heads.into_iter().chain([(344.0, "end", "used")]) {
            let text = Text { size: 11.0, color: GREY, anchor, ..Text::default() };
            self.canvas.text(x, TOP - 12.0, head, text);
        }
    }

    /// Draws the gateways on both sides.
    fn ends(&mut self, rows: &Rows, bottom: f64) {
        let color = |limits: bool| if limits { RED } else { "#9aa5b1" };
        for (x, limits) in [(AXIS.0 - 22.0, rows.source_limits), (AXIS.1 + 16.0, rows.sink_limits)]
        {
            self.canvas.bar((x, TOP), (6.0, bottom - TOP), color(limits), 1.0);
        }
    }

    fn region(&mut self, region: usize, y: f64) {
        let name = cut(&self.instance.regions[region], 40);
        let color = color(region);
        let text = Text { size: 13.0, color, bold: true, ..Text::default() };
        self.canvas.text(24.0, y + REGION - 8.0, &name, text);
    }

    fn row(&mut self, row: &Row, rows: &Rows) {
        let height = rows.bar_height();
        let (x, end) = (self.x(row.range.first()) + INSET, self.x(row.range.end()) - INSET);
        let (y, width) = (row.y, (end - x).max(1.0));
        let color = if row.limits { RED } else { color(row.region) };
        self.canvas.bar((x, y), (width, height), color, 0.25);
        // What is used of the host, from below.
        let used = height * row.used().clamp(0.0, 1.0);
        self.canvas.bar((x, y + height - used), (width, used), color, 0.9);
        let size = rows.text_size();
        if size > 0.0 {
            let baseline = y + height / 2.0 + size * 0.36;
            let ink = if row.limits { RED } else { INK };
            let used = format!("{:.0} %", row.used() * 100.0);
            let rate = format!("{:.0}", row.rate);
            let columns = [
                (24.0, "start", row.name.as_str(), ink),
                (232.0, "end", row.machine.as_str(), GREY),
                (292.0, "end", rate.as_str(), GREY),
                (344.0, "end", used.as_str(), GREY),
            ];
            for (x, anchor, words, color) in columns {
                let text = Text { size, color, anchor, bold: false };
                self.canvas.text(x, baseline, &cut(words, 24), text);
            }
        }
    }

    fn ribbons(&mut self, report: &Report, rows: &Rows) {
        let mut ribbons: Vec<_> = rows.ribbons.iter().collect();
        ribbons.sort_by(|a, b| b.1.rate.total_cmp(&a.1.rate));
        ribbons.truncate(RIBBONS_MAX);
        let middle = rows.bar_height() / 2.0;
        for (hop, ribbon) in ribbons.into_iter().rev() {
            let x = self.x(hop.position);
            let row = |at: usize| &rows.list[at];
            let from = hop.from.map(|at| (x - INSET, row(at).y + middle));
            let to = hop.to.map(|at| (x + INSET, row(at).y + middle));
            // The gateways are as tall as the picture: ribbons to and from them run level.
            let near = from.or(to.map(|it| (AXIS.0 - 16.0, it.1)));
            let far = to.or(from.map(|it| (AXIS.1 + 16.0, it.1)));
            let (Some(near), Some(far)) = (near, far) else { continue };
            let region = hop.from.or(hop.to).map_or(0, |at| row(at).region);
            let color = if ribbon.limits { RED } else { color(region) };
            let share = if report.flow > 0.0 { ribbon.rate / report.flow } else { 0.0 };
            let width = (share * RIBBON_MAX).clamp(RIBBON_MIN, RIBBON_MAX);
            let end = |at: Option<usize>, gateway: &str| {
                at.map_or_else(|| gateway.to_owned(), |at| row(at).name.clone())
            };
            let words = format!(
                "{} -> {}: {:.1} tokens/s",
                end(hop.from, SOURCE),
                end(hop.to, SINK),
                ribbon.rate
            );
            self.canvas.ribbon(near, far, width, color, &words);
        }
    }

    /// The full-charge coverage of each layer, tight layers in red, and the flow as a line.
    fn coverage(&mut self, report: &Report, bottom: f64) {
        let coverage = covered(report, self.instance);
        let most = coverage.iter().copied().fold(report.flow, f64::max).max(f64::MIN_POSITIVE);
        let base = bottom + 16.0 + COVERAGE;
        for (layer, rate) in (0..).zip(coverage) {
            let (x, end) = (self.x(layer), self.x(layer + 1));
            let height = COVERAGE * rate / most;
            let color = if is_tight(rate, report) { RED } else { "#9aa5b1" };
            let gap = ((end - x) * 0.12).min(1.0);
            self.canvas.bar((x + gap, base - height), (end - x - 2.0 * gap, height), color, 0.55);
        }
        let y = base - COVERAGE * report.flow / most;
        self.canvas.line((AXIS.0, y), (AXIS.1, y), INK, 1.0);
        let text = Text { size: 11.0, color: INK, ..Text::default() };
        self.canvas.text(AXIS.1 + 5.0, y + 4.0, &format!("{:.0}", report.flow), text);
        let text = Text { size: 11.0, color: GREY, anchor: "end", bold: false };
        self.canvas.text(AXIS.1, base + 14.0, "layers", text);
        let text = Text { anchor: "start", ..text };
        self.canvas.text(
            24.0,
            base - COVERAGE + 12.0,
            "tokens/s that the holders of each layer compute;",
            text,
        );
        self.canvas.text(
            24.0,
            base - COVERAGE + 27.0,
            "the line is the flow, red is what limits it",
            text,
        );
    }

    fn notes(&mut self, rows: &Rows, y: f64) {
        let mut notes = Vec::new();
        if rows.grouped {
            notes.push("hosts that hold the same are one row".to_owned());
        }
        if rows.left_out > 0 {
            notes.push(format!("{} rows are left out", rows.left_out));
        }
        if rows.idle > 0 {
            notes.push(format!("{} hosts hold nothing", rows.idle));
        }
        let text = Text { size: 11.0, color: GREY, ..Text::default() };
        self.canvas.text(24.0, y, &notes.join("; "), text);
    }
}

/// Full-charge coverage of each layer; empty if the plan is not for this instance.
fn covered(report: &Report, instance: &Instance) -> Vec<f64> {
    report.placement_of(instance).map_or_else(Vec::new, |it| instance.coverage(&it))
}

/// Whether the holders of a layer compute no more than the flow, so that each of them limits it.
fn is_tight(coverage: f64, report: &Report) -> bool {
    coverage <= report.flow * (1.0 + 1e-6)
}

fn color(region: usize) -> &'static str {
    REGIONS[region % REGIONS.len()]
}

/// At most so many characters.
fn cut(words: &str, chars: usize) -> String {
    if words.chars().count() <= chars {
        return words.to_owned();
    }
    words.chars().take(chars.saturating_sub(1)).chain(['\u{2026}']).collect()
}
