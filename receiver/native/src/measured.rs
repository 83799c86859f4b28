//! What one data point measured: the numbers of the five kinds, and the explicit bounds of exponential histograms.

use crate::encoder::Measured;
use crate::marks::{Marks, Repair};
use crate::reject::{Reject, count, parts};
use crate::wire::{Field, Malformed, Reader};

/// Of exponential histograms; outside of it a bucket is no interval of doubles any more.
const SMALLEST_SCALE: i32 = -10;
const LARGEST_SCALE: i32 = 20;

/// The kinds of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // OTLP's names
pub enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

impl Kind {
    /// The kind whose data a field of `Metric` holds.
    #[must_use]
    pub fn of_field(number: u32) -> Option<Self> {
        let all = [Self::Gauge, Self::Sum, Self::Histogram, Self::Exponential, Self::Summary];
        all.into_iter().find(|kind| u32::from(kind.field()) == number)
    }

    /// The field of `Metric` that holds its data.
    #[must_use]
    pub fn field(self) -> u8 {
        match self {
            Self::Gauge => 5,
            Self::Sum => 7,
            Self::Histogram => 9,
            Self::Exponential => 10,
            Self::Summary => 11,
        }
    }

    /// As it is stored in `metric_series.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Sum => "sum",
            Self::Histogram => "histogram",
            Self::Exponential => "exponential_histogram",
            Self::Summary => "summary",
        }
    }

    /// Its data say whether they are deltas.
    #[must_use]
    pub fn has_temporality(self) -> bool {
        matches!(self, Self::Sum | Self::Histogram | Self::Exponential)
    }

    /// The number of `attributes` in its points.
    #[must_use]
    pub fn attributes_field(self) -> u32 {
        match self {
            Self::Gauge | Self::Sum | Self::Summary => 7,
            Self::Histogram => 9,
            Self::Exponential => 1,
        }
    }

    /// The number of `flags` in its points.
    #[must_use]
    pub fn flags_field(self) -> u32 {
        match self {
            Self::Gauge | Self::Sum | Self::Summary => 8,
            Self::Histogram | Self::Exponential => 10,
        }
    }

    /// The number of `exemplars` in its points.
    #[must_use]
    pub fn exemplars_field(self) -> Option<u32> {
        match self {
            Self::Gauge | Self::Sum => Some(5),
            Self::Histogram => Some(8),
            Self::Exponential => Some(11),
            Self::Summary => None,
        }
    }
}

/// One half of an exponential histogram.
#[derive(Debug, Default)]
struct Side {
    offset: i32,
    counts: Vec<u64>,
}

/// The numbers of one point as they stood on the wire.
#[derive(Debug, Default)]
pub struct Numbers {
    value: Option<f64>,
    count: u64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    bounds: Vec<f64>,
    buckets: Vec<u64>,
    scale: i32,
    zero_count: u64,
    positive: Side,
    negative: Side,
    quantiles: Vec<(f64, f64)>,
}

impl Numbers {
    /// Take one field of a point.
    ///
    /// # Errors
    /// Malformed when the field is a list or message and is broken.
    pub fn read(&mut self, kind: Kind, number: u32, field: Field<'_>) -> Result<(), Malformed> {
        match kind {
            Kind::Gauge | Kind::Sum => self.read_number(number, field),
            Kind::Histogram => return self.read_histogram(number, field),
            Kind::Exponential => return self.read_exponential(number, field),
            Kind::Summary => return self.read_summary(number, field),
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)] // sfixed64, and rounded as Python's float() does
    fn read_number(&mut self, number: u32, field: Field<'_>) {
        match (number, field) {
            (4, Field::Fixed64(bits)) => self.value = Some(f64::from_bits(bits)),
            (6, Field::Fixed64(bits)) => self.value = Some(bits as i64 as f64),
            _ => {}
        }
    }

    fn read_histogram(&mut self, number: u32, field: Field<'_>) -> Result<(), Malformed> {
        match (number, field) {
            (4, Field::Fixed64(value)) => self.count = value,
            (5, Field::Fixed64(bits)) => self.sum = Some(f64::from_bits(bits)),
            (6, Field::Fixed64(value)) => self.buckets.push(value),
            (6, Field::Len(packed)) => each_fixed64(packed, |value| self.buckets.push(value))?,
            (7, Field::Fixed64(bits)) => self.bounds.push(f64::from_bits(bits)),
            (7, Field::Len(packed)) => each_fixed64(packed, |bits| self.bounds.push(f64::from_bits(bits)))?,
            (11, Field::Fixed64(bits)) => self.min = Some(f64::from_bits(bits)),
            (12, Field::Fixed64(bits)) => self.max = Some(f64::from_bits(bits)),
            _ => {}
        }
        Ok(())
    }

    fn read_exponential(&mut self, number: u32, field: Field<'_>) -> Result<(), Malformed> {
        match (number, field) {
            (4, Field::Fixed64(value)) => self.count = value,
            (5, Field::Fixed64(bits)) => self.sum = Some(f64::from_bits(bits)),
            (6, Field::Varint(value)) => self.scale = zigzag(value),
            (7, Field::Fixed64(value)) => self.zero_count = value,
            (8, Field::Len(message)) => read_side(message, &mut self.positive)?,
            (9, Field::Len(message)) => read_side(message, &mut self.negative)?,
            (12, Field::Fixed64(bits)) => self.min = Some(f64::from_bits(bits)),
            (13, Field::Fixed64(bits)) => self.max = Some(f64::from_bits(bits)),
            _ => {}
        }
        Ok(())
    }

    fn read_summary(&mut self, number: u32, field: Field<'_>) -> Result<(), Malformed> {
        match (number, field) {
            (4, Field::Fixed64(value)) => self.count = value,
            (5, Field::Fixed64(bits)) => self.sum = Some(f64::from_bits(bits)),
            (6, Field::Len(message)) => {
                let mut pair = (0.0, 0.0);
                let mut reader = Reader::new(message, 1);
                while let Some(field) = reader.next()? {
                    match field {
                        (1, Field::Fixed64(bits)) => pair.0 = f64::from_bits(bits),
                        (2, Field::Fixed64(bits)) => pair.1 = f64::from_bits(bits),
                        _ => {}
                    }
                }
                self.quantiles.push(pair);
            }
            _ => {}
        }
        Ok(())
    }

    /// What is stored.
    ///
    /// # Errors
    /// The reason why the point cannot be stored.
    pub fn measured(self, kind: Kind, marks: &mut Marks) -> Result<Measured, Reject> {
        match kind {
            Kind::Gauge | Kind::Sum => Ok(Measured { value: finite(self.value, marks), ..Measured::default() }),
            Kind::Histogram => self.histogram(marks),
            Kind::Exponential => self.exponential(marks),
            Kind::Summary => self.summary(marks),
        }
    }

    fn totals(&self, marks: &mut Marks) -> Result<Measured, Reject> {
        Ok(Measured {
            count: Some(count(self.count)?),
            sum: finite(self.sum, marks),
            min: finite(self.min, marks),
            max: finite(self.max, marks),
            ..Measured::default()
        })
    }

    fn histogram(self, marks: &mut Marks) -> Result<Measured, Reject> {
        parts(self.bounds.len().max(self.buckets.len()))?;
        let buckets = counts(&self.buckets)?;
        if !self.bounds.iter().all(|bound| bound.is_finite()) || self.bounds.windows(2).any(|two| two[0] >= two[1]) {
            return Err("histogram bounds must be finite and rise".into());
        }
        if !(buckets.is_empty() && self.bounds.is_empty()) && buckets.len() != self.bounds.len() + 1 {
            return Err("a histogram has one bucket more than it has bounds".into());
        }
        let totals = self.totals(marks)?;
        Ok(Measured { bounds: some(self.bounds), buckets: some(buckets), ..totals })
    }

    fn exponential(self, marks: &mut Marks) -> Result<Measured, Reject> {
        if !(SMALLEST_SCALE..=LARGEST_SCALE).contains(&self.scale) {
            return Err(
                format!("the scale of an exponential histogram lies between {SMALLEST_SCALE} and {LARGEST_SCALE}").into()
            );
        }
        let above = self.positive.buckets()?;
        let below = self.negative.buckets()?;
        let zero = count(self.zero_count)?;
        let mut merged = Merged::default();
        if below.is_empty() {
            merged.count(zero);
        } else {
            merged.count(0);
            let bounds = self.negative.bounds(self.scale);
            for (bound, number) in bounds.into_iter().rev().zip(below.into_iter().rev().chain([zero])) {
                merged.bound(-bound);
                merged.count(number);
            }
        }
        if !above.is_empty() {
            let bounds = self.positive.bounds(self.scale);
            for (bound, number) in bounds.into_iter().zip(above.into_iter().chain([0])) {
                merged.bound(bound);
                merged.count(number);
            }
        }
        let totals = self.totals(marks)?;
        let too_many = |_| Reject::from("count is negative or above 2^63 - 1");
        let buckets =
            merged.buckets.into_iter().map(|number| i64::try_from(number).map_err(too_many)).collect::<Result<_, _>>()?;
        Ok(Measured { bounds: Some(merged.bounds), buckets: Some(buckets), ..totals })
    }

    fn summary(self, marks: &mut Marks) -> Result<Measured, Reject> {
        parts(self.quantiles.len())?;
        let good: Vec<_> =
            self.quantiles.iter().copied().filter(|(quantile, value)| quantile.is_finite() && value.is_finite()).collect();
        if good.len() < self.quantiles.len() {
            marks.add(Repair::NotFinite);
        }
        Ok(Measured {
            count: Some(count(self.count)?),
            sum: finite(Some(self.sum.unwrap_or(0.0)), marks),
            bounds: some(good.iter().map(|(quantile, _)| *quantile).collect()),
            quantile_values: some(good.iter().map(|(_, value)| *value).collect()),
            ..Measured::default()
        })
    }
}

/// Bounds and the counts between them. Beyond the doubles' range neighbouring bounds fall together; their counts do as well.
#[derive(Default)]
struct Merged {
    bounds: Vec<f64>,
    buckets: Vec<i128>,
    /// The last bound fell together with the one before.
    same: bool,
}

impl Merged {
    fn bound(&mut self, bound: f64) {
        self.same = self.bounds.last().is_some_and(|last| bound <= *last);
        if !self.same {
            self.bounds.push(bound);
        }
    }

    fn count(&mut self, number: i64) {
        match self.buckets.last_mut() {
            Some(last) if self.same => *last += i128::from(number),
            _ => self.buckets.push(i128::from(number)),
        }
    }
}

impl Side {
    fn buckets(&self) -> Result<Vec<i64>, Reject> {
        parts(self.counts.len())?;
        counts(&self.counts)
    }

    /// The bounds of its buckets, one more than there are buckets, rising from 0 (OTLP data model).
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)] // at most MAX_PARTS beyond 32 bits
    fn bounds(&self, scale: i32) -> Vec<f64> {
        let power = |index: usize| {
            let exponent = (i64::from(self.offset) + index as i64) as f64 * 2_f64.powi(-scale);
            let bound = exponent.exp2();
            if bound.is_infinite() { f64::MAX } else { bound }
        };
        (0..=self.counts.len()).map(power).collect()
    }
}

fn read_side(message: &[u8], side: &mut Side) -> Result<(), Malformed> {
    let mut reader = Reader::new(message, 1);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Varint(value)) => side.offset = zigzag(value),
            (2, Field::Varint(value)) => side.counts.push(value),
            (2, Field::Len(packed)) => {
                let mut numbers = Reader::new(packed, 0);
                while !numbers.is_empty() {
                    side.counts.push(numbers.varint()?);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn each_fixed64(packed: &[u8], mut take: impl FnMut(u64)) -> Result<(), Malformed> {
    let mut numbers = Reader::new(packed, 0);
    while !numbers.is_empty() {
        take(numbers.fixed64()?);
    }
    Ok(())
}

/// A sint32.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // the lower half of 64 bits, as protobuf has it
fn zigzag(value: u64) -> i32 {
    let value = value as u32;
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

fn counts(numbers: &[u64]) -> Result<Vec<i64>, Reject> {
    numbers.iter().map(|&number| count(number)).collect()
}

fn finite(number: Option<f64>, marks: &mut Marks) -> Option<f64> {
    let number = number?;
    if !number.is_finite() {
        marks.add(Repair::NotFinite);
        return None;
    }
    Some(number)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}
