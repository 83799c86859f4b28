//! What a dead letter keeps of a rejected item: a request with this item alone, which a lane can decode again.

use std::borrow::Cow;

use crate::measured::Kind;
use crate::records::{Place, keep};

/// What a dead letter keeps: a request with the rejected item alone when that is shorter, else so much of the item.
pub const MAX_SAMPLE_BYTES: usize = 64 * 1024;
/// Samples of one request have at most so many times its bytes and one sample more; what is rejected then is kept bare.
pub const SAMPLES: usize = 4;

/// What is around the items that are read now: the messages of their resource and scope.
#[derive(Debug, Default)]
#[allow(missing_docs)] // named as what they hold
pub struct Frame<'a> {
    pub resource: Cow<'a, [u8]>,
    pub scope: Cow<'a, [u8]>,
}

/// The metric of a data point, as it stands on the wire.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // OTLP's names
pub struct Around<'a> {
    pub name: &'a [u8],
    pub unit: &'a [u8],
    pub kind: Kind,
    pub temporality: i32,
    pub monotonic: bool,
}

/// Put the sample of an item into the arena. `room` is what is left for whole samples of its request.
pub fn sample(item: &[u8], around: Option<Around<'_>>, frame: &Frame<'_>, room: &mut usize, arena: &mut Vec<u8>) -> Place {
    if item.len() < MAX_SAMPLE_BYTES && frame.resource.len() + frame.scope.len() < MAX_SAMPLE_BYTES {
        let whole = whole(item, around, frame);
        if whole.len() < MAX_SAMPLE_BYTES && whole.len() <= *room {
            *room -= whole.len();
            return keep(&whole, arena);
        }
    }
    keep(&item[..item.len().min(MAX_SAMPLE_BYTES)], arena)
}

/// All signals have one shape: groups (1) of a resource (1) and scoped groups (2), those of a scope (1) and items (2).
fn whole(item: &[u8], around: Option<Around<'_>>, frame: &Frame<'_>) -> Vec<u8> {
    let described = around.map(|metric| metric_of(metric, item));
    let (mut scoped, mut group, mut request) = (Vec::new(), Vec::new(), Vec::new());
    some(1, &frame.scope, &mut scoped);
    lengthy(2, described.as_deref().unwrap_or(item), &mut scoped);
    some(1, &frame.resource, &mut group);
    lengthy(2, &scoped, &mut group);
    lengthy(1, &group, &mut request);
    request
}

fn metric_of(metric: Around<'_>, point: &[u8]) -> Vec<u8> {
    let (mut data, mut whole) = (Vec::new(), Vec::new());
    lengthy(1, point, &mut data);
    if metric.temporality != 0 {
        data.push(2 << 3);
        // An enum on the wire is the two's complement of its number in 64 bits.
        varint(i64::from(metric.temporality).cast_unsigned(), &mut data);
    }
    if metric.monotonic {
        data.extend_from_slice(&[3 << 3, 1]);
    }
    some(1, metric.name, &mut whole);
    some(3, metric.unit, &mut whole);
    lengthy(metric.kind.field(), &data, &mut whole);
    whole
}

fn some(number: u8, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        lengthy(number, value, out);
    }
}

fn lengthy(number: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

#[allow(clippy::cast_possible_truncation)] // seven bits at a time
fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
