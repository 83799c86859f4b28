//! One OTLP span → one row, and what it and its events say about runs.

use crate::decode::{Context, Decoder, Scratch, owner};
use crate::digest::digest;
use crate::encoder::{RowEncoder, SpanRow};
use crate::json::{push_hex, push_integer, push_string, push_text};
use crate::lifecycle::{About, Finished, RunEvent, run_of_event, run_of_span};
use crate::marks::{Marks, Repair};
use crate::records::{Place, SpanMark};
use crate::reject::{Reject, Verdict, id, instant, optional_id, parts};
use crate::text::repaired;
use crate::value::{Attributes, Pair};
use crate::wire::{Field, Malformed, Reader};

const LARGEST_KIND: i32 = 5;
const LARGEST_STATUS: i32 = 2;

/// The order in which the Python lane looks at a span.
const ATTRIBUTES: u8 = 0;
const TIMES: u8 = 1;
const EVENTS: u8 = 2;
const LINKS: u8 = 3;
const IDS: u8 = 4;

#[derive(Default)]
struct Fields<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    kind: i32,
    start_ns: u64,
    end_ns: u64,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
    flags: u32,
    status: i32,
    status_message: &'a [u8],
}

#[derive(Default)]
struct Event<'a> {
    time_ns: u64,
    name: &'a [u8],
    dropped: u32,
}

impl<'a, E: RowEncoder> Decoder<'a, '_, E> {
    /// Add one span.
    ///
    /// # Errors
    /// The reason why it cannot be stored; nothing was added then.
    pub(crate) fn add_span(&mut self, raw: &'a [u8], context: Context) -> Result<Marks, Reject> {
        let malformed = |_| Reject::malformed("span");
        let (mut marks, mut verdict) = (Marks::default(), Verdict::default());
        let scratch = &mut self.scratch;
        scratch.event_messages.clear();
        scratch.link_messages.clear();
        let fields = read(raw, scratch, &mut marks, &mut verdict).map_err(malformed)?;
        let timeless = self.timeless_span(&fields, context);
        let arrived_ns = timeless.map_or(context.received_ns, |own| self.arrived_ns(&own, context.received_ns));
        let (start_ns, end_ns) = times(&fields, arrived_ns, &mut marks, &mut verdict);
        write_lists(&mut self.scratch, start_ns, &mut marks, &mut verdict).map_err(malformed)?;
        let trace_id = verdict.note(IDS, id::<16>(fields.trace_id, "trace id")).unwrap_or_default();
        let span_id = verdict.note(IDS, id::<8>(fields.span_id, "span id")).unwrap_or_default();
        let parent_span_id = verdict.note(IDS, optional_id::<8>(fields.parent_span_id, "parent span id")).flatten();
        verdict.result()?;
        self.take_parts(self.scratch.event_messages.len() + self.scratch.link_messages.len())?;

        let scratch = &mut self.scratch;
        let name = repaired(fields.name, &mut marks);
        let status_message = repaired(fields.status_message, &mut marks);
        let trace_state = repaired(fields.trace_state, &mut marks);
        let kind = small_enum(fields.kind, LARGEST_KIND, &mut marks);
        let status = small_enum(fields.status, LARGEST_STATUS, &mut marks);
        scratch.item.arrange(&mut marks);
        scratch.attributes.clear();
        scratch.item.write(marks, &mut scratch.attributes);
        let row = SpanRow {
            owner: owner(&self.senders, &self.scopes, context),
            trace_id,
            span_id,
            parent_span_id,
            start_ns,
            duration_ns: end_ns.saturating_sub(start_ns),
            received_ns: context.received_ns,
            flags: fields.flags,
            dropped_attributes: fields.dropped_attributes,
            dropped_events: fields.dropped_events,
            dropped_links: fields.dropped_links,
            kind,
            status,
            name: &name,
            status_message: &status_message,
            trace_state: &trace_state,
            attributes: &scratch.attributes,
            events: Some(scratch.events.as_slice()).filter(|text| !text.is_empty()),
            links: Some(scratch.links.as_slice()).filter(|text| !text.is_empty()),
        };
        let at = self.block.arena.len();
        let attributes = self.encoder.span(&row, &mut self.block.arena);
        let row = (at..self.block.arena.len()).into();
        let (resource, scope, site) = self.numbers(context);
        self.block.spans.push(SpanMark { row, resource, scope, start_ns, trace_id, span_id });
        self.block.timeless.extend(timeless);
        let about = About { sender: &self.senders[context.sender], site, trace_id, span_id, received_ns: context.received_ns };
        let finished = Finished { start_ns, end_ns, status };
        let known = self.block.runs.len();
        self.block.runs.extend(run_of_span(about, finished, &self.scratch.item, attributes.into(), &mut self.block.arena));
        if !self.scratch.event_messages.is_empty() {
            let run = (known < self.block.runs.len()).then_some(known);
            self.add_event_runs(context, site, self.block.spans.len() - 1, run);
        }
        Ok(marks)
    }

    /// What tells a span apart that says neither start nor end; None for every other.
    fn timeless_span(&self, fields: &Fields<'_>, context: Context) -> Option<[u8; 32]> {
        let site = self.senders[context.sender].site.as_bytes();
        (fields.start_ns == 0 && fields.end_ns == 0).then(|| digest(&[site, fields.trace_id, fields.span_id]))
    }

    /// What span events say about the span's run, which is one record however many there are. They were read once and are good.
    fn add_event_runs(&mut self, context: Context, site: u32, span: usize, mut run: Option<usize>) {
        let SpanMark { trace_id, span_id, start_ns, .. } = self.block.spans[span];
        let about = About { sender: &self.senders[context.sender], site, trace_id, span_id, received_ns: context.received_ns };
        for message in &self.scratch.event_messages {
            let Some(kind) = name_of(message).and_then(RunEvent::named) else { continue };
            let attributes = &mut self.scratch.inner;
            let mut marks = Marks::default();
            attributes.clear();
            let Ok(event) = read_event(message, attributes, &mut marks, &mut Verdict::default()) else { continue };
            attributes.arrange(&mut marks);
            let at = self.block.arena.len();
            if kind == RunEvent::Start {
                attributes.write(Marks::default(), &mut self.block.arena);
            }
            let json: Place = (at..self.block.arena.len()).into();
            let time_ns = i64::try_from(event.time_ns).ok().filter(|&ns| ns > 0).unwrap_or(start_ns);
            let said = run_of_event(about, kind, time_ns, attributes, json, &mut self.block.arena);
            if let Some(run) = run {
                self.block.runs[run].merge(&said, &self.block.arena);
            } else {
                run = Some(self.block.runs.len());
                self.block.runs.push(said);
            }
        }
    }
}

/// All fields, attributes already as JSON; events and links are put aside.
#[inline]
fn read<'a>(
    raw: &'a [u8],
    scratch: &mut Scratch<'a>,
    marks: &mut Marks,
    verdict: &mut Verdict,
) -> Result<Fields<'a>, Malformed> {
    let mut fields = Fields::default();
    let mut reader = Reader::new(raw, 0);
    scratch.item.clear();
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(value)) => fields.trace_id = value,
            (2, Field::Len(value)) => fields.span_id = value,
            (3, Field::Len(value)) => fields.trace_state = value,
            (4, Field::Len(value)) => fields.parent_span_id = value,
            (5, Field::Len(value)) => fields.name = value,
            (6, Field::Varint(value)) => fields.kind = int32(value),
            (7, Field::Fixed64(value)) => fields.start_ns = value,
            (8, Field::Fixed64(value)) => fields.end_ns = value,
            (9, Field::Len(value)) => {
                let pair = Pair::read(value, 1)?;
                if verdict.open(ATTRIBUTES) {
                    verdict.note(ATTRIBUTES, scratch.item.add(pair, 0, marks));
                }
            }
            (10, Field::Varint(value)) => fields.dropped_attributes = uint32(value),
            (11, Field::Len(value)) => scratch.event_messages.push(value),
            (12, Field::Varint(value)) => fields.dropped_events = uint32(value),
            (13, Field::Len(value)) => scratch.link_messages.push(value),
            (14, Field::Varint(value)) => fields.dropped_links = uint32(value),
            (15, Field::Len(value)) => read_status(value, &mut fields)?,
            (16, Field::Fixed32(value)) => fields.flags = value,
            _ => {}
        }
    }
    Ok(fields)
}

fn read_status<'a>(message: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Malformed> {
    let mut reader = Reader::new(message, 1);
    while let Some(field) = reader.next()? {
        match field {
            (2, Field::Len(value)) => fields.status_message = value,
            (3, Field::Varint(value)) => fields.status = int32(value),
            _ => {}
        }
    }
    Ok(())
}

/// Start and end. A missing one takes the other's place; without both, both are when it arrived.
fn times(fields: &Fields<'_>, arrived_ns: i64, marks: &mut Marks, verdict: &mut Verdict) -> (i64, i64) {
    let mut start_ns = verdict.note(TIMES, instant(fields.start_ns)).unwrap_or_default();
    let mut end_ns = verdict.note(TIMES, instant(fields.end_ns)).unwrap_or_default();
    if start_ns == 0 {
        marks.add(Repair::NoStart);
        start_ns = if end_ns == 0 { arrived_ns } else { end_ns };
    }
    if end_ns == 0 {
        marks.add(Repair::NoEnd);
        end_ns = start_ns;
    }
    if end_ns < start_ns {
        marks.add(Repair::EndBeforeStart);
        end_ns = start_ns;
    }
    (start_ns, end_ns)
}

/// Events and links as JSON lists; empty texts where the span has none.
#[inline]
fn write_lists(scratch: &mut Scratch<'_>, start_ns: i64, marks: &mut Marks, verdict: &mut Verdict) -> Result<(), Malformed> {
    let Scratch { inner, events, links, event_messages, link_messages, .. } = scratch;
    events.clear();
    verdict.note(EVENTS, parts(event_messages.len()));
    for message in event_messages.iter() {
        events.push(if events.is_empty() { b'[' } else { b',' });
        write_event(message, start_ns, inner, events, marks, verdict)?;
    }
    links.clear();
    verdict.note(LINKS, parts(link_messages.len()));
    for message in link_messages.iter() {
        links.push(if links.is_empty() { b'[' } else { b',' });
        write_link(message, inner, links, marks, verdict)?;
    }
    for list in [events, links] {
        if !list.is_empty() {
            list.push(b']');
        }
    }
    Ok(())
}

fn read_event<'a>(
    message: &'a [u8],
    attributes: &mut Attributes<'a>,
    marks: &mut Marks,
    verdict: &mut Verdict,
) -> Result<Event<'a>, Malformed> {
    let mut event = Event::default();
    let mut failure = Ok(());
    let mut reader = Reader::new(message, 1);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Fixed64(value)) => event.time_ns = value,
            (2, Field::Len(value)) => event.name = value,
            (3, Field::Len(value)) => {
                let pair = Pair::read(value, 2)?;
                if failure.is_ok() {
                    failure = attributes.add(pair, 0, marks);
                }
            }
            (4, Field::Varint(value)) => event.dropped = uint32(value),
            _ => {}
        }
    }
    verdict.note(EVENTS, instant(event.time_ns));
    verdict.note(EVENTS, failure);
    Ok(event)
}

fn write_event<'a>(
    message: &'a [u8],
    start_ns: i64,
    attributes: &mut Attributes<'a>,
    out: &mut Vec<u8>,
    marks: &mut Marks,
    verdict: &mut Verdict,
) -> Result<(), Malformed> {
    attributes.clear();
    let event = read_event(message, attributes, marks, verdict)?;
    if event.time_ns == 0 {
        marks.add(Repair::NoTime);
    }
    if !verdict.open(EVENTS) {
        return Ok(());
    }
    attributes.arrange(marks);
    out.extend_from_slice(br#"{"attributes":"#);
    attributes.write(Marks::default(), out);
    if event.dropped > 0 {
        out.extend_from_slice(br#","dropped_attributes":"#);
        push_integer(event.dropped, out);
    }
    out.extend_from_slice(br#","name":"#);
    push_string(event.name, marks, out);
    out.extend_from_slice(br#","time_ns":"#);
    push_integer(i64::try_from(event.time_ns).ok().filter(|&ns| ns > 0).unwrap_or(start_ns), out);
    out.push(b'}');
    Ok(())
}

fn name_of(event: &[u8]) -> Option<&str> {
    let mut reader = Reader::new(event, 1);
    let mut name = b"".as_slice();
    while let Some(field) = reader.next().ok()? {
        if let (2, Field::Len(value)) = field {
            name = value;
        }
    }
    std::str::from_utf8(name).ok()
}

/// A link is shown as it came, ids of a wrong length too: it is text for the reader, never a key.
fn write_link<'a>(
    message: &'a [u8],
    attributes: &mut Attributes<'a>,
    out: &mut Vec<u8>,
    marks: &mut Marks,
    verdict: &mut Verdict,
) -> Result<(), Malformed> {
    let (mut trace_id, mut span_id, mut state) = (b"".as_slice(), b"".as_slice(), b"".as_slice());
    let (mut dropped, mut flags) = (0, 0);
    attributes.clear();
    let mut reader = Reader::new(message, 1);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(value)) => trace_id = value,
            (2, Field::Len(value)) => span_id = value,
            (3, Field::Len(value)) => state = value,
            (4, Field::Len(value)) => {
                let pair = Pair::read(value, 2)?;
                if verdict.open(LINKS) {
                    verdict.note(LINKS, attributes.add(pair, 0, marks));
                }
            }
            (5, Field::Varint(value)) => dropped = uint32(value),
            (6, Field::Fixed32(value)) => flags = value,
            _ => {}
        }
    }
    if !verdict.open(LINKS) {
        return Ok(());
    }
    attributes.arrange(marks);
    out.extend_from_slice(br#"{"attributes":"#);
    attributes.write(Marks::default(), out);
    for (name, number) in [("dropped_attributes", dropped), ("flags", flags)] {
        if number > 0 {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            push_integer(number, out);
        }
    }
    out.extend_from_slice(br#","span_id":""#);
    push_hex(span_id, out);
    out.extend_from_slice(br#"","trace_id":""#);
    push_hex(trace_id, out);
    out.push(b'"');
    if !state.is_empty() {
        out.extend_from_slice(br#","trace_state":"#);
        push_text(&repaired(state, marks), out);
    }
    out.push(b'}');
    Ok(())
}

/// An int32 or enum on the wire is the lower half of 64 bits.
#[inline]
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn int32(value: u64) -> i32 {
    value as i32
}

/// As `int32`, for a uint32.
#[inline]
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn uint32(value: u64) -> u32 {
    value as u32
}

/// A value that the enum has; another one becomes 0, unspecified.
#[inline]
pub(crate) fn small_enum(value: i32, largest: i32, marks: &mut Marks) -> i16 {
    match i16::try_from(value) {
        Ok(known) if (0..=largest).contains(&value) => known,
        _ => {
            marks.add(Repair::UnknownEnum);
            0
        }
    }
}
