//! The streams of some requests of a block: rows chosen, doubles dropped, the database's numbers put in.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::encoder::{RowEncoder, RowNumbers};
use crate::records::{Block, LogMark, Place, PointMark, SpanMark};
use crate::run::Run;

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

/// A name of the block has no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unnumbered;

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
    /// Put the numbers into a copy of the row.
    ///
    /// # Errors
    /// A name has no number.
    fn number<E: RowEncoder>(&self, encoder: &E, block: &Block, numbers: &Numbers, row: &mut [u8]) -> Result<(), Unnumbered>;
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

    fn number<E: RowEncoder>(&self, encoder: &E, block: &Block, numbers: &Numbers, row: &mut [u8]) -> Result<(), Unnumbered> {
        encoder.number_span(row, numbers.of(block, self.resource, self.scope)?);
        Ok(())
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

    fn number<E: RowEncoder>(&self, encoder: &E, block: &Block, numbers: &Numbers, row: &mut [u8]) -> Result<(), Unnumbered> {
        encoder.number_log(row, numbers.of(block, self.resource, self.scope)?);
        Ok(())
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

    fn number<E: RowEncoder>(&self, encoder: &E, _: &Block, numbers: &Numbers, row: &mut [u8]) -> Result<(), Unnumbered> {
        encoder.number_point(row, *numbers.series.get(self.series as usize).ok_or(Unnumbered)?);
        Ok(())
    }
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

/// Write a stream into `out`, which has `stream_len` bytes.
///
/// # Errors
/// A name has no number.
pub fn write<M: Mark, E: RowEncoder>(
    chosen: &Chosen,
    marks: &[M],
    block: &Block,
    numbers: &Numbers,
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
        mark.number(encoder, block, numbers, copy)?;
        rest = behind;
    }
    if rest.len() == E::TRAILER.len() {
        rest.copy_from_slice(E::TRAILER);
    }
    Ok(())
}

/// One stream of the run deltas in `range`: one for each run, in the order of site name, trace id and span id.
///
/// # Errors
/// A site has no number.
pub fn runs<E: RowEncoder>(
    block: &Block,
    range: Range<usize>,
    sites: &[i16],
    encoder: &E,
) -> Result<(Vec<u8>, usize), Unnumbered> {
    let deltas = block.runs.get(range).ok_or(Unnumbered)?;
    if deltas.is_empty() {
        return Ok((Vec::new(), 0));
    }
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
    let texts: usize = deltas.iter().map(|run| run.known.attributes.len()).sum();
    let mut out = Vec::with_capacity(texts + deltas.len() * 700);
    out.extend_from_slice(E::HEADER);
    let mut number = 0;
    for same in order.chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2)) {
        let Some((first, others)) = same.split_first() else { continue };
        let mut run: Run = deltas[first.3];
        for other in others {
            run.merge(&deltas[other.3], &block.arena);
        }
        let site = *sites.get(run.site as usize).ok_or(Unnumbered)?;
        encoder.run(&run, site, &block.arena, &mut out);
        number += 1;
    }
    out.extend_from_slice(E::TRAILER);
    Ok((out, number))
}
