//! One OTLP log record → one row, and what a lifecycle event says about its run, process or feed.

use crate::decode::{Context, Decoder, Scratch, owner};
use crate::digest::digest;
use crate::encoder::{LogRow, RowEncoder};
use crate::lifecycle::{About, RunEvent, positive, run_of_event};
use crate::marks::Marks;
use crate::names::{self, events};
use crate::records::{FeedBeat, LogMark, Place, ProcessBeat};
use crate::reject::{Reject, Verdict, instant, optional_id};
use crate::span::{int32, small_enum, uint32};
use crate::text::repaired;
use crate::value::{Any, Pair};
use crate::wire::{Field, Malformed, Reader};

const LARGEST_SEVERITY: i32 = 24;

/// The order in which the Python lane looks at a log record.
const ATTRIBUTES: u8 = 0;
const BODY: u8 = 1;
const TIMES: u8 = 2;
const IDS: u8 = 3;

#[derive(Default)]
struct Fields<'a> {
    time_ns: u64,
    observed_ns: u64,
    severity: i32,
    severity_text: &'a [u8],
    body: Any<'a>,
    dropped_attributes: u32,
    flags: u32,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a [u8],
}

/// What a stored log record says that runs, processes and feeds need.
struct Said<'n> {
    event_name: &'n str,
    trace_id: Option<[u8; 16]>,
    span_id: Option<[u8; 8]>,
    time_ns: i64,
    site: u32,
    attributes: Place,
}

impl<'a, E: RowEncoder> Decoder<'a, '_, E> {
    /// Add one log record.
    ///
    /// # Errors
    /// The reason why it cannot be stored; nothing was added then.
    pub(crate) fn add_log(&mut self, raw: &'a [u8], context: Context) -> Result<Marks, Reject> {
        let (mut marks, mut verdict) = (Marks::default(), Verdict::default());
        let scratch = &mut self.scratch;
        let fields = read(raw, &mut scratch.item, &mut marks, &mut verdict).map_err(|_| Reject::malformed("log_record"))?;
        scratch.events.clear();
        if fields.body != Any::Absent && verdict.open(BODY) {
            verdict.note(BODY, fields.body.write(0, &mut marks, &mut scratch.events));
        }
        let sent_ns = verdict.note(TIMES, instant(fields.time_ns)).unwrap_or_default();
        let observed_ns = verdict.note(TIMES, instant(fields.observed_ns)).unwrap_or_default();
        let trace_id = verdict.note(IDS, optional_id::<16>(fields.trace_id, "trace id")).flatten();
        let span_id = verdict.note(IDS, optional_id::<8>(fields.span_id, "span id")).flatten();
        verdict.result()?;
        let severity = small_enum(fields.severity, LARGEST_SEVERITY, &mut marks);
        let severity_text = repaired(fields.severity_text, &mut marks);
        let event_name = repaired(fields.event_name, &mut marks);
        scratch.item.arrange(&mut marks);
        scratch.attributes.clear();
        scratch.item.write(marks, &mut scratch.attributes);
        let ids = (trace_id, span_id);
        let told_apart = self.tell_apart(context, ids, &event_name, (sent_ns, observed_ns), severity);
        let timeless = sent_ns == 0 && observed_ns == 0;
        let arrived_ns = if timeless { self.arrived_ns(&told_apart, context.received_ns) } else { context.received_ns };
        let observed_ns = known_ns(observed_ns, arrived_ns);
        let time_ns = known_ns(sent_ns, observed_ns);
        let row = LogRow {
            owner: owner(&self.senders, &self.scopes, context),
            time_ns,
            observed_ns,
            received_ns: context.received_ns,
            trace_id,
            span_id,
            flags: fields.flags,
            dropped_attributes: fields.dropped_attributes,
            severity,
            digest: told_apart,
            severity_text: &severity_text,
            event_name: &event_name,
            body: body_of(&self.scratch),
            attributes: &self.scratch.attributes,
        };
        let at = self.block.arena.len();
        let attributes = self.encoder.log(&row, &mut self.block.arena).into();
        let row = Place::from(at..self.block.arena.len());
        let (resource, scope, site) = self.numbers(context);
        self.block.logs.push(LogMark { row, resource, scope, time_ns, digest: told_apart });
        self.block.timeless.extend(timeless.then_some(told_apart));
        if !event_name.is_empty() {
            // A beat is a sign of life whenever it arrives; all else happened when it was heard of first.
            let beats = timeless && matches!(&*event_name, events::WAFER_JOB_HEARTBEAT | events::WAFER_FEED_BEAT);
            let time_ns = if beats { context.received_ns } else { time_ns };
            self.add_lifecycle(context, &Said { event_name: &event_name, trace_id, span_id, time_ns, site, attributes });
        }
        Ok(marks)
    }

    /// The digest that tells two lines apart. Times as they were sent: a second delivery must give the same.
    fn tell_apart(
        &self,
        context: Context,
        (trace_id, span_id): (Option<[u8; 16]>, Option<[u8; 8]>),
        event_name: &str,
        (sent_ns, observed_ns): (i64, i64),
        severity: i16,
    ) -> [u8; 32] {
        digest(&[
            self.senders[context.sender].site.as_bytes(),
            &self.senders[context.sender].key,
            &self.scopes[context.scope].key,
            trace_id.as_ref().map_or(b"".as_slice(), |id| id),
            span_id.as_ref().map_or(b"".as_slice(), |id| id),
            event_name.as_bytes(),
            &sent_ns.to_be_bytes(),
            &observed_ns.to_be_bytes(),
            &severity.to_be_bytes()[1..],
            body_of(&self.scratch).unwrap_or_default(),
            &self.scratch.attributes,
        ])
    }

    fn add_lifecycle(&mut self, context: Context, said: &Said<'_>) {
        let sender = &self.senders[context.sender];
        let (attributes, received_ns) = (&self.scratch.item, context.received_ns);
        if let (Some(event), Some(trace_id), Some(span_id)) = (RunEvent::named(said.event_name), said.trace_id, said.span_id) {
            let about = About { sender, site: said.site, trace_id, span_id, received_ns };
            let run = run_of_event(about, event, said.time_ns, attributes, said.attributes, &mut self.block.arena);
            self.block.runs.push(run);
        }
        match (said.event_name, sender.process_key) {
            (events::WAFER_JOB_HEARTBEAT, Some(key)) => self.block.processes.push(ProcessBeat {
                key,
                site: said.site,
                host: sender.host,
                pid: sender.pid,
                instance_id: sender.instance_id,
                beat_ns: said.time_ns,
                interval_s: positive(attributes.get(names::WAFER_JOB_HEARTBEAT_INTERVAL)),
            }),
            (events::WAFER_FEED_BEAT, _) if !sender.feed.is_none() => self.block.feeds.push(FeedBeat {
                site: said.site,
                feed: sender.feed,
                // A stamp from the future is clamped: no clock may move a watermark beyond now.
                beat_ns: said.time_ns.min(received_ns),
                received_ns,
                skew_ns: received_ns.saturating_sub(said.time_ns),
            }),
            _ => {}
        }
    }
}

/// A number that is not finite became null, and that is no body.
fn body_of<'s>(scratch: &'s Scratch<'_>) -> Option<&'s [u8]> {
    Some(scratch.events.as_slice()).filter(|text| !text.is_empty() && *text != b"null")
}

fn known_ns(ns: i64, otherwise: i64) -> i64 {
    if ns == 0 { otherwise } else { ns }
}

fn read<'a>(
    raw: &'a [u8],
    attributes: &mut crate::value::Attributes<'a>,
    marks: &mut Marks,
    verdict: &mut Verdict,
) -> Result<Fields<'a>, Malformed> {
    let mut fields = Fields::default();
    let mut reader = Reader::new(raw, 0);
    attributes.clear();
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Fixed64(value)) => fields.time_ns = value,
            (2, Field::Varint(value)) => fields.severity = int32(value),
            (3, Field::Len(value)) => fields.severity_text = value,
            (5, Field::Len(value)) => fields.body.read(value, 1)?,
            (6, Field::Len(value)) => {
                let pair = Pair::read(value, 1)?;
                if verdict.open(ATTRIBUTES) {
                    verdict.note(ATTRIBUTES, attributes.add(pair, 0, marks));
                }
            }
            (7, Field::Varint(value)) => fields.dropped_attributes = uint32(value),
            (8, Field::Fixed32(value)) => fields.flags = value,
            (9, Field::Len(value)) => fields.trace_id = value,
            (10, Field::Len(value)) => fields.span_id = value,
            (11, Field::Fixed64(value)) => fields.observed_ns = value,
            (12, Field::Len(value)) => fields.event_name = value,
            _ => {}
        }
    }
    Ok(fields)
}
