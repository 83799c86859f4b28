//! What an engine's wire format has to do: write rows as they are decoded, and put in what only the writer knows when it is known.
//!
//! Implemented by `copy::CopyBinary` (PostgreSQL) and `rowbinary::RowBinary` (ClickHouse). Called by `span`, `log`, `point` (rows)
//! and `part` (what the writer knows, runs).

use std::ops::Range;

use crate::records::{Block, LogMark, PointMark, SpanMark};
use crate::run::Run;

/// What a span or log record belongs to, for formats that name it in each row.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // named as their columns
pub struct Owner<'r> {
    pub resource_key: &'r [u8; 32],
    pub scope_key: &'r [u8; 32],
    pub site: &'r str,
    pub service: &'r str,
}

/// One row of `span`.
#[allow(missing_docs)] // named as its columns
pub struct SpanRow<'r> {
    pub owner: Owner<'r>,
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

/// One row of `log_record`.
#[allow(missing_docs)] // named as its columns
pub struct LogRow<'r> {
    pub owner: Owner<'r>,
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

/// One row of `metric_point`.
#[allow(missing_docs)] // named as its columns
pub struct PointRow<'r> {
    pub series_key: &'r [u8; 32],
    pub time_ns: i64,
    pub start_ns: Option<i64>,
    pub received_ns: i64,
    pub measured: &'r Measured,
    pub flags: u32,
}

/// What the writer gave says nothing about a name of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unnumbered;

/// One engine's format. Rows are appended to `out`, with room for what only the writer knows.
pub trait RowEncoder {
    /// What only the writer knows: the database's numbers of names, or which call writes the rows.
    type Given;
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

    /// Complete a row that `span` made.
    ///
    /// # Errors
    /// A name has no number.
    fn complete_span(&self, row: &mut [u8], mark: &SpanMark, block: &Block, given: &Self::Given) -> Result<(), Unnumbered>;
    /// Complete a row that `log` made.
    ///
    /// # Errors
    /// A name has no number.
    fn complete_log(&self, row: &mut [u8], mark: &LogMark, block: &Block, given: &Self::Given) -> Result<(), Unnumbered>;
    /// Complete a row that `point` made.
    ///
    /// # Errors
    /// A name has no number.
    fn complete_point(&self, row: &mut [u8], mark: &PointMark, block: &Block, given: &Self::Given) -> Result<(), Unnumbered>;
    /// Append what is known of a run, in the columns of the table that runs are sent to.
    ///
    /// # Errors
    /// Its site has no number.
    fn run(&self, run: &Run, block: &Block, given: &Self::Given, out: &mut Vec<u8>) -> Result<(), Unnumbered>;
}
