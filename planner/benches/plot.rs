//! Draws every table of results beside it.
//!
//! `cargo bench -p thalweg-planner --bench plot -- [FOLDER]`
//!
//! Reads every CSV in the folder (`planner/benches/results` if none is given) and writes an SVG of the
//! same name: a line for each series. A table begins with comments, then has rows `series,x,y`:
//!
//! ```text
//! # title: Time against hosts
//! # x: hosts
//! # y: seconds
//! # machine: 2 cores
//! # commit: 0123abc
//! # log: xy
//! search,24,0.1
//! ```
//!
//! `log` is `x`, `y` or `xy`, or left out.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

/// Pixels of a picture.
const SIZE: (u32, u32) = (960, 600);
/// Colours of series, in turn.
const COLORS: [RGBColor; 10] = [
    RGBColor(47, 111, 178),
    RGBColor(215, 38, 61),
    RGBColor(42, 157, 143),
    RGBColor(224, 142, 27),
    RGBColor(142, 94, 162),
    RGBColor(91, 140, 42),
    RGBColor(90, 90, 90),
    RGBColor(61, 143, 184),
    RGBColor(181, 101, 29),
    RGBColor(161, 74, 118),
];
/// Text that is read after the picture.
const GREY: RGBColor = RGBColor(110, 120, 130);

fn main() -> Result<(), Box<dyn Error>> {
    // cargo passes `--bench`.
    let given = std::env::args().skip(1).find(|it| !it.starts_with("--"));
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    let folder = given.map_or(usual, PathBuf::from);
    let mut tables: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|it| format!("{}: {it}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "csv") {
            tables.push(path);
        }
    }
    tables.sort();
    for path in tables {
        let table = Table::parse(&fs::read_to_string(&path)?)
            .map_err(|problem| format!("{}: {problem}", path.display()))?;
        let picture = path.with_extension("svg");
        table.draw(&picture)?;
        println!("{}", picture.display());
    }
    Ok(())
}

/// A table of results.
#[derive(Default)]
struct Table {
    /// What the comments say, by key.
    words: BTreeMap<String, String>,
    /// Series in the order in which they first appear.
    series: Vec<(String, Vec<(f64, f64)>)>,
}

impl Table {
    fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                if let Some((key, words)) = comment.split_once(':') {
                    table.words.insert(key.trim().to_owned(), words.trim().to_owned());
                }
            } else if !line.is_empty() && line != "series,x,y" {
                table.row(line).map_err(|problem| format!("line {}: {problem}", at + 1))?;
            }
        }
        if table.series.is_empty() {
            return Err("no rows; give `series,x,y`".to_owned());
        }
        Ok(table)
    }

    fn row(&mut self, line: &str) -> Result<(), String> {
        // A name may have commas, numbers have none.
        let mut fields = line.rsplitn(3, ',');
        let mut number = || -> Result<f64, String> {
            let field = fields.next().unwrap_or_default().trim();
            let number: f64 = field.parse().map_err(|_| format!("`{field}` is no number"))?;
            if number.is_finite() { Ok(number) } else { Err(format!("{number} cannot be drawn")) }
        };
        let (y, x) = (number()?, number()?);
        let name = fields.next().ok_or("give `series,x,y`")?.trim();
        if (self.log('x') && x <= 0.0) || (self.log('y') && y <= 0.0) {
            return Err(format!("{x}, {y} cannot be drawn on a logarithmic axis"));
        }
        match self.series.iter_mut().find(|it| it.0 == name) {
            Some((_, points)) => points.push((x, y)),
            None => self.series.push((name.to_owned(), vec![(x, y)])),
        }
        Ok(())
    }

    fn word(&self, key: &str) -> &str {
        self.words.get(key).map_or("", String::as_str)
    }

    fn log(&self, axis: char) -> bool {
        self.word("log").contains(axis)
    }

    /// Least and largest value with some room beyond.
    fn range(&self, axis: char) -> (f64, f64) {
        let points = self.series.iter().flat_map(|it| &it.1);
        let values = points.map(|it| if axis == 'x' { it.0 } else { it.1 });
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |all, it| (all.0.min(it), all.1.max(it)));
        if self.log(axis) {
            return (low / 1.3, high * 1.3);
        }
        let room = ((high - low) * 0.04).max(high.abs() * 1e-3).max(f64::MIN_POSITIVE);
        // What is near zero is compared with zero.
        let low = if low >= 0.0 && low < high * 0.6 { 0.0 } else { low - room };
        (low, high + room)
    }

    fn draw(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (x, y) = (self.range('x'), self.range('y'));
        let (x, y) = (x.0..x.1, y.0..y.1);
        match (self.log('x'), self.log('y')) {
            (false, false) => self.chart(&root, x, y),
            (true, false) => self.chart(&root, x.log_scale(), y),
            (false, true) => self.chart(&root, x, y.log_scale()),
            (true, true) => self.chart(&root, x.log_scale(), y.log_scale()),
        }?;
        let said: Vec<String> = ["machine", "commit"]
            .into_iter()
            .filter(|key| !self.word(key).is_empty())
            .map(|key| format!("{key}: {}", self.word(key)))
            .collect();
        let style = ("sans-serif", 12).into_font().color(&GREY);
        root.draw(&Text::new(said.join("   "), (16, SIZE.1 as i32 - 18), style))?;
        root.present()?;
        Ok(())
    }

    fn chart<X, Y>(
        &self,
        root: &DrawingArea<SVGBackend<'_>, Shift>,
        x: impl plotters::coord::ranged1d::AsRangedCoord<CoordDescType = X, Value = f64>,
        y: impl plotters::coord::ranged1d::AsRangedCoord<CoordDescType = Y, Value = f64>,
    ) -> Result<(), Box<dyn Error>>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(root)
            .caption(self.word("title"), ("sans-serif", 20))
            .margin(14)
            .margin_bottom(34)
            .x_label_area_size(44)
            .y_label_area_size(78)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.word("x"))
            .y_desc(self.word("y"))
            .axis_desc_style(("sans-serif", 15))
            .label_style(("sans-serif", 13))
            .light_line_style(RGBColor(244, 245, 247))
            .bold_line_style(RGBColor(225, 228, 232))
            .x_label_formatter(&|it| short(*it))
            .y_label_formatter(&|it| short(*it))
            .draw()?;
        for (at, (name, points)) in self.series.iter().enumerate() {
            let color = COLORS[at % COLORS.len()];
            let line = LineSeries::new(points.iter().copied(), color.stroke_width(2));
            chart.draw_series(line)?.label(name).legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(3))
            });
            chart.draw_series(points.iter().map(|it| Circle::new(*it, 3, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 205, 210))
            .label_font(("sans-serif", 13))
            .position(self.legend())
            .draw()?;
        Ok(())
    }

    /// The corner with the fewest points in it.
    fn legend(&self) -> SeriesLabelPosition {
        let place = |axis: char, value: f64| {
            let (low, high) = self.range(axis);
            let scale = |it: f64| if self.log(axis) { it.ln() } else { it };
            (scale(value) - scale(low)) / (scale(high) - scale(low))
        };
        let crowd = |right: bool, upper: bool| {
            let points = self.series.iter().flat_map(|it| &it.1);
            let inside = points.filter(|it| {
                let (x, y) = (place('x', it.0), place('y', it.1));
                (if right { x > 0.55 } else { x < 0.45 })
                    && (if upper { y > 0.55 } else { y < 0.45 })
            });
            inside.count()
        };
        let corners = [
            (crowd(true, true), SeriesLabelPosition::UpperRight),
            (crowd(true, false), SeriesLabelPosition::LowerRight),
            (crowd(false, true), SeriesLabelPosition::UpperLeft),
            (crowd(false, false), SeriesLabelPosition::LowerLeft),
        ];
        corners.into_iter().min_by_key(|it| it.0).map_or(SeriesLabelPosition::UpperRight, |it| it.1)
    }
}

/// A number without the zeros nobody reads.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => return "0".to_owned(),
        it if it >= 100.0 => 0,
        it if it >= 1.0 => 2,
        it if it >= 0.001 => 4,
        _ => return format!("{value:e}"),
    };
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}
