//! `tojson` as Python's `json.dumps` writes it: spaces after separators, nothing escaped for HTML.

use std::io::{self, Write};

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Spaces of an indentation step at most.
const INDENT_MAX: usize = 16;

/// The filter.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut text = Vec::new();
    let written = match indent {
        Some(width) => {
            let step = " ".repeat(width.min(INDENT_MAX));
            let formatter = PrettyFormatter::with_indent(step.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut text, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)),
    };
    written.map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "value is no JSON").with_source(error)
    })?;
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    Ok(Value::from_safe_string(text))
}

/// One line, with a space after `,` and `:`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
