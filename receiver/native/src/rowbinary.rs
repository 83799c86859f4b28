//! ClickHouse's `RowBinary`: the columns of `storage.clickhouse.rows`, in their order.
//!
//! Rows name what they belong to by its key, so all that is missing is which call writes them.

use std::collections::HashSet;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::encoder::{LogRow, Measured, Owner, PointRow, RowEncoder, SpanRow, Unnumbered};
use crate::records::{Block, LogMark, Place, PointMark, Resource, Scope, Series, SpanMark};
use crate::run::{Ending, Known, Progress, Run};

/// Where `precedence` stands in a span or log row: behind three times.
const PRECEDENCE: usize = 24;
/// And in a point: behind its series and two times.
const POINT_PRECEDENCE: usize = 48;

/// The format.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowBinary;

/// Of the rows with one key the one with the greatest stays: the first that was written.
#[derive(Debug, Clone, Copy)]
pub struct Precedence(pub u64);

impl RowEncoder for RowBinary {
    type Given = Precedence;
    const HEADER: &'static [u8] = b"";
    const TRAILER: &'static [u8] = b"";

    fn span(&self, row: &SpanRow<'_>, out: &mut Vec<u8>) -> Range<usize> {
        out.reserve(300 + row.name.len() + row.attributes.len() + row.events.map_or(0, <[u8]>::len));
        for number in [row.start_ns, row.duration_ns, row.received_ns, 0] {
            int64(out, number); // the last is the precedence
        }
        int32(out, i32::from(row.kind));
        int32(out, i32::from(row.status));
        for number in [row.flags, row.dropped_attributes, row.dropped_events, row.dropped_links] {
            uint32(out, number);
        }
        out.extend_from_slice(&row.trace_id);
        out.extend_from_slice(&row.span_id);
        out.extend_from_slice(&row.parent_span_id.unwrap_or_default());
        keys(out, row.owner);
        for text in [row.owner.site, row.owner.service, row.name, row.status_message, row.trace_state] {
            string(out, text.as_bytes());
        }
        let attributes = string(out, row.attributes);
        string(out, row.events.unwrap_or_default());
        string(out, row.links.unwrap_or_default());
        attributes
    }

    fn log(&self, row: &LogRow<'_>, out: &mut Vec<u8>) -> Range<usize> {
        out.reserve(250 + row.attributes.len() + row.body.map_or(0, <[u8]>::len));
        for number in [row.time_ns, row.observed_ns, row.received_ns, 0] {
            int64(out, number); // the last is the precedence
        }
        int32(out, i32::from(row.severity));
        uint32(out, row.flags);
        uint32(out, row.dropped_attributes);
        out.extend_from_slice(&row.trace_id.unwrap_or_default());
        out.extend_from_slice(&row.span_id.unwrap_or_default());
        out.extend_from_slice(&row.digest);
        keys(out, row.owner);
        for text in [row.owner.site, row.severity_text, row.event_name] {
            string(out, text.as_bytes());
        }
        string(out, row.body.unwrap_or_default());
        string(out, row.attributes)
    }

    fn point(&self, row: &PointRow<'_>, out: &mut Vec<u8>) {
        let Measured { value, count, sum, min, max, bounds, buckets, quantile_values } = row.measured;
        out.extend_from_slice(row.series_key);
        for number in [row.time_ns, row.received_ns, 0] {
            int64(out, number); // the last is the precedence
        }
        uint32(out, row.flags);
        out.push(bits([bounds.is_some(), buckets.is_some(), quantile_values.is_some()]));
        nullable(out, row.start_ns.map(i64::to_le_bytes));
        nullable(out, value.map(f64::to_le_bytes));
        nullable(out, count.map(i64::to_le_bytes));
        for number in [sum, min, max] {
            nullable(out, number.map(f64::to_le_bytes));
        }
        array(out, bounds.as_deref(), f64::to_le_bytes);
        array(out, buckets.as_deref(), i64::to_le_bytes);
        array(out, quantile_values.as_deref(), f64::to_le_bytes);
    }

    fn complete_span(&self, row: &mut [u8], _: &SpanMark, _: &Block, given: &Precedence) -> Result<(), Unnumbered> {
        put(row, PRECEDENCE, *given)
    }

    fn complete_log(&self, row: &mut [u8], _: &LogMark, _: &Block, given: &Precedence) -> Result<(), Unnumbered> {
        put(row, PRECEDENCE, *given)
    }

    fn complete_point(&self, row: &mut [u8], _: &PointMark, _: &Block, given: &Precedence) -> Result<(), Unnumbered> {
        put(row, POINT_PRECEDENCE, *given)
    }

    /// Rows of one run are joined by the table: none of them is replaced, so none has a precedence.
    fn run(&self, run: &Run, block: &Block, _: &Precedence, out: &mut Vec<u8>) -> Result<(), Unnumbered> {
        out.extend_from_slice(&run.trace_id);
        out.extend_from_slice(&run.span_id);
        string(out, block.sites.get(run.site as usize).ok_or(Unnumbered)?.as_bytes());
        nullable(out, run.start_ns.map(i64::to_le_bytes));
        uint32(out, run.final_fields);
        ending(out, &run.ending, &block.arena);
        nullable(out, run.heartbeat_interval_s.map(f64::to_le_bytes));
        nullable(out, run.last_sign_ns.map(i64::to_le_bytes));
        progress(out, run.progress.as_ref(), &block.arena);
        nullable(out, run.cpu_s.map(f64::to_le_bytes));
        nullable(out, run.memory_bytes.map(i64::to_le_bytes));
        out.push(0); // inferred: only ever by the store
        nullable(out, Some(run.received_ns.to_le_bytes()));
        described(out, &run.known, run.final_fields, &block.arena);
        Ok(())
    }
}

/// Rows of `run_change`: a call's word that these runs have news, each named once.
///
/// # Errors
/// The block does not have a run's site.
pub fn changes(runs: &[Run], block: &Block, call: [u8; 6]) -> Result<Vec<u8>, Unnumbered> {
    let mut told = HashSet::with_capacity_and_hasher(runs.len(), RandomState::default());
    let mut out = Vec::with_capacity(runs.len() * 50);
    for run in runs.iter().filter(|run| told.insert((run.site, run.trace_id, run.span_id))) {
        out.extend_from_slice(&call);
        out.extend_from_slice(&run.trace_id);
        out.extend_from_slice(&run.span_id);
        string(&mut out, block.sites.get(run.site as usize).ok_or(Unnumbered)?.as_bytes());
    }
    Ok(out)
}

/// A row of `resource`.
///
/// # Errors
/// The block does not have its site.
pub fn resource(one: &Resource, block: &Block, seen_s: u32) -> Result<Vec<u8>, Unnumbered> {
    let mut out = Vec::with_capacity(200 + one.attributes.len());
    out.extend_from_slice(&one.key);
    out.extend_from_slice(&one.process_key.unwrap_or_default());
    out.push(bits([one.feed.is_some(), one.service_version.is_some(), one.process_key.is_some()]));
    uint32(&mut out, seen_s);
    let site = block.sites.get(one.site as usize).ok_or(Unnumbered)?;
    for text in
        [site, one.feed.as_deref().unwrap_or_default(), &one.service, one.service_version.as_deref().unwrap_or_default()]
    {
        string(&mut out, text.as_bytes());
    }
    string(&mut out, one.attributes.as_bytes());
    Ok(out)
}

/// A row of `scope`.
#[must_use]
pub fn scope(one: &Scope, seen_s: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(100 + one.attributes.len());
    out.extend_from_slice(&one.key);
    uint32(&mut out, seen_s);
    for text in [&one.name, &one.version, &one.attributes] {
        string(&mut out, text.as_bytes());
    }
    out
}

/// A row of `metric_series`.
///
/// # Errors
/// The block does not have its resource, scope or site.
pub fn series(one: &Series, block: &Block, seen_s: u32) -> Result<Vec<u8>, Unnumbered> {
    let resource = block.resources.get(one.resource as usize).ok_or(Unnumbered)?;
    let mut out = Vec::with_capacity(250 + one.attributes.len());
    out.extend_from_slice(&one.key);
    out.extend_from_slice(&resource.key);
    out.extend_from_slice(&block.scopes.get(one.scope as usize).ok_or(Unnumbered)?.key);
    out.extend_from_slice(&resource.process_key.unwrap_or_default());
    int32(&mut out, one.temporality);
    out.push(u8::from(one.monotonic));
    uint32(&mut out, seen_s);
    let site = block.sites.get(resource.site as usize).ok_or(Unnumbered)?;
    for text in [site, &*resource.service, &*one.name, &*one.unit, one.kind, &*one.attributes] {
        string(&mut out, text.as_bytes());
    }
    Ok(out)
}

fn ending(out: &mut Vec<u8>, ending: &Ending, arena: &[u8]) {
    let (result, error_type) = (ending.result_text(), ending.error_type.of(arena));
    out.push(ending.rank);
    int64(out, ending.end_ns.unwrap_or_default());
    string(out, result.unwrap_or_default().as_bytes());
    string(out, error_type.unwrap_or_default());
    out.push(bits([ending.end_ns.is_some(), result.is_some(), error_type.is_some()]));
}

/// What is not told is the least of its type.
fn progress(out: &mut Vec<u8>, progress: Option<&Progress>, arena: &[u8]) {
    let numbers = progress.map_or([None; 3], |known| [known.ratio, known.completed, known.total]);
    let words = progress.map_or([None; 3], |known| [known.unit, known.stage, known.message].map(|place| place.of(arena)));
    int64(out, progress.map_or(i64::MIN, |known| known.at_ns));
    for number in numbers {
        out.extend_from_slice(&number.unwrap_or(f64::NEG_INFINITY).to_le_bytes());
    }
    for word in words {
        string(out, word.unwrap_or_default());
    }
    let [ratio, completed, total] = numbers.map(|number| number.is_some());
    let [unit, stage, message] = words.map(|word| word.is_some());
    out.push(bits([progress.is_some(), ratio, completed, total, unit, stage, message]));
}

/// What a run is: each field behind 0 (not known), 1 (announced) or 2 (of the final span).
fn described(out: &mut Vec<u8>, known: &Known, final_fields: u32, arena: &[u8]) {
    let mut bit = 0;
    let mut rank = |out: &mut Vec<u8>, has: bool| {
        let rank = 1 + u8::from(final_fields >> bit & 1 == 1);
        bit += 1;
        out.push(if has { rank } else { 0 });
    };
    macro_rules! field {
        (text $name:ident) => {
            let text = known.$name.of(arena);
            rank(out, text.is_some());
            string(out, text.unwrap_or_default());
        };
        (texts $name:ident) => {
            rank(out, !known.$name.is_none());
            texts(out, known.$name, arena);
        };
        (id $name:ident) => {
            rank(out, known.$name.is_some());
            out.extend_from_slice(&known.$name.unwrap_or_default());
        };
        (number $name:ident) => {
            rank(out, known.$name.is_some());
            out.extend_from_slice(&known.$name.unwrap_or_default().to_le_bytes());
        };
    }
    field!(text job);
    field!(text run_id);
    field!(id parent_span_id);
    field!(text parent_run_id);
    field!(text feed);
    field!(text service);
    field!(text service_version);
    field!(number attempt);
    field!(text trigger);
    field!(number nominal_ns);
    field!(number expected_duration_s);
    field!(number deadline_ns);
    field!(text owner);
    field!(text equipment);
    field!(text recipe);
    field!(text product);
    field!(texts lot_ids);
    field!(texts substrate_ids);
    field!(id process_key);
    field!(text attributes);
}

#[inline]
fn keys(out: &mut Vec<u8>, owner: Owner<'_>) {
    out.extend_from_slice(owner.resource_key);
    out.extend_from_slice(owner.scope_key);
}

#[inline]
fn int64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
fn int32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
fn uint32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn bits<const N: usize>(has: [bool; N]) -> u8 {
    has.iter().enumerate().map(|(bit, has)| u8::from(*has) << bit).sum()
}

#[inline]
fn nullable(out: &mut Vec<u8>, value: Option<[u8; 8]>) {
    match value {
        Some(value) => {
            out.push(0);
            out.extend_from_slice(&value);
        }
        None => out.push(1),
    }
}

/// LEB128.
#[inline]
#[allow(clippy::cast_possible_truncation)] // seven bits at a time
fn length(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[inline]
fn string(out: &mut Vec<u8>, value: &[u8]) -> Range<usize> {
    length(out, value.len());
    let start = out.len();
    out.extend_from_slice(value);
    start..out.len()
}

fn array<T: Copy>(out: &mut Vec<u8>, items: Option<&[T]>, encode: impl Fn(T) -> [u8; 8]) {
    let items = items.unwrap_or_default();
    length(out, items.len());
    for &item in items {
        out.extend_from_slice(&encode(item));
    }
}

fn texts(out: &mut Vec<u8>, list: Place, arena: &[u8]) {
    let list = list.of(arena).unwrap_or_default();
    length(out, crate::run::texts(list).count());
    for text in crate::run::texts(list) {
        string(out, text);
    }
}

#[inline]
fn put(row: &mut [u8], at: usize, Precedence(precedence): Precedence) -> Result<(), Unnumbered> {
    let place = row.get_mut(at..at + 8).ok_or(Unnumbered)?;
    place.copy_from_slice(&precedence.to_le_bytes());
    Ok(())
}
