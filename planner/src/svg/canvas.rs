//! Shapes as SVG text.

use std::fmt::Write as _;

/// An SVG file in the making. Coordinates are pixels from the upper left.
pub(super) struct Canvas {
    text: String,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub size: f64,
    pub color: &'static str,
    /// Which end of the text stands at its point.
    pub anchor: &'static str,
    pub bold: bool,
}

impl Default for Text {
    fn default() -> Self {
        Self { size: 12.0, color: "#000000", anchor: "start", bold: false }
    }
}

impl Canvas {
    pub fn new(width: f64, height: f64) -> Self {
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" \
             font-family=\"Helvetica, Arial, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        Self { text }
    }

    pub fn text(&mut self, x: f64, y: f64, words: &str, how: Text) {
        let Text { size, color, anchor, bold } = how;
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let words = escape(words);
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size:.1}\" fill=\"{color}\" \
             text-anchor=\"{anchor}\"{weight}>{words}</text>"
        ));
    }

    /// A filled rectangle, by its upper left corner and its size.
    pub fn bar(&mut self, at: (f64, f64), size: (f64, f64), color: &str, opacity: f64) {
        let ((x, y), (width, height)) = (at, size);
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" \
             fill=\"{color}\" fill-opacity=\"{opacity}\"/>"
        ));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\" \
             stroke-width=\"{width:.1}\"/>"
        ));
    }

    /// A band that leaves and arrives level, and says `words` under the pointer.
    pub fn ribbon(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        width: f64,
        color: &str,
        words: &str,
    ) {
        let ((x1, y1), (x2, y2)) = (from, to);
        // Longer ribbons swing out further, so that those between the same layers stay apart.
        let swing = if (y2 - y1).abs() < 1.0 { 0.0 } else { 3.0 + (y2 - y1).abs().sqrt() * 0.8 };
        let (c1, c2) = (x1 + swing, x2 - swing);
        let words = escape(words);
        self.put(format_args!(
            "<path d=\"M{x1:.1} {y1:.1} C{c1:.1} {y1:.1} {c2:.1} {y2:.1} {x2:.1} {y2:.1}\" \
             fill=\"none\" stroke=\"{color}\" stroke-width=\"{width:.2}\" \
             stroke-opacity=\"0.5\"><title>{words}</title></path>"
        ));
    }

    pub fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{element}").expect("a string takes everything");
    }
}

/// Text that cannot end the element it stands in, nor the file: XML allows no control characters.
fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for it in words.chars() {
        match it {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            it if it.is_control() || matches!(it, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            it => escaped.push(it),
        }
    }
    escaped
}
