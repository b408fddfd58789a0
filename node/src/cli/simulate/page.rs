//! A run as one HTML file: plots and tables, nothing to load from anywhere.

use std::fmt::Write;

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Rectangle};
use plotters::series::LineSeries;
use plotters::style::{Color, HSLColor, RGBColor, WHITE};
use thalweg_sim::outcome::{HostOutcome, LinkOutcome, Outcome};

/// Size of a plot, in pixels.
const PLOT: (u32, u32) = (920, 280);

/// Links shown at most: the busiest.
const LINKS_MAX: usize = 24;

/// What plotters says if it cannot draw: with a string to draw into only if a range is not one.
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A line of a plot.
struct Line<'a> {
    name: &'a str,
    values: Vec<f64>,
}

/// The whole file.
pub(super) fn page(outcome: &Outcome) -> String {
    let mut body = summary(outcome);
    let time = &outcome.timeline;
    let counts = |values: &[usize]| values.iter().map(|&it| it as f64).collect();
    body += &over_time(
        "Tokens after the first, per second",
        &time.seconds,
        &[Line { name: "decode", values: time.decode_tokens_per_second.clone() }],
    );
    body += &over_time(
        "Requests",
        &time.seconds,
        &[
            Line { name: "on a route", values: counts(&time.running) },
            Line { name: "waiting", values: counts(&time.waiting) },
        ],
    );
    body += &over_time(
        "Hosts busy, mean by machine type",
        &time.seconds,
        &by_machine(outcome, &time.busy),
    );
    body += &over_time(
        "KV in use, mean by machine type",
        &time.seconds,
        &by_machine(outcome, &time.kv_used),
    );
    let holders: Vec<&HostOutcome> =
        outcome.hosts.iter().filter(|it| it.layers.is_some()).collect();
    let bars = |value: fn(&HostOutcome) -> f64| -> Vec<(String, f64)> {
        holders.iter().map(|it| (it.name.clone(), value(it))).collect()
    };
    body += &bar_plot("Share of time with a step running", &bars(|it| it.utilisation));
    body += &bar_plot("Decode rows of a step, mean", &bars(|it| it.batch_mean));
    body += &bar_plot("Prompt rows of a step, mean", &bars(|it| it.prompt_rows_mean));
    body += &bar_plot("Links: share of time sending (the busiest)", &busiest(&outcome.links));
    let title = escaped(&format!("{} on {}: {}", outcome.model, outcome.cluster, outcome.policy));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse}td,th{padding:.15em .9em;text-align:right}th:first-child,td:first-child{text-align:left}\
h2{font-size:1.05em;margin:1.6em 0 .2em}svg{max-width:100%;height:auto}";

fn summary(it: &Outcome) -> String {
    let (from, to) = it.window_seconds;
    let mut text = format!(
        "<p>Layers by {}, seed {}, measured from second {from} to {to}. \
         {:.1} tokens/s decode, {:.1} tokens/s of prompts. \
         {} requests arrived, {} were accepted, {} finished, {} rejected, {} preempted, {} lost.</p>\
         <table><tr><th></th><th>mean</th><th>p50</th><th>p95</th></tr>",
        escaped(&it.placement),
        it.seed,
        it.decode_tokens_per_second,
        it.prompt_tokens_per_second,
        it.arrived,
        it.accepted,
        it.finished,
        it.rejected,
        it.preempted,
        it.lost
    );
    for (name, values) in [
        ("Time to first token", [it.ttft_mean_seconds, it.ttft_p50_seconds, it.ttft_p95_seconds]),
        ("Time per output token", [it.tpot_mean_seconds, it.tpot_p50_seconds, it.tpot_p95_seconds]),
        ("Queueing", [it.queue_mean_seconds, it.queue_p50_seconds, it.queue_p95_seconds]),
    ] {
        let cells: String = values.iter().map(|it| format!("<td>{it:.3} s</td>")).collect();
        let _infallible = write!(text, "<tr><td>{name}</td>{cells}</tr>");
    }
    text + "</table>"
}

/// Mean over the hosts of each machine type that hold layers.
fn by_machine<'a>(outcome: &'a Outcome, of_hosts: &[Vec<f64>]) -> Vec<Line<'a>> {
    let mut kinds: Vec<&str> = outcome.hosts.iter().map(|it| it.machine.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let line = |name: &'a str| {
        let pairs = outcome.hosts.iter().zip(of_hosts);
        let of_kind = pairs.filter(|(host, _)| host.machine == name && host.layers.is_some());
        let rows: Vec<&Vec<f64>> = of_kind.map(|it| it.1).collect();
        let looks = rows.iter().map(|it| it.len()).min().unwrap_or(0);
        let mean = |at: usize| rows.iter().map(|it| it[at]).sum::<f64>() / rows.len() as f64;
        Line { name, values: (0..looks).map(mean).collect() }
    };
    kinds.into_iter().map(line).filter(|it| !it.values.is_empty()).collect()
}

fn busiest(links: &[LinkOutcome]) -> Vec<(String, f64)> {
    let mut links: Vec<&LinkOutcome> = links.iter().collect();
    links.sort_by(|a, b| b.busy.total_cmp(&a.busy));
    links.iter().take(LINKS_MAX).map(|it| (format!("{} to {}", it.from, it.to), it.busy)).collect()
}

/// A heading with a plot under it; a sentence where there is nothing to plot.
fn titled(title: &str, draw: impl FnOnce(&mut String) -> Drawn) -> String {
    let mut svg = String::new();
    match draw(&mut svg) {
        Ok(()) => format!("<h2>{}</h2>{svg}", escaped(title)),
        Err(error) => format!("<h2>{}</h2><p>Not drawn: {error}.</p>", escaped(title)),
    }
}

fn over_time(title: &str, seconds: &[f64], lines: &[Line<'_>]) -> String {
    titled(title, |svg| {
        let area = SVGBackend::with_string(svg, PLOT).into_drawing_area();
        area.fill(&WHITE)?;
        let last = seconds.last().copied().unwrap_or(0.0).max(1.0);
        let most = lines.iter().flat_map(|it| &it.values).copied().fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..last, 0.0..headroom(most))?;
        chart.configure_mesh().light_line_style(WHITE).x_desc("seconds").draw()?;
        for (at, line) in lines.iter().enumerate() {
            let colour = colour(at);
            let points = seconds.iter().copied().zip(line.values.iter().copied());
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
        }
        if lines.len() > 1 {
            chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw()?;
        }
        Ok(area.present()?)
    })
}

fn bar_plot(title: &str, bars: &[(String, f64)]) -> String {
    titled(title, |svg| {
        let height = 18 * bars.len() as u32 + 44;
        let area: DrawingArea<_, _> =
            SVGBackend::with_string(svg, (PLOT.0, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let most = bars.iter().map(|it| it.1).fold(0.0, f64::max);
        let rows = bars.len().max(1) as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(170)
            .build_cartesian_2d(0.0..headroom(most), rows..0.0)?;
        chart.configure_mesh().disable_y_mesh().light_line_style(WHITE).y_labels(0).draw()?;
        let bar = |(at, (_, value)): (usize, &(String, f64))| {
            let top = at as f64;
            Rectangle::new([(0.0, top + 0.15), (*value, top + 0.85)], colour(0).filled())
        };
        chart.draw_series(bars.iter().enumerate().map(bar))?;
        names(&area, bars)?;
        Ok(area.present()?)
    })
}

/// Writes the names of bars left of them: axes label round numbers only.
fn names<DB>(area: &DrawingArea<DB, plotters::coord::Shift>, bars: &[(String, f64)]) -> Drawn
where
    DB: plotters::prelude::DrawingBackend,
    DB::ErrorType: 'static,
{
    let (_, height) = area.dim_in_pixel();
    let row = (height as f64 - 44.0) / bars.len().max(1) as f64;
    for (at, (name, _)) in bars.iter().enumerate() {
        let y = 8.0 + row * (at as f64 + 0.5) - 6.0;
        let style = ("sans-serif", 12).into();
        area.draw_text(name, &style, (8, y as i32))?;
    }
    Ok(())
}

/// The end of an axis above `most`.
fn headroom(most: f64) -> f64 {
    if most > 0.0 { most * 1.05 } else { 1.0 }
}

/// Colours far from each other, the first one blue.
fn colour(at: usize) -> RGBColor {
    const GOLDEN: f64 = 0.618_034;
    let hue = (0.6 + GOLDEN * at as f64).fract();
    let (r, g, b) = HSLColor(hue, 0.65, 0.45).to_backend_color().rgb;
    RGBColor(r, g, b)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_sim::outcome::Timeline;

    #[test]
    fn a_page_needs_nothing_else() {
        let host = HostOutcome {
            name: "a<b".into(),
            machine: "L4".into(),
            layers: Some((0, 8)),
            utilisation: 0.5,
            ..HostOutcome::default()
        };
        let timeline = Timeline {
            seconds: vec![1.0, 2.0],
            decode_tokens_per_second: vec![3.0, 4.0],
            running: vec![1, 2],
            waiting: vec![0, 0],
            busy: vec![vec![0.4, 0.6]],
            kv_used: vec![vec![0.1, 0.2]],
        };
        let page = page(&Outcome { hosts: vec![host], timeline, ..Outcome::default() });
        assert_eq!(page.matches("<svg").count(), 8);
        assert!(!page.contains("a<b") && !page.contains("Not drawn"));
        let loads = ["src=", "href=", "@import"].iter().any(|it| page.contains(it));
        assert!(!loads, "nothing is loaded");
    }

    #[test]
    fn a_run_without_anything_is_a_page_too() {
        assert!(page(&Outcome::default()).contains("<svg"));
    }
}
