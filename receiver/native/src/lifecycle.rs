//! What a span or a lifecycle event says about a run: the twin of `runs.lifecycle`.
//!
//! A value of the wrong type is treated as absent: telemetry never fails for a bad label.

use crate::instant::rfc3339;
use crate::names::{self, events};
use crate::records::{Place, keep};
use crate::run::{Ending, Known, Progress, RESULTS, Run};
use crate::sender::Sender;
use crate::text::{label, repaired};
use crate::value::{Any, Attributes};

const STATUS_ERROR: i16 = 2;
const FAILURE: u8 = 2;
const SUCCESS: u8 = 4;

/// The events that say something about a run, on log records and on span events alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEvent {
    /// The run was announced.
    Start,
    /// It is so far.
    Progress,
    /// It is alive.
    Heartbeat,
    /// Something went wrong in it.
    Exception,
    /// It ended.
    End,
}

impl RunEvent {
    /// The event of a name; None for every other name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            events::WAFER_JOB_START => Self::Start,
            events::WAFER_JOB_PROGRESS => Self::Progress,
            events::WAFER_JOB_HEARTBEAT => Self::Heartbeat,
            events::WAFER_JOB_EXCEPTION => Self::Exception,
            events::WAFER_JOB_END => Self::End,
            _ => return None,
        })
    }
}

/// Which run a message is about, and who sent it when.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // named as in `runs.records.Run`
pub struct About<'s> {
    pub sender: &'s Sender,
    pub site: u32,
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub received_ns: i64,
}

/// A span's times and status, as they are stored.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // named as its columns
pub struct Finished {
    pub start_ns: i64,
    pub end_ns: i64,
    pub status: i16,
}

/// The final word on a run, None for a plain span. `attributes_json` is where the attributes' text stands.
pub fn run_of_span(
    about: About<'_>,
    span: Finished,
    attributes: &Attributes<'_>,
    attributes_json: Place,
    arena: &mut Vec<u8>,
) -> Option<Run> {
    if !is_text(attributes.get(names::WAFER_JOB_NAME)) {
        return None;
    }
    let facts = Facts::of(attributes);
    let fallback = if span.status == STATUS_ERROR { FAILURE } else { SUCCESS };
    let known = known(&facts, about, attributes_json, arena);
    Some(Run {
        site: about.site,
        trace_id: about.trace_id,
        span_id: about.span_id,
        start_ns: Some(span.start_ns),
        final_fields: known.mask(),
        known,
        ending: Ending {
            rank: 2,
            end_ns: Some(span.end_ns),
            result: Some(result(facts.result).unwrap_or(fallback)),
            error_type: label_of(facts.error_type, arena),
        },
        heartbeat_interval_s: None,
        last_sign_ns: Some(span.end_ns),
        progress: progress(&facts, span.end_ns, arena),
        cpu_s: number(facts.cpu_s),
        memory_bytes: memory(facts.memory),
        received_ns: about.received_ns,
    })
}

/// What a lifecycle event says. `attributes_json` is where the attributes' text stands; only an announcement keeps it.
pub fn run_of_event(
    about: About<'_>,
    event: RunEvent,
    time_ns: i64,
    attributes: &Attributes<'_>,
    attributes_json: Place,
    arena: &mut Vec<u8>,
) -> Run {
    let facts = Facts::of(attributes);
    let announced = event == RunEvent::Start;
    let ending = if event == RunEvent::End {
        Ending {
            rank: 1,
            end_ns: Some(time_ns),
            result: Some(result(facts.result).unwrap_or(SUCCESS)),
            error_type: label_of(facts.error_type, arena),
        }
    } else {
        Ending::OPEN
    };
    let start_ns = integer(facts.start_ns).filter(|&ns| ns > 0).or(announced.then_some(time_ns));
    Run {
        site: about.site,
        trace_id: about.trace_id,
        span_id: about.span_id,
        start_ns,
        known: known(&facts, about, if announced { attributes_json } else { Place::NONE }, arena),
        final_fields: 0,
        ending,
        heartbeat_interval_s: positive(facts.interval_s),
        last_sign_ns: Some(time_ns),
        progress: if announced { None } else { progress(&facts, time_ns, arena) },
        cpu_s: number(facts.cpu_s),
        memory_bytes: memory(facts.memory),
        received_ns: about.received_ns,
    }
}

macro_rules! facts {
    ($($field:ident: $name:ident),* $(,)?) => {
        /// The values that runs are made of.
        #[derive(Default)]
        struct Facts<'a> {
            $($field: Any<'a>,)*
        }

        impl<'a> Facts<'a> {
            fn of(attributes: &Attributes<'a>) -> Self {
                let mut facts = Self::default();
                for (key, value) in attributes.iter() {
                    if !(key.starts_with(b"wafer.") || key.starts_with(b"error.")) {
                        continue;
                    }
                    match key {
                        $(_ if key == names::$name.as_bytes() => facts.$field = value,)*
                        _ => {}
                    }
                }
                facts
            }
        }
    };
}

facts! {
    job: WAFER_JOB_NAME,
    run_id: WAFER_JOB_RUN_ID,
    parent_span_id: WAFER_JOB_PARENT_SPAN_ID,
    parent_run_id: WAFER_JOB_PARENT_RUN_ID,
    attempt: WAFER_JOB_ATTEMPT,
    trigger: WAFER_JOB_TRIGGER,
    nominal: WAFER_JOB_NOMINAL_TIME,
    expected_s: WAFER_JOB_EXPECTED_DURATION,
    deadline: WAFER_JOB_DEADLINE,
    owner: WAFER_JOB_OWNER,
    equipment: WAFER_EQUIPMENT_ID,
    recipe: WAFER_RECIPE_NAME,
    product: WAFER_PRODUCT_ID,
    lots: WAFER_LOT_IDS,
    substrates: WAFER_SUBSTRATE_IDS,
    result: WAFER_JOB_RESULT,
    error_type: ERROR_TYPE,
    start_ns: WAFER_JOB_START_TIME_UNIX_NANO,
    interval_s: WAFER_JOB_HEARTBEAT_INTERVAL,
    cpu_s: WAFER_JOB_CPU_TIME,
    memory: WAFER_JOB_MEMORY_MAX,
    ratio: WAFER_JOB_PROGRESS_RATIO,
    completed: WAFER_JOB_PROGRESS_COMPLETED,
    total: WAFER_JOB_PROGRESS_TOTAL,
    unit: WAFER_JOB_PROGRESS_UNIT,
    stage: WAFER_JOB_PROGRESS_STAGE,
    message: WAFER_JOB_PROGRESS_MESSAGE,
}

fn known(facts: &Facts<'_>, about: About<'_>, attributes: Place, arena: &mut Vec<u8>) -> Known {
    let job = label_of(facts.job, arena);
    let mut run_id = label_of(facts.run_id, arena);
    if run_id.is_none() {
        let at = arena.len();
        crate::json::push_hex(&about.span_id, arena);
        run_id = (at..arena.len()).into();
    }
    Known {
        job,
        run_id,
        parent_span_id: span_id(facts.parent_span_id),
        parent_run_id: label_of(facts.parent_run_id, arena),
        feed: about.sender.feed,
        service: about.sender.service,
        service_version: about.sender.service_version,
        attempt: integer(facts.attempt),
        trigger: label_of(facts.trigger, arena),
        nominal_ns: instant(facts.nominal),
        expected_duration_s: positive(facts.expected_s),
        deadline_ns: instant(facts.deadline),
        owner: label_of(facts.owner, arena),
        equipment: label_of(facts.equipment, arena),
        recipe: label_of(facts.recipe, arena),
        product: label_of(facts.product, arena),
        lot_ids: labels(facts.lots, arena),
        substrate_ids: labels(facts.substrates, arena),
        process_key: about.sender.process_key,
        attributes,
    }
}

fn progress(facts: &Facts<'_>, at_ns: i64, arena: &mut Vec<u8>) -> Option<Progress> {
    let (completed, total) = (number(facts.completed), number(facts.total));
    let divided = completed.zip(total.filter(|&total| total != 0.0)).map(|(completed, total)| completed / total);
    let ratio = number(facts.ratio).or(divided);
    if ratio.is_none() && completed.is_none() && !is_text(facts.stage) && !is_text(facts.message) {
        return None;
    }
    Some(Progress {
        at_ns,
        // As Python's min and max: of equals the first, so that -0.0 stays.
        ratio: ratio.map(|ratio| if ratio < 0.0 { 0.0 } else { ratio }).map(|ratio| if ratio > 1.0 { 1.0 } else { ratio }),
        completed,
        total,
        unit: text_of(facts.unit, arena),
        stage: text_of(facts.stage, arena),
        message: text_of(facts.message, arena),
    })
}

fn result(value: Any<'_>) -> Option<u8> {
    let Any::Text(raw) = value else { return None };
    RESULTS.iter().position(|name| name.as_bytes() == raw).and_then(|position| u8::try_from(position).ok())
}

fn is_text(value: Any<'_>) -> bool {
    matches!(value, Any::Text(raw) if !raw.is_empty())
}

/// A text that is not empty, whole.
fn text_of(value: Any<'_>, arena: &mut Vec<u8>) -> Place {
    match value {
        Any::Text(raw) if !raw.is_empty() => keep(repaired(raw, &mut crate::marks::Marks::default()).as_bytes(), arena),
        _ => Place::NONE,
    }
}

/// A text that is not empty, cut to what an index can hold.
fn label_of(value: Any<'_>, arena: &mut Vec<u8>) -> Place {
    match value {
        Any::Text(raw) if !raw.is_empty() => keep(label(&repaired(raw, &mut crate::marks::Marks::default())).as_bytes(), arena),
        _ => Place::NONE,
    }
}

/// A text or a list of texts, as a list of labels.
fn labels(value: Any<'_>, arena: &mut Vec<u8>) -> Place {
    let at = arena.len();
    let mut one = |value: Any<'_>| {
        let start = arena.len();
        arena.extend_from_slice(&[0; 4]);
        let place = label_of(value, arena);
        if place.is_none() {
            arena.truncate(start);
            return;
        }
        let size = u32::try_from(arena.len() - start - 4).unwrap_or(0);
        arena[start..start + 4].copy_from_slice(&size.to_be_bytes());
    };
    match value {
        Any::Array(_) => value.items().for_each(one),
        _ => one(value),
    }
    if arena.len() == at { Place::NONE } else { (at..arena.len()).into() }
}

#[allow(clippy::cast_precision_loss)] // rounded to the nearest double, as Python's float() does
fn number(value: Any<'_>) -> Option<f64> {
    match value {
        Any::Int(number) => Some(number as f64),
        Any::Double(number) if number.is_finite() => Some(number),
        _ => None,
    }
}

/// A number above zero.
#[must_use]
pub fn positive(value: Any<'_>) -> Option<f64> {
    number(value).filter(|&number| number > 0.0)
}

/// An integer whose negative is one as well.
#[must_use]
pub fn integer(value: Any<'_>) -> Option<i64> {
    match value {
        Any::Int(number) if number > i64::MIN => Some(number),
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation)] // below 2^63
fn memory(value: Any<'_>) -> Option<i64> {
    number(value).filter(|number| (0.0..9_223_372_036_854_775_808.0).contains(number)).map(|number| number as i64)
}

fn instant(value: Any<'_>) -> Option<i64> {
    let Any::Text(raw) = value else { return None };
    rfc3339(raw)
}

/// 16 hexadecimal digits, with white space between pairs as Python's `bytes.fromhex` has it.
fn span_id(value: Any<'_>) -> Option<[u8; 8]> {
    let Any::Text(raw) = value else { return None };
    let mut id = [0; 8];
    let mut filled = 0;
    let mut rest = raw;
    loop {
        match rest {
            [] => break,
            [b' ' | b'\t'..=b'\r', behind @ ..] => rest = behind,
            [high, low, behind @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                *id.get_mut(filled)? = digit(high)? << 4 | digit(low)?;
                filled += 1;
                rest = behind;
            }
            [_] => return None,
        }
    }
    (filled == id.len() && id != [0; 8]).then_some(id)
}
