//! Values of a header's entries.

use std::fmt;
use std::ops::Range;

use super::GgufError;
use super::cursor::Cursor;

/// Number of the type "array" in the file.
const ARRAY: u32 = 9;
/// Bytes of the shortest string: its length.
const STRING_BYTES_MIN: u64 = 8;

/// The value of an entry. Integers of all widths become the widest of their sign.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Array(Array),
}

/// An array that was checked and left in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    element: Element,
    count: u64,
    range: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

impl Value {
    /// Reads type and value of the entry `key`.
    pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let number = cursor.u32(key)?;
        if number == ARRAY {
            return Array::read(cursor, key).map(Self::Array);
        }
        Element::of(number, key)?.read(cursor, key)
    }

    /// The value as a number that is not negative, if it is one.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(n) => Some(n),
            Self::Signed(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a number, if it is one; wide integers are rounded.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Unsigned(n) => Some(n as f64),
            Self::Signed(n) => Some(n as f64),
            Self::Float(x) => Some(x),
            _ => None,
        }
    }

    /// The value as text, if it is text.
    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The value as a truth value, if it is one.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(it) = *self { Some(it) } else { None }
    }

    /// The value as bytes that differ where values differ; arrays are read from `file`.
    pub(crate) fn content(&self, file: &[u8]) -> Vec<u8> {
        match self {
            Self::Array(array) => file[array.range.clone()].to_vec(),
            other => other.to_string().into_bytes(),
        }
    }

    /// The value as an array, if it is one.
    pub(crate) fn as_array(&self) -> Option<&Array> {
        if let Self::Array(array) = self { Some(array) } else { None }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(n) => write!(f, "{n}"),
            Self::Signed(n) => write!(f, "{n}"),
            Self::Float(x) => write!(f, "{x}"),
            Self::Bool(it) => write!(f, "{it}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Array(array) => write!(f, "an array of {}", array.count),
        }
    }
}

impl Array {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let element = Element::of(cursor.u32(key)?, key)?;
        let count = cursor.u64(key)?;
        let each = element.bytes().unwrap_or(STRING_BYTES_MIN);
        if count > cursor.left() / each {
            let what = format!("elements of `{key}`");
            return Err(GgufError::Count { what, count, left: cursor.left() });
        }
        let start = cursor.position() as usize;
        match element.bytes() {
            Some(each) => {
                cursor.take(count * each, key)?;
            }
            None => {
                for _ in 0..count {
                    cursor.string(key)?;
                }
            }
        }
        Ok(Self { element, count, range: start..cursor.position() as usize })
    }

    /// Number of elements. Never more than bytes in the file.
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// The elements, read again from `file`, which must be the file the header was read from.
    ///
    /// # Panics
    ///
    /// If the file is shorter than it was.
    pub(crate) fn values<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = Value> + use<'a> {
        let mut cursor = Cursor::new(&file[self.range.clone()]);
        let element = self.element;
        (0..self.count).map_while(move |_| element.read(&mut cursor, "array").ok())
    }

    /// The elements as text, or `None` if they are something else.
    pub(crate) fn texts<'a>(
        &self,
        file: &'a [u8],
    ) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        if self.element != Element::Text {
            return None;
        }
        let mut cursor = Cursor::new(&file[self.range.clone()]);
        Some((0..self.count).map_while(move |_| cursor.string("array").ok()))
    }
}

impl Element {
    fn of(number: u32, key: &str) -> Result<Self, GgufError> {
        Ok(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            found => return Err(GgufError::ValueType { key: key.to_owned(), found }),
        })
    }

    /// Size of a value; `None` for text.
    fn bytes(self) -> Option<u64> {
        Some(match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Text => return None,
        })
    }

    fn read(self, cursor: &mut Cursor<'_>, key: &str) -> Result<Value, GgufError> {
        Ok(match self {
            Self::U8 => Value::Unsigned(u8::from_le_bytes(cursor.array(key)?).into()),
            Self::I8 => Value::Signed(i8::from_le_bytes(cursor.array(key)?).into()),
            Self::U16 => Value::Unsigned(u16::from_le_bytes(cursor.array(key)?).into()),
            Self::I16 => Value::Signed(i16::from_le_bytes(cursor.array(key)?).into()),
            Self::U32 => Value::Unsigned(u32::from_le_bytes(cursor.array(key)?).into()),
            Self::I32 => Value::Signed(i32::from_le_bytes(cursor.array(key)?).into()),
            Self::F32 => Value::Float(f32::from_le_bytes(cursor.array(key)?).into()),
            Self::Bool => Value::Bool(u8::from_le_bytes(cursor.array(key)?) != 0),
            Self::Text => Value::Text(cursor.string(key)?.to_owned()),
            Self::U64 => Value::Unsigned(u64::from_le_bytes(cursor.array(key)?)),
            Self::I64 => Value::Signed(i64::from_le_bytes(cursor.array(key)?)),
            Self::F64 => Value::Float(f64::from_le_bytes(cursor.array(key)?)),
        })
    }
}
