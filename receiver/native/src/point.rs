//! One OTLP metric → one row per data point, all five kinds.

use std::sync::Arc;

use crate::decode::{Context, Decoder, MAX_ITEM_BYTES, position};
use crate::digest::digest;
use crate::encoder::{PointRow, RowEncoder};
use crate::marks::Marks;
use crate::measured::{Kind, Numbers};
use crate::records::{PointMark, Series};
use crate::reject::{Reject, Verdict, instant};
use crate::sample::Around;
use crate::span::{int32, small_enum, uint32};
use crate::text::repaired;
use crate::value::Pair;
use crate::wire::{EXEMPLAR, Field, KEY_VALUE, Malformed, Reader, check};

const LARGEST_TEMPORALITY: i32 = 2;

/// The order in which the Python lane looks at a point.
const ATTRIBUTES: u8 = 0;
const NUMBERS: u8 = 1;
const TIMES: u8 = 2;

#[derive(Default)]
struct Metric<'a> {
    name: &'a [u8],
    unit: &'a [u8],
    kind: Option<Kind>,
    points: Vec<&'a [u8]>,
    temporality: i32,
    monotonic: bool,
}

/// What all points of a metric share.
#[derive(Clone, Copy)]
struct Shared<'m> {
    name: &'m Arc<str>,
    unit: &'m Arc<str>,
    kind: Kind,
    temporality: i32,
    monotonic: bool,
}

#[derive(Default)]
struct Common {
    start_ns: u64,
    time_ns: u64,
    flags: u32,
}

impl<'a, E: RowEncoder> Decoder<'a, '_, E> {
    /// Add a metric's points; each that cannot be stored is rejected by itself.
    ///
    /// # Errors
    /// The reason why none of them can be stored.
    pub(crate) fn add_metric(&mut self, raw: &'a [u8], context: Context) -> Result<Marks, Reject> {
        let mut marks = Marks::default();
        let metric = read(raw).map_err(|_| Reject::malformed("metric"))?;
        let Some(kind) = metric.kind else { return Ok(marks) };
        let (name, unit) = (repaired(metric.name, &mut marks).into(), repaired(metric.unit, &mut marks).into());
        let temporality = i32::from(small_enum(metric.temporality, LARGEST_TEMPORALITY, &mut marks));
        let shared = Shared { name: &name, unit: &unit, kind, temporality, monotonic: metric.monotonic };
        let Metric { name, unit, temporality, monotonic, .. } = metric;
        let around = Around { name, unit, kind, temporality, monotonic };
        for point in metric.points {
            self.isolate(point, Some(around), context, |decoder, point, context| decoder.add_point(point, context, shared));
        }
        Ok(marks)
    }

    fn add_point(&mut self, raw: &'a [u8], context: Context, metric: Shared<'_>) -> Result<Marks, Reject> {
        let malformed = |_| Reject::malformed(metric.kind.name());
        let mut marks = Marks::default();
        let mut verdict = Verdict::default();
        let mut numbers = Numbers::default();
        let mut common = Common::default();
        let scratch = &mut self.scratch;
        scratch.item.clear();
        let attributes_field = metric.kind.attributes_field();
        let mut reader = Reader::new(raw, 0);
        while let Some((number, field)) = reader.next().map_err(malformed)? {
            match (number, field) {
                (2, Field::Fixed64(value)) => common.start_ns = value,
                (3, Field::Fixed64(value)) => common.time_ns = value,
                (_, Field::Varint(value)) if number == metric.kind.flags_field() => common.flags = uint32(value),
                (_, Field::Len(value)) if number == attributes_field => {
                    let pair = Pair::read(value, 1).map_err(malformed)?;
                    if verdict.open(ATTRIBUTES) {
                        verdict.note(ATTRIBUTES, scratch.item.add(pair, 0, &mut marks));
                    }
                }
                (_, Field::Len(value)) if Some(number) == metric.kind.exemplars_field() => {
                    check(value, 1, &EXEMPLAR).map_err(malformed)?;
                }
                _ => numbers.read(metric.kind, number, field).map_err(malformed)?,
            }
        }
        let measured = verdict.note(NUMBERS, numbers.measured(metric.kind, &mut marks));
        let time_ns = verdict.note(TIMES, instant(common.time_ns)).unwrap_or_default();
        let start_ns = verdict.note(TIMES, instant(common.start_ns)).unwrap_or_default();
        verdict.result()?;
        let measured = measured.unwrap_or_default();
        self.take_parts(measured.parts())?;
        let scratch = &mut self.scratch;
        scratch.item.arrange(&mut marks);
        scratch.attributes.clear();
        // Without marks: a point's attributes are its series, and a mended point belongs to the series of its neighbours.
        scratch.item.write(Marks::default(), &mut scratch.attributes);
        let series = self.series(context, metric);
        let series_key = self.block.series[series as usize].key;
        let timeless = (time_ns == 0).then(|| digest(&[&series_key, raw]));
        let time_ns = timeless.map_or(time_ns, |own| self.arrived_ns(&own, context.received_ns));
        let row = PointRow {
            series_key: &series_key,
            time_ns,
            start_ns: Some(start_ns).filter(|&ns| ns != 0),
            received_ns: context.received_ns,
            measured: &measured,
            flags: common.flags,
        };
        let at = self.block.arena.len();
        self.encoder.point(&row, &mut self.block.arena);
        let row = (at..self.block.arena.len()).into();
        self.block.points.push(PointMark { row, series, time_ns });
        self.block.timeless.extend(timeless);
        Ok(marks)
    }

    /// The number of a point's series in the block.
    fn series(&mut self, context: Context, metric: Shared<'_>) -> u32 {
        let (resource, scope, _) = self.numbers(context);
        let attributes = &self.scratch.attributes;
        let key = digest(&[
            &self.senders[context.sender].key,
            &self.scopes[context.scope].key,
            metric.name.as_bytes(),
            metric.unit.as_bytes(),
            metric.kind.name().as_bytes(),
            attributes,
        ]);
        if let Some(&number) = self.series_of.get(&key) {
            // Of two ways to describe one series the later counts.
            let known = &mut self.block.series[number as usize];
            (known.temporality, known.monotonic) = (metric.temporality, metric.monotonic);
            return number;
        }
        let number = position(self.block.series.len());
        self.block.series.push(Series {
            key,
            resource,
            scope,
            name: Arc::clone(metric.name),
            unit: Arc::clone(metric.unit),
            kind: metric.kind.name(),
            temporality: metric.temporality,
            monotonic: metric.monotonic,
            attributes: String::from_utf8_lossy(attributes).into_owned(),
        });
        self.series_of.insert(key, number);
        number
    }
}

/// How many data points a metric has; none when it cannot be read.
pub(crate) fn number(raw: &[u8]) -> usize {
    if raw.len() > MAX_ITEM_BYTES { 0 } else { read(raw).map_or(0, |metric| metric.points.len()) }
}

fn read(raw: &[u8]) -> Result<Metric<'_>, Malformed> {
    let mut metric = Metric::default();
    let mut reader = Reader::new(raw, 0);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(value)) => metric.name = value,
            (3, Field::Len(value)) => metric.unit = value,
            (12, Field::Len(value)) => check(value, 1, &KEY_VALUE)?,
            (number, Field::Len(value)) => {
                if let Some(kind) = Kind::of_field(number) {
                    read_data(value, kind, &mut metric)?;
                }
            }
            _ => {}
        }
    }
    Ok(metric)
}

/// The data of one kind. Two messages of one kind are joined; one of another kind takes their place.
fn read_data<'a>(message: &'a [u8], kind: Kind, metric: &mut Metric<'a>) -> Result<(), Malformed> {
    if metric.kind != Some(kind) {
        *metric = Metric { name: metric.name, unit: metric.unit, kind: Some(kind), ..Metric::default() };
    }
    let (has_temporality, has_monotonic) = (kind.has_temporality(), kind == Kind::Sum);
    let mut reader = Reader::new(message, 1);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(value)) => metric.points.push(value),
            (2, Field::Varint(value)) if has_temporality => metric.temporality = int32(value),
            (3, Field::Varint(value)) if has_monotonic => metric.monotonic = value != 0,
            _ => {}
        }
    }
    Ok(())
}
