//! `AnyValue` and lists of `KeyValue`: from the wire to canonical JSON, without objects between.

use std::borrow::Cow;

use crate::json::{push_bytes, push_double, push_integer, push_string};
use crate::marks::{Marks, Repair};
use crate::names;
use crate::reject::Reject;
use crate::text::repaired;
use crate::wire::{Field, Malformed, Reader};

/// Arrays and maps inside each other; the Python lane has the same.
pub const MAX_DEPTH: u32 = 64;

/// An `AnyValue` as it stands on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Any<'a> {
    /// None of the alternatives, or one that is not stored.
    #[default]
    Absent,
    /// `string_value`, not mended yet.
    Text(&'a [u8]),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `array_value`, not read yet.
    Array(&'a [u8]),
    /// `kvlist_value`, not read yet.
    Map(&'a [u8]),
    /// `bytes_value`
    Bytes(&'a [u8]),
}

impl<'a> Any<'a> {
    /// Read a message into this value; of several alternatives, and of several messages, the last one set counts.
    ///
    /// # Errors
    /// Malformed when it is no message.
    #[inline]
    pub fn read(&mut self, message: &'a [u8], depth: u32) -> Result<(), Malformed> {
        let mut reader = Reader::new(message, depth);
        while let Some(field) = reader.next()? {
            match field {
                (1, Field::Len(text)) => *self = Self::Text(text),
                (2, Field::Varint(number)) => *self = Self::Bool(number != 0),
                #[allow(clippy::cast_possible_wrap)] // int64 on the wire is its two's complement
                (3, Field::Varint(number)) => *self = Self::Int(number as i64),
                (4, Field::Fixed64(bits)) => *self = Self::Double(f64::from_bits(bits)),
                (5, Field::Len(array)) => *self = Self::Array(array),
                (6, Field::Len(map)) => *self = Self::Map(map),
                (7, Field::Len(bytes)) => *self = Self::Bytes(bytes),
                (8, Field::Varint(_)) => *self = Self::Absent,
                _ => {}
            }
        }
        Ok(())
    }

    /// The value as JSON. `depth` counts the arrays and maps around it.
    ///
    /// # Errors
    /// The reason why the item cannot be stored.
    #[inline]
    pub fn write(&self, depth: u32, marks: &mut Marks, out: &mut Vec<u8>) -> Result<(), Reject> {
        match *self {
            Self::Absent => out.extend_from_slice(b"null"),
            Self::Text(raw) => {
                push_string(raw, marks, out);
            }
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(number) => push_integer(number, out),
            Self::Double(number) => push_double(number, marks, out),
            Self::Array(raw) => write_array(raw, depth, marks, out)?,
            Self::Map(raw) => write_map(raw, depth, marks, out)?,
            Self::Bytes(raw) => push_bytes(raw, out),
        }
        Ok(())
    }

    /// The values of an array; empty for anything else. A broken array ends where it breaks.
    pub fn items(&self) -> impl Iterator<Item = Any<'a>> + use<'a> {
        let mut reader = Reader::new(if let Self::Array(raw) = *self { raw } else { b"" }, 0);
        std::iter::from_fn(move || {
            loop {
                if let (1, Field::Len(message)) = reader.next().ok().flatten()? {
                    let mut value = Any::default();
                    value.read(message, 1).ok()?;
                    return Some(value);
                }
            }
        })
    }
}

fn deeper(depth: u32) -> Result<u32, Reject> {
    if depth >= MAX_DEPTH {
        return Err(Reject::from(format!("value is nested deeper than {MAX_DEPTH}")));
    }
    Ok(depth + 1)
}

fn write_array(raw: &[u8], depth: u32, marks: &mut Marks, out: &mut Vec<u8>) -> Result<(), Reject> {
    let below = deeper(depth)?;
    let malformed = |_| Reject::malformed("array");
    let mut verdict = Ok(());
    let mut reader = Reader::new(raw, 0);
    out.push(b'[');
    let begin = out.len();
    while let Some((number, field)) = reader.next().map_err(malformed)? {
        let (1, Field::Len(message)) = (number, field) else { continue };
        let mut value = Any::default();
        value.read(message, 1).map_err(malformed)?;
        // After a bad value the rest is still read: that the array is malformed outweighs what is wrong inside of it.
        if verdict.is_ok() {
            if out.len() > begin {
                out.push(b',');
            }
            verdict = value.write(below, marks, out);
        }
    }
    out.push(b']');
    verdict
}

fn write_map(raw: &[u8], depth: u32, marks: &mut Marks, out: &mut Vec<u8>) -> Result<(), Reject> {
    let below = deeper(depth);
    let malformed = |_| Reject::malformed("map");
    let mut verdict = Ok(());
    let mut reader = Reader::new(raw, 0);
    let mut pairs = Attributes::default();
    while let Some((number, field)) = reader.next().map_err(malformed)? {
        let (1, Field::Len(message)) = (number, field) else { continue };
        let pair = Pair::read(message, 1).map_err(malformed)?;
        if verdict.is_ok() {
            verdict = below.clone().and_then(|below| pairs.add(pair, below, marks));
        }
    }
    below?;
    verdict?;
    pairs.arrange(marks);
    pairs.write(Marks::default(), out);
    Ok(())
}

/// One `KeyValue` as it stands on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pair<'a> {
    key: &'a [u8],
    value: Any<'a>,
}

impl<'a> Pair<'a> {
    /// Read a message.
    ///
    /// # Errors
    /// Malformed when it is no message, or its value is none.
    #[inline]
    pub fn read(message: &'a [u8], depth: u32) -> Result<Self, Malformed> {
        let mut pair = Self::default();
        let mut reader = Reader::new(message, depth);
        while let Some(field) = reader.next()? {
            match field {
                (1, Field::Len(key)) => pair.key = key,
                (2, Field::Len(value)) => pair.value.read(value, depth + 1)?,
                _ => {}
            }
        }
        Ok(pair)
    }
}

#[derive(Debug)]
struct Entry<'a> {
    key: Cow<'a, [u8]>,
    value: Any<'a>,
    /// Where `"key":value` stands in `pieces`.
    piece: std::ops::Range<usize>,
}

/// A list of `KeyValue` on its way to one JSON object with sorted keys. Used again for the next item.
#[derive(Debug, Default)]
pub struct Attributes<'a> {
    entries: Vec<Entry<'a>>,
    pieces: Vec<u8>,
    /// Entries by key, without doubles; kept for the next item, which mostly has the same keys in the same order.
    order: Vec<usize>,
    /// How many entries there were when `order` was made.
    ordered: usize,
}

impl<'a> Attributes<'a> {
    /// Forget the pairs and keep the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.entries.clear();
        self.pieces.clear();
    }

    /// Add one pair.
    ///
    /// # Errors
    /// The reason why the item cannot be stored.
    #[inline]
    pub fn add(&mut self, pair: Pair<'a>, depth: u32, marks: &mut Marks) -> Result<(), Reject> {
        let start = self.pieces.len();
        let as_it_is = push_string(pair.key, marks, &mut self.pieces);
        let key = if as_it_is { Cow::Borrowed(pair.key) } else { into_bytes(repaired(pair.key, marks)) };
        self.pieces.push(b':');
        pair.value.write(depth, marks, &mut self.pieces)?;
        self.entries.push(Entry { key, value: pair.value, piece: start..self.pieces.len() });
        Ok(())
    }

    /// Sort by key; of two pairs with one key the later counts.
    #[inline]
    pub fn arrange(&mut self, marks: &mut Marks) {
        let entries = &self.entries;
        let rises = |order: &[usize]| order.windows(2).all(|two| entries[two[0]].key < entries[two[1]].key);
        let of_all = self.ordered == entries.len() && self.order.len() == entries.len();
        if of_all && rises(&self.order) {
            return;
        }
        self.ordered = entries.len();
        self.order.clear();
        self.order.extend(0..entries.len());
        if rises(&self.order) {
            return;
        }
        // Later pairs come first among equals, and the first is kept.
        self.order.sort_unstable_by(|&a, &b| entries[a].key.cmp(&entries[b].key).then(b.cmp(&a)));
        self.order.dedup_by(|b, a| entries[*a].key == entries[*b].key);
        if self.order.len() < entries.len() {
            marks.add(Repair::DuplicateKey);
        }
    }

    /// The JSON object, with `wafer.repaired` when something was mended. `arrange` comes before.
    #[inline]
    pub fn write(&self, marks: Marks, out: &mut Vec<u8>) {
        out.reserve(self.pieces.len() + self.order.len() + 2);
        out.push(b'{');
        if marks.is_empty() {
            for &index in &self.order {
                out.extend_from_slice(&self.pieces[self.entries[index].piece.clone()]);
                out.push(b',');
            }
        } else {
            self.write_marked(marks, out);
        }
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.push(b'}');
    }

    #[cold]
    fn write_marked(&self, marks: Marks, out: &mut Vec<u8>) {
        let name = names::WAFER_REPAIRED.as_bytes();
        let place = self.order.partition_point(|&index| &*self.entries[index].key < name);
        for (position, &index) in self.order.iter().enumerate() {
            if position == place {
                push_marks(marks, out);
            }
            if *self.entries[index].key != *name {
                out.extend_from_slice(&self.pieces[self.entries[index].piece.clone()]);
                out.push(b',');
            }
        }
        if place == self.order.len() {
            push_marks(marks, out);
        }
    }

    /// Keys and values, each key once. `arrange` comes before.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Any<'a>)> {
        self.order.iter().map(|&index| (&*self.entries[index].key, self.entries[index].value))
    }

    /// The value of a key. `arrange` comes before.
    #[must_use]
    pub fn get(&self, key: &str) -> Any<'a> {
        let found = self.order.binary_search_by(|&index| (*self.entries[index].key).cmp(key.as_bytes()));
        found.map_or(Any::Absent, |place| self.entries[self.order[place]].value)
    }
}

fn push_marks(marks: Marks, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend(names::WAFER_REPAIRED.as_bytes());
    out.extend(b"\":");
    marks.write(out);
    out.push(b',');
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}
