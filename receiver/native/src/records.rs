//! What a list of requests becomes: rows without the database's numbers, the names they refer to, and an outcome per request.
//!
//! Made by `decode`, never changed after it. All text stands in one arena; records hold `Place`s in it.

use std::ops::Range;
use std::sync::Arc;

/// Bytes in the arena; `NONE` is no value at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    at: usize,
    len: usize,
}

impl Place {
    /// No value.
    pub const NONE: Self = Self { at: usize::MAX, len: 0 };

    /// The bytes, None when there is no value.
    #[inline]
    #[must_use]
    pub fn of(self, arena: &[u8]) -> Option<&[u8]> {
        arena.get(self.at..self.at.checked_add(self.len)?)
    }

    /// How many bytes it has.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // an empty text and no text are two things
    pub fn len(self) -> usize {
        self.len
    }

    /// There is no value.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.at == usize::MAX
    }
}

impl From<Range<usize>> for Place {
    fn from(range: Range<usize>) -> Self {
        Self { at: range.start, len: range.len() }
    }
}

/// Put bytes into the arena.
#[inline]
pub fn keep(bytes: &[u8], arena: &mut Vec<u8>) -> Place {
    let at = arena.len();
    arena.extend_from_slice(bytes);
    Place { at, len: bytes.len() }
}

/// A signal; the text is the last part of the HTTP path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Data points.
    Metrics,
}

impl Signal {
    /// The signal of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Traces, Self::Logs, Self::Metrics].into_iter().find(|signal| signal.name() == name)
    }

    /// traces, logs or metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// What the sender is told was rejected.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Logs => "log records",
            Self::Metrics => "data points",
        }
    }
}

/// `runs.records.Resource`; the site by its position in `Block::sites`.
#[derive(Debug)]
#[allow(missing_docs)] // the fields are those of the Python record
pub struct Resource {
    pub key: [u8; 32],
    pub site: u32,
    pub feed: Option<String>,
    pub service: String,
    pub service_version: Option<String>,
    pub process_key: Option<[u8; 16]>,
    pub attributes: String,
}

/// `runs.records.Scope`.
#[derive(Debug)]
#[allow(missing_docs)] // as above
pub struct Scope {
    pub key: [u8; 32],
    pub name: String,
    pub version: String,
    pub attributes: String,
}

/// `runs.records.Series`; resource and scope by their positions.
#[derive(Debug)]
#[allow(missing_docs)] // as above
pub struct Series {
    pub key: [u8; 32],
    pub resource: u32,
    pub scope: u32,
    /// One text for all points of a metric, however many series they are.
    pub name: Arc<str>,
    pub unit: Arc<str>,
    pub kind: &'static str,
    pub temporality: i32,
    pub monotonic: bool,
    pub attributes: String,
}

/// One row of `span` in the arena, and what is needed to choose and number it.
#[derive(Debug)]
#[allow(missing_docs)] // named as its columns
pub struct SpanMark {
    pub row: Place,
    pub resource: u32,
    pub scope: u32,
    pub start_ns: i64,
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
}

/// One row of `log_record` in the arena.
#[derive(Debug)]
#[allow(missing_docs)] // named as its columns
pub struct LogMark {
    pub row: Place,
    pub resource: u32,
    pub scope: u32,
    pub time_ns: i64,
    pub digest: [u8; 32],
}

/// One row of `metric_point` in the arena.
#[derive(Debug)]
#[allow(missing_docs)] // named as its columns
pub struct PointMark {
    pub row: Place,
    pub series: u32,
    pub time_ns: i64,
}

/// `runs.records.ProcessBeat`.
#[derive(Debug)]
#[allow(missing_docs)] // as above
pub struct ProcessBeat {
    pub key: [u8; 16],
    pub site: u32,
    pub host: Place,
    pub pid: i64,
    pub instance_id: Place,
    pub beat_ns: i64,
    pub interval_s: Option<f64>,
}

/// `runs.records.FeedBeat`.
#[derive(Debug)]
#[allow(missing_docs)] // as above
pub struct FeedBeat {
    pub site: u32,
    pub feed: Place,
    pub beat_ns: i64,
    pub received_ns: i64,
    pub skew_ns: i64,
}

/// `runs.records.DeadLetter`.
#[derive(Debug)]
#[allow(missing_docs)] // as above
pub struct DeadLetter {
    pub site: u32,
    pub signal: Signal,
    pub reason: String,
    pub sample: Place,
    pub received_ns: i64,
}

/// How far each list of a block went when a request was done.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)] // named as the lists
pub struct Ends {
    pub spans: usize,
    pub logs: usize,
    pub points: usize,
    pub runs: usize,
    pub processes: usize,
    pub feeds: usize,
    pub dead: usize,
    pub heard: usize,
    pub timeless: usize,
}

/// What became of one request.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Spans, log records or points kept.
    pub items: usize,
    /// Items, run deltas, beats and dead letters.
    pub rows: usize,
    /// Items that can never be stored.
    pub rejected: usize,
    /// The words for `partial_success`; empty when nothing was rejected.
    pub message: String,
    /// Items that were mended.
    pub repaired: usize,
    /// Why the whole request was refused.
    pub error: Option<String>,
}

/// All that a list of requests became.
#[derive(Debug, Default)]
#[allow(missing_docs)] // named as what they list
pub struct Block {
    pub arena: Vec<u8>,
    pub sites: Vec<String>,
    pub resources: Vec<Resource>,
    pub scopes: Vec<Scope>,
    pub series: Vec<Series>,
    pub spans: Vec<SpanMark>,
    pub logs: Vec<LogMark>,
    pub points: Vec<PointMark>,
    pub runs: Vec<crate::run::Run>,
    pub processes: Vec<ProcessBeat>,
    pub feeds: Vec<FeedBeat>,
    pub dead: Vec<DeadLetter>,
    /// The digests of stored items that say no time of their own.
    pub timeless: Vec<[u8; 32]>,
    /// (resource, when its service was heard of), one for each resource of a request that has items.
    pub heard: Vec<(u32, i64)>,
    pub outcomes: Vec<Outcome>,
    /// One more than there are requests; the first is all zero.
    pub ends: Vec<Ends>,
}

impl Block {
    /// How far every list goes now.
    #[must_use]
    pub fn end(&self) -> Ends {
        Ends {
            spans: self.spans.len(),
            logs: self.logs.len(),
            points: self.points.len(),
            runs: self.runs.len(),
            processes: self.processes.len(),
            feeds: self.feeds.len(),
            dead: self.dead.len(),
            heard: self.heard.len(),
            timeless: self.timeless.len(),
        }
    }

    /// How many bytes it has in memory, without what the allocator adds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let texts: usize = self.resources.iter().map(|one| one.service.len() + one.attributes.len()).sum::<usize>()
            + self.scopes.iter().map(|one| one.name.len() + one.version.len() + one.attributes.len()).sum::<usize>()
            + self.series.iter().map(|one| one.attributes.len()).sum::<usize>()
            + self.dead.iter().map(|one| one.reason.len()).sum::<usize>()
            + self.sites.iter().map(String::len).sum::<usize>();
        self.arena.len()
            + texts
            + size_of_val(&*self.sites)
            + size_of_val(&*self.resources)
            + size_of_val(&*self.scopes)
            + size_of_val(&*self.series)
            + size_of_val(&*self.spans)
            + size_of_val(&*self.logs)
            + size_of_val(&*self.points)
            + size_of_val(&*self.runs)
            + size_of_val(&*self.processes)
            + size_of_val(&*self.feeds)
            + size_of_val(&*self.dead)
            + size_of_val(&*self.timeless)
            + size_of_val(&*self.heard)
    }

    /// The ends around the requests [first, last); None when there are not so many.
    #[must_use]
    pub fn between(&self, first: usize, last: usize) -> Option<(Ends, Ends)> {
        if first > last {
            return None;
        }
        Some((*self.ends.get(first)?, *self.ends.get(last)?))
    }
}
