//! What is known of one run, and how two records of one run become one: the twin of `runs.merge`.

use std::cmp::Ordering;

use crate::records::Place;

/// The results that a run may have; `Ending::result` is a position here. In alphabetical order, as they are compared.
pub const RESULTS: [&str; 6] = ["cancellation", "error", "failure", "skip", "success", "timeout"];

/// Whether, when and how a run ended. `rank` is 0 (not ended), 1 (end event) or 2 (final span).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // the fields are those of `runs.records.Run`
pub struct Ending {
    pub rank: u8,
    pub end_ns: Option<i64>,
    pub result: Option<u8>,
    pub error_type: Place,
}

impl Ending {
    /// Not ended.
    pub const OPEN: Self = Self { rank: 0, end_ns: None, result: None, error_type: Place::NONE };

    /// The result's name.
    #[must_use]
    pub fn result_text(&self) -> Option<&'static str> {
        self.result.and_then(|result| RESULTS.get(usize::from(result)).copied())
    }
}

/// How far a run is, as of `at_ns`.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // as above
pub struct Progress {
    pub at_ns: i64,
    pub ratio: Option<f64>,
    pub completed: Option<f64>,
    pub total: Option<f64>,
    pub unit: Place,
    pub stage: Place,
    pub message: Place,
}

/// What a run is: the fields of `runs.merge.DESCRIPTIVE`, in that order. Lists are texts, each behind its length (4 bytes).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // as above
pub struct Known {
    pub job: Place,
    pub run_id: Place,
    pub parent_span_id: Option<[u8; 8]>,
    pub parent_run_id: Place,
    pub feed: Place,
    pub service: Place,
    pub service_version: Place,
    pub attempt: Option<i64>,
    pub trigger: Place,
    pub nominal_ns: Option<i64>,
    pub expected_duration_s: Option<f64>,
    pub deadline_ns: Option<i64>,
    pub owner: Place,
    pub equipment: Place,
    pub recipe: Place,
    pub product: Place,
    pub lot_ids: Place,
    pub substrate_ids: Place,
    pub process_key: Option<[u8; 16]>,
    pub attributes: Place,
}

/// A record of one run: what one message says, or several merged.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // as above
pub struct Run {
    pub site: u32,
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub start_ns: Option<i64>,
    pub known: Known,
    pub final_fields: u32,
    pub ending: Ending,
    pub heartbeat_interval_s: Option<f64>,
    pub last_sign_ns: Option<i64>,
    pub progress: Option<Progress>,
    pub cpu_s: Option<f64>,
    pub memory_bytes: Option<i64>,
    pub received_ns: i64,
}

/// The texts of a list.
pub fn texts(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (size, behind) = rest.split_first_chunk::<4>()?;
        let (text, behind) = behind.split_at_checked(u32::from_be_bytes(*size) as usize)?;
        rest = behind;
        Some(text)
    })
}

impl Known {
    /// The mask for a record made from a final span: a bit for each field that it has.
    #[must_use]
    pub fn mask(&self) -> u32 {
        let has = [
            !self.job.is_none(),
            !self.run_id.is_none(),
            self.parent_span_id.is_some(),
            !self.parent_run_id.is_none(),
            !self.feed.is_none(),
            !self.service.is_none(),
            !self.service_version.is_none(),
            self.attempt.is_some(),
            !self.trigger.is_none(),
            self.nominal_ns.is_some(),
            self.expected_duration_s.is_some(),
            self.deadline_ns.is_some(),
            !self.owner.is_none(),
            !self.equipment.is_none(),
            !self.recipe.is_none(),
            !self.product.is_none(),
            !self.lot_ids.is_none(),
            !self.substrate_ids.is_none(),
            self.process_key.is_some(),
            !self.attributes.is_none(),
        ];
        has.iter().enumerate().map(|(bit, has)| u32::from(*has) << bit).sum()
    }
}

impl Run {
    /// Join another record of the same run to this one. The order does not matter.
    pub fn merge(&mut self, other: &Self, arena: &[u8]) {
        self.describe(other, arena);
        if order_of_endings(&other.ending, &self.ending, arena) == Ordering::Greater {
            self.ending = other.ending;
        }
        if let Some(theirs) = &other.progress
            && self.progress.as_ref().is_none_or(|ours| order_of_progress(theirs, ours, arena) == Ordering::Greater)
        {
            self.progress = Some(*theirs);
        }
        self.start_ns = match (self.start_ns, other.start_ns) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        self.final_fields |= other.final_fields;
        self.heartbeat_interval_s = greatest(self.heartbeat_interval_s, other.heartbeat_interval_s, order_of_numbers);
        self.last_sign_ns = self.last_sign_ns.max(other.last_sign_ns);
        self.cpu_s = greatest(self.cpu_s, other.cpu_s, order_of_numbers);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.received_ns = self.received_ns.max(other.received_ns);
    }

    /// The final span's word counts; between equals the larger one.
    fn describe(&mut self, other: &Self, arena: &[u8]) {
        let (ours, theirs) = (self.final_fields, other.final_fields);
        let takes = |bit: u32, order: Option<Ordering>| match (ours >> bit & 1, theirs >> bit & 1) {
            (1, 0) => false,
            (0, 1) => true,
            _ => order == Some(Ordering::Greater),
        };
        let text = |a: Place, b: Place| Some(b.of(arena).cmp(&a.of(arena)));
        let list = |a: Place, b: Place| {
            Some(b.of(arena).map(|list| texts(list).collect::<Vec<_>>()).cmp(&a.of(arena).map(|list| texts(list).collect())))
        };
        let (a, b) = (&mut self.known, &other.known);
        macro_rules! field {
            ($bit:literal, $name:ident, $order:expr) => {
                if takes($bit, $order(a.$name, b.$name)) {
                    a.$name = b.$name;
                }
            };
        }
        field!(0, job, text);
        field!(1, run_id, text);
        field!(2, parent_span_id, |a, b: Option<[u8; 8]>| Some(b.cmp(&a)));
        field!(3, parent_run_id, text);
        field!(4, feed, text);
        field!(5, service, text);
        field!(6, service_version, text);
        field!(7, attempt, |a, b: Option<i64>| Some(b.cmp(&a)));
        field!(8, trigger, text);
        field!(9, nominal_ns, |a, b: Option<i64>| Some(b.cmp(&a)));
        field!(10, expected_duration_s, |a, b: Option<f64>| b.partial_cmp(&a));
        field!(11, deadline_ns, |a, b: Option<i64>| Some(b.cmp(&a)));
        field!(12, owner, text);
        field!(13, equipment, text);
        field!(14, recipe, text);
        field!(15, product, text);
        field!(16, lot_ids, list);
        field!(17, substrate_ids, list);
        field!(18, process_key, |a, b: Option<[u8; 16]>| Some(b.cmp(&a)));
        field!(19, attributes, text);
    }
}

/// The larger of two; a missing one loses, and between equals the first stays.
fn greatest<T: Copy>(a: Option<T>, b: Option<T>, order: impl Fn(T, T) -> Ordering) -> Option<T> {
    match (a, b) {
        (Some(ours), Some(theirs)) if order(theirs, ours) != Ordering::Greater => Some(ours),
        (ours, None) => ours,
        (_, theirs) => theirs,
    }
}

fn order_of_numbers(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

fn order_of_endings(a: &Ending, b: &Ending, arena: &[u8]) -> Ordering {
    let text = |ending: &Ending| ending.error_type.of(arena).map(<[u8]>::to_vec).unwrap_or_default();
    (a.rank, a.end_ns.unwrap_or(0), a.result)
        .cmp(&(b.rank, b.end_ns.unwrap_or(0), b.result))
        .then_with(|| text(a).cmp(&text(b)))
}

fn order_of_progress(a: &Progress, b: &Progress, arena: &[u8]) -> Ordering {
    let numbers =
        |known: &Progress| [known.ratio, known.completed, known.total].map(|number| number.unwrap_or(f64::NEG_INFINITY));
    let words = |known: &Progress| [known.unit, known.stage, known.message].map(|place| place.of(arena).map(<[u8]>::to_vec));
    a.at_ns
        .cmp(&b.at_ns)
        .then_with(|| numbers(a).partial_cmp(&numbers(b)).unwrap_or(Ordering::Equal))
        .then_with(|| words(a).cmp(&words(b)))
}
