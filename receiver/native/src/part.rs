//! The streams of some requests of a block: rows chosen, doubles dropped, what only the writer knows put in.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::encoder::{RowEncoder, Unnumbered};
use crate::records::{Block, LogMark, Place, PointMark, SpanMark};
use crate::run::Run;

/// One kind of row.
pub trait Mark {
    /// What makes two rows the same one: the table's unique key.
    type Key: Hash + Eq;
    /// The key.
    fn key(&self, block: &Block) -> Self::Key;
    /// The time by which its partition is chosen.
    fn time_ns(&self) -> i64;
    /// Where the row stands.
    fn row(&self) -> Place;
    /// Put what the writer knows into a copy of the row.
    ///
    /// # Errors
    /// A name has no number.
    fn complete<E: RowEncoder>(&self, encoder: &E, block: &Block, given: &E::Given, row: &mut [u8]) -> Result<(), Unnumbered>;
}

impl Mark for SpanMark {
    type Key = ([u8; 16], [u8; 8], i64, u32);

    fn key(&self, block: &Block) -> Self::Key {
        (
            self.trace_id,
            self.span_id,
            self.start_ns,
            block.resources.get(self.resource as usize).map_or(0, |resource| resource.site),
        )
    }

    fn time_ns(&self) -> i64 {
        self.start_ns
    }

    fn row(&self) -> Place {
        self.row
    }

    fn complete<E: RowEncoder>(&self, encoder: &E, block: &Block, given: &E::Given, row: &mut [u8]) -> Result<(), Unnumbered> {
        encoder.complete_span(row, self, block, given)
    }
}

impl Mark for LogMark {
    type Key = (i64, [u8; 32]);

    fn key(&self, _: &Block) -> Self::Key {
        (self.time_ns.div_euclid(1000), self.digest)
    }

    fn time_ns(&self) -> i64 {
        self.time_ns
    }

    fn row(&self) -> Place {
        self.row
    }

    fn complete<E: RowEncoder>(&self, encoder: &E, block: &Block, given: &E::Given, row: &mut [u8]) -> Result<(), Unnumbered> {
        encoder.complete_log(row, self, block, given)
    }
}

impl Mark for PointMark {
    type Key = (u32, i64);

    fn key(&self, _: &Block) -> Self::Key {
        (self.series, self.time_ns)
    }

    fn time_ns(&self) -> i64 {
        self.time_ns
    }

    fn row(&self) -> Place {
        self.row
    }

    fn complete<E: RowEncoder>(&self, encoder: &E, block: &Block, given: &E::Given, row: &mut [u8]) -> Result<(), Unnumbered> {
        encoder.complete_point(row, self, block, given)
    }
}

/// Rows of one stream, and its size.
#[derive(Debug, Default)]
pub struct Chosen {
    rows: Vec<usize>,
    bytes: usize,
}

impl Chosen {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// There is no row, and so no stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many bytes the stream has, 0 without rows.
    #[must_use]
    pub fn stream_len<E: RowEncoder>(&self) -> usize {
        if self.is_empty() { 0 } else { self.bytes + E::HEADER.len() + E::TRAILER.len() }
    }
}

/// Choose the rows in `range`: the first of each key; those inside [oldest, newest) µs are hot, the others late.
pub fn choose<M: Mark>(marks: &[M], range: Range<usize>, block: &Block, hot_us: Range<i64>) -> (Chosen, Chosen) {
    let mut seen = HashSet::with_capacity_and_hasher(range.len(), RandomState::default());
    let (mut hot, mut late) = (Chosen::default(), Chosen::default());
    for (index, mark) in marks.iter().enumerate().take(range.end).skip(range.start) {
        if !seen.insert(mark.key(block)) {
            continue;
        }
        let chosen = if hot_us.contains(&mark.time_ns().div_euclid(1000)) { &mut hot } else { &mut late };
        chosen.rows.push(index);
        chosen.bytes += mark.row().of(&block.arena).map_or(0, <[u8]>::len);
    }
    (hot, late)
}

/// All rows in `range`, for a database that drops doubles itself.
pub fn all<M: Mark>(marks: &[M], range: Range<usize>, block: &Block) -> Chosen {
    let rows: Vec<_> = range.collect();
    let bytes = rows.iter().filter_map(|&index| marks.get(index)?.row().of(&block.arena)).map(<[u8]>::len).sum();
    Chosen { rows, bytes }
}

/// Write a stream into `out`, which has `stream_len` bytes.
///
/// # Errors
/// A name has no number.
pub fn write<M: Mark, E: RowEncoder>(
    chosen: &Chosen,
    marks: &[M],
    block: &Block,
    given: &E::Given,
    encoder: &E,
    out: &mut [u8],
) -> Result<(), Unnumbered> {
    if chosen.is_empty() {
        return Ok(());
    }
    let (header, mut rest) = out.split_at_mut_checked(E::HEADER.len()).ok_or(Unnumbered)?;
    header.copy_from_slice(E::HEADER);
    for &index in &chosen.rows {
        let mark = marks.get(index).ok_or(Unnumbered)?;
        let row = mark.row().of(&block.arena).ok_or(Unnumbered)?;
        let (copy, behind) = rest.split_at_mut_checked(row.len()).ok_or(Unnumbered)?;
        copy.copy_from_slice(row);
        mark.complete(encoder, block, given, copy)?;
        rest = behind;
    }
    if rest.len() == E::TRAILER.len() {
        rest.copy_from_slice(E::TRAILER);
    }
    Ok(())
}

/// What is known of the runs in `range`: one for each run, in the order of site name, trace id and span id.
#[must_use]
pub fn merged(block: &Block, range: Range<usize>) -> Vec<Run> {
    let Some(deltas) = block.runs.get(range).filter(|deltas| !deltas.is_empty()) else { return Vec::new() };
    let mut rank: Vec<usize> = vec![0; block.sites.len()];
    let mut by_name: Vec<usize> = (0..block.sites.len()).collect();
    by_name.sort_unstable_by_key(|&site| &block.sites[site]);
    for (position, site) in by_name.into_iter().enumerate() {
        rank[site] = position;
    }
    let mut order: Vec<_> = deltas
        .iter()
        .enumerate()
        .map(|(index, run)| {
            (rank[run.site as usize], u128::from_be_bytes(run.trace_id), u64::from_be_bytes(run.span_id), index)
        })
        .collect();
    order.sort_unstable();
    let mut runs = Vec::with_capacity(order.len());
    for same in order.chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2)) {
        let Some((first, others)) = same.split_first() else { continue };
        let mut run: Run = deltas[first.3];
        for other in others {
            run.merge(&deltas[other.3], &block.arena);
        }
        runs.push(run);
    }
    runs
}

/// One stream of `runs`; empty without any.
///
/// # Errors
/// A site has no number.
pub fn write_runs<E: RowEncoder>(block: &Block, runs: &[Run], given: &E::Given, encoder: &E) -> Result<Vec<u8>, Unnumbered> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let texts: usize = runs.iter().map(|run| run.known.attributes.len()).sum();
    let mut out = Vec::with_capacity(texts + runs.len() * 700);
    out.extend_from_slice(E::HEADER);
    for run in runs {
        encoder.run(run, block, given, &mut out)?;
    }
    out.extend_from_slice(E::TRAILER);
    Ok(out)
}
