//! PostgreSQL's COPY BINARY: the columns of `storage.timescale.rows`, in their order.

use std::ops::Range;

use crate::encoder::{LogRow, PointRow, RowEncoder, SpanRow, Unnumbered};
use crate::records::{Block, LogMark, Place, PointMark, SpanMark};
use crate::run::{Progress, Run};

const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
const TEXT: u32 = 25;
const DOUBLE: u32 = 701;
const BIGINT: u32 = 20;
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

const SPAN_COLUMNS: i16 = 24;
const LOG_COLUMNS: i16 = 19;
const POINT_COLUMNS: i16 = 16;
const DELTA_COLUMNS: i16 = 43;
/// Positions of the numbers among the columns.
const SPAN_APP: usize = 7;
const LOG_RESOURCE: usize = 7;
const POINT_SERIES: usize = 9;

/// The format.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyBinary;

/// The database's numbers of a block's names, each list as long as its twin in the block (`apps` as `resources`).
#[derive(Debug, Default)]
#[allow(missing_docs)] // named as what they number
pub struct Numbers {
    pub sites: Vec<i16>,
    pub apps: Vec<i32>,
    pub resources: Vec<i32>,
    pub scopes: Vec<i32>,
    pub series: Vec<i32>,
}

/// The numbers of what a span or log row belongs to.
struct RowNumbers {
    site: i16,
    app: i32,
    resource: i32,
    scope: i32,
}

impl Numbers {
    fn of(&self, block: &Block, resource: u32, scope: u32) -> Result<RowNumbers, Unnumbered> {
        let site = block.resources.get(resource as usize).ok_or(Unnumbered)?.site;
        Ok(RowNumbers {
            site: *self.sites.get(site as usize).ok_or(Unnumbered)?,
            app: *self.apps.get(resource as usize).ok_or(Unnumbered)?,
            resource: *self.resources.get(resource as usize).ok_or(Unnumbered)?,
            scope: *self.scopes.get(scope as usize).ok_or(Unnumbered)?,
        })
    }
}

impl RowEncoder for CopyBinary {
    type Given = Numbers;
    const HEADER: &'static [u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    const TRAILER: &'static [u8] = b"\xff\xff";

    fn span(&self, row: &SpanRow<'_>, out: &mut Vec<u8>) -> Range<usize> {
        out.reserve(300 + row.name.len() + row.attributes.len() + row.events.map_or(0, <[u8]>::len));
        out.extend_from_slice(&SPAN_COLUMNS.to_be_bytes());
        field(out, row.trace_id);
        let start_ns = time(out, row.start_ns);
        bigint(out, row.duration_ns);
        field(out, row.span_id);
        optional(out, row.parent_span_id, field);
        let received_ns = time(out, row.received_ns);
        bigint(out, i64::from(row.flags));
        for _ in 0..3 {
            field(out, [0; 4]); // app, scope, resource
        }
        bigint(out, i64::from(row.dropped_attributes));
        bigint(out, i64::from(row.dropped_events));
        bigint(out, i64::from(row.dropped_links));
        for small in [0, start_ns, received_ns, row.kind, row.status] {
            smallint(out, small); // the first is the site
        }
        bytes(out, row.name.as_bytes());
        bytes(out, row.status_message.as_bytes());
        bytes(out, row.trace_state.as_bytes());
        let attributes = bytes(out, row.attributes);
        optional_bytes(out, row.events);
        optional_bytes(out, row.links);
        attributes
    }

    fn log(&self, row: &LogRow<'_>, out: &mut Vec<u8>) -> Range<usize> {
        out.reserve(250 + row.attributes.len() + row.body.map_or(0, <[u8]>::len));
        out.extend_from_slice(&LOG_COLUMNS.to_be_bytes());
        let time_ns = time(out, row.time_ns);
        let observed_ns = time(out, row.observed_ns);
        let received_ns = time(out, row.received_ns);
        optional(out, row.trace_id, field);
        optional(out, row.span_id, field);
        bigint(out, i64::from(row.flags));
        bigint(out, i64::from(row.dropped_attributes));
        for _ in 0..2 {
            field(out, [0; 4]); // resource, scope
        }
        for small in [0, time_ns, observed_ns, received_ns, row.severity] {
            smallint(out, small); // the first is the site
        }
        bytes(out, &row.digest);
        bytes(out, row.severity_text.as_bytes());
        bytes(out, row.event_name.as_bytes());
        optional_bytes(out, row.body);
        bytes(out, row.attributes)
    }

    fn point(&self, row: &PointRow<'_>, out: &mut Vec<u8>) {
        let measured = row.measured;
        out.extend_from_slice(&POINT_COLUMNS.to_be_bytes());
        let time_ns = time(out, row.time_ns);
        let mut start_ns = None;
        optional(out, row.start_ns, |out, ns| start_ns = Some(time(out, ns)));
        let received_ns = time(out, row.received_ns);
        optional(out, measured.value, double);
        optional(out, measured.count, bigint);
        for number in [measured.sum, measured.min, measured.max] {
            optional(out, number, double);
        }
        bigint(out, i64::from(row.flags));
        field(out, [0; 4]); // series
        smallint(out, time_ns);
        optional(out, start_ns, smallint);
        smallint(out, received_ns);
        optional(out, measured.bounds.as_deref(), |out, items| array(out, DOUBLE, items, f64::to_be_bytes));
        optional(out, measured.buckets.as_deref(), |out, items| array(out, BIGINT, items, i64::to_be_bytes));
        let quantiles = measured.quantile_values.as_deref();
        optional(out, quantiles, |out, items| array(out, DOUBLE, items, f64::to_be_bytes));
    }

    fn complete_span(&self, row: &mut [u8], mark: &SpanMark, block: &Block, given: &Numbers) -> Result<(), Unnumbered> {
        let numbers = given.of(block, mark.resource, mark.scope)?;
        let mut at = column(row, SPAN_APP);
        for number in [numbers.app, numbers.scope, numbers.resource] {
            at = put(row, at, &number.to_be_bytes());
        }
        at += 3 * 12; // what was dropped
        put(row, at, &numbers.site.to_be_bytes());
        Ok(())
    }

    fn complete_log(&self, row: &mut [u8], mark: &LogMark, block: &Block, given: &Numbers) -> Result<(), Unnumbered> {
        let numbers = given.of(block, mark.resource, mark.scope)?;
        let mut at = column(row, LOG_RESOURCE);
        for number in [numbers.resource, numbers.scope] {
            at = put(row, at, &number.to_be_bytes());
        }
        put(row, at, &numbers.site.to_be_bytes());
        Ok(())
    }

    fn complete_point(&self, row: &mut [u8], mark: &PointMark, _: &Block, given: &Numbers) -> Result<(), Unnumbered> {
        let series = given.series.get(mark.series as usize).ok_or(Unnumbered)?;
        put(row, column(row, POINT_SERIES), &series.to_be_bytes());
        Ok(())
    }

    fn run(&self, run: &Run, block: &Block, given: &Numbers, out: &mut Vec<u8>) -> Result<(), Unnumbered> {
        let site = *given.sites.get(run.site as usize).ok_or(Unnumbered)?;
        let arena = &block.arena;
        out.extend_from_slice(&DELTA_COLUMNS.to_be_bytes());
        field(out, run.trace_id);
        field(out, run.span_id);
        smallint(out, site);
        smallint(out, i16::from(run.ending.rank));
        bigint(out, i64::from(run.final_fields));
        match run.start_ns {
            Some(ns) => {
                time(out, ns);
            }
            None => bigint(out, i64::MIN), // -infinity
        }
        let known = &run.known;
        for number in
            [run.start_ns, run.ending.end_ns, run.last_sign_ns, Some(run.received_ns), known.nominal_ns, known.deadline_ns]
        {
            optional(out, number, bigint);
        }
        for number in [known.expected_duration_s, run.heartbeat_interval_s, run.cpu_s] {
            optional(out, number, double);
        }
        optional(out, run.memory_bytes, bigint);
        optional(out, known.attempt, bigint);
        optional(out, known.parent_span_id, field);
        optional(out, known.process_key, field);
        field(out, [0]); // inferred: only ever by the store
        let text = |out: &mut Vec<u8>, place: Place| optional_bytes(out, place.of(arena));
        for place in [
            known.job,
            known.run_id,
            known.parent_run_id,
            known.feed,
            known.service,
            known.service_version,
            known.trigger,
            known.owner,
            known.equipment,
            known.recipe,
            known.product,
        ] {
            text(out, place);
        }
        texts(out, known.lot_ids, arena);
        texts(out, known.substrate_ids, arena);
        optional_bytes(out, run.ending.result_text().map(str::as_bytes));
        text(out, run.ending.error_type);
        progress(out, run.progress.as_ref(), arena);
        text(out, known.attributes);
        Ok(())
    }
}

fn progress(out: &mut Vec<u8>, progress: Option<&Progress>, arena: &[u8]) {
    optional(out, progress.map(|known| known.at_ns), bigint);
    for number in [
        progress.and_then(|known| known.ratio),
        progress.and_then(|known| known.completed),
        progress.and_then(|known| known.total),
    ] {
        optional(out, number, double);
    }
    for place in [progress.map(|known| known.unit), progress.map(|known| known.stage), progress.map(|known| known.message)] {
        optional_bytes(out, place.and_then(|place| place.of(arena)));
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // N is at most 16
fn field<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    out.extend_from_slice(&(N as i32).to_be_bytes());
    out.extend_from_slice(&value);
}

#[inline]
fn bigint(out: &mut Vec<u8>, value: i64) {
    field(out, value.to_be_bytes());
}

#[inline]
fn smallint(out: &mut Vec<u8>, value: i16) {
    field(out, value.to_be_bytes());
}

#[inline]
fn double(out: &mut Vec<u8>, value: f64) {
    field(out, value.to_be_bytes());
}

/// Whole microseconds as timestamptz; what remains is returned.
#[inline]
#[allow(clippy::cast_possible_truncation)] // a remainder of 1000
fn time(out: &mut Vec<u8>, unix_ns: i64) -> i16 {
    bigint(out, unix_ns.div_euclid(1000) - POSTGRES_EPOCH_US);
    unix_ns.rem_euclid(1000) as i16
}

#[inline]
fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(out, value),
        None => out.extend_from_slice(&NULL),
    }
}

/// No field of an item of at most 16 MiB comes near 2 GiB: `reject::MAX_PARTS` bounds what grows most.
#[inline]
fn size(len: usize) -> [u8; 4] {
    i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes()
}

#[inline]
fn bytes(out: &mut Vec<u8>, value: &[u8]) -> Range<usize> {
    out.extend_from_slice(&size(value.len()));
    let start = out.len();
    out.extend_from_slice(value);
    start..out.len()
}

#[inline]
fn optional_bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    optional(out, value, |out, value| {
        bytes(out, value);
    });
}

/// An array without nulls. An empty one has no dimension.
fn array_header(out: &mut Vec<u8>, of: u32, number: usize) {
    out.extend_from_slice(&u32::from(number > 0).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&of.to_be_bytes());
    if number > 0 {
        out.extend_from_slice(&size(number));
        out.extend_from_slice(&1_u32.to_be_bytes());
    }
}

fn array<T: Copy>(out: &mut Vec<u8>, of: u32, items: &[T], encode: impl Fn(T) -> [u8; 8]) {
    let header = if items.is_empty() { 12 } else { 20 };
    out.extend_from_slice(&size(header + items.len() * 12));
    array_header(out, of, items.len());
    for &item in items {
        field(out, encode(item));
    }
}

fn texts(out: &mut Vec<u8>, list: Place, arena: &[u8]) {
    optional(out, list.of(arena), |out, list| {
        let number = crate::run::texts(list).count();
        out.extend_from_slice(&size(20 + list.len())); // each text stands there behind its length already
        array_header(out, TEXT, number);
        out.extend_from_slice(list);
    });
}

/// Where a column's length stands in a row.
fn column(row: &[u8], position: usize) -> usize {
    let mut at = 2;
    for _ in 0..position {
        let len = row.get(at..).and_then(<[u8]>::first_chunk::<4>).map_or(-1, |len| i32::from_be_bytes(*len));
        at += 4 + usize::try_from(len).unwrap_or(0);
    }
    at
}

/// Write a column's value and return where the next column stands.
fn put(row: &mut [u8], at: usize, value: &[u8]) -> usize {
    let from = at + 4;
    let to = from + value.len();
    if let Some(place) = row.get_mut(from..to) {
        place.copy_from_slice(value);
    }
    to
}
