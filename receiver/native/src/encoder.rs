//! What an engine's wire format has to do: write rows as they are decoded, and put the database's numbers in when they are known.
//!
//! Implemented by `copy::CopyBinary` (PostgreSQL). Called by `span`, `log`, `point` (rows) and `part` (numbers, run deltas).

use std::ops::Range;

use crate::run::Run;

/// One row of `span` without its numbers.
#[allow(missing_docs)] // named as its columns
pub struct SpanRow<'r> {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub parent_span_id: Option<[u8; 8]>,
    pub start_ns: i64,
    pub duration_ns: i64,
    pub received_ns: i64,
    pub flags: u32,
    pub dropped_attributes: u32,
    pub dropped_events: u32,
    pub dropped_links: u32,
    pub kind: i16,
    pub status: i16,
    pub name: &'r str,
    pub status_message: &'r str,
    pub trace_state: &'r str,
    pub attributes: &'r [u8],
    pub events: Option<&'r [u8]>,
    pub links: Option<&'r [u8]>,
}

/// One row of `log_record` without its numbers.
#[allow(missing_docs)] // named as its columns
pub struct LogRow<'r> {
    pub time_ns: i64,
    pub observed_ns: i64,
    pub received_ns: i64,
    pub trace_id: Option<[u8; 16]>,
    pub span_id: Option<[u8; 8]>,
    pub flags: u32,
    pub dropped_attributes: u32,
    pub severity: i16,
    pub digest: [u8; 32],
    pub severity_text: &'r str,
    pub event_name: &'r str,
    pub body: Option<&'r [u8]>,
    pub attributes: &'r [u8],
}

/// What one point measured; what its kind does not have is None.
#[derive(Debug, Default, PartialEq)]
#[allow(missing_docs)] // named as its columns
pub struct Measured {
    pub value: Option<f64>,
    pub count: Option<i64>,
    pub sum: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub bounds: Option<Vec<f64>>,
    pub buckets: Option<Vec<i64>>,
    pub quantile_values: Option<Vec<f64>>,
}

impl Measured {
    /// How many numbers stand in its lists.
    #[must_use]
    pub fn parts(&self) -> usize {
        let doubles = [&self.bounds, &self.quantile_values].into_iter().flatten().map(Vec::len).sum::<usize>();
        doubles + self.buckets.as_ref().map_or(0, Vec::len)
    }
}

/// One row of `metric_point` without its numbers.
#[allow(missing_docs)] // named as its columns
pub struct PointRow<'r> {
    pub time_ns: i64,
    pub start_ns: Option<i64>,
    pub received_ns: i64,
    pub measured: &'r Measured,
    pub flags: u32,
}

/// The database's numbers of what a span or log row belongs to.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // named as their columns
pub struct RowNumbers {
    pub site: i16,
    pub app: i32,
    pub resource: i32,
    pub scope: i32,
}

/// One engine's format. Rows are appended to `out` with room for their numbers.
pub trait RowEncoder {
    /// What comes before the rows.
    const HEADER: &'static [u8];
    /// What comes after the rows.
    const TRAILER: &'static [u8];

    /// Append a span. Returns where in `out` its attributes stand.
    fn span(&self, row: &SpanRow<'_>, out: &mut Vec<u8>) -> Range<usize>;
    /// Append a log record. Returns where in `out` its attributes stand.
    fn log(&self, row: &LogRow<'_>, out: &mut Vec<u8>) -> Range<usize>;
    /// Append a point.
    fn point(&self, row: &PointRow<'_>, out: &mut Vec<u8>);
    /// Put numbers into a row that `span` made.
    fn number_span(&self, row: &mut [u8], numbers: RowNumbers);
    /// Put numbers into a row that `log` made.
    fn number_log(&self, row: &mut [u8], numbers: RowNumbers);
    /// Put the series' number into a row that `point` made.
    fn number_point(&self, row: &mut [u8], series: i32);
    /// Append what is known of a run, in the columns of the table of deltas. Its text stands in `arena`.
    fn run(&self, run: &Run, site: i16, arena: &[u8], out: &mut Vec<u8>);
}
