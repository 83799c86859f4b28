//! What was mended in one item: the values of `wafer.repaired`.

/// A set of repairs. The names are those of `policies.Repair`, in alphabetical order, as they are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u16);

/// One kind of repair; its number is its bit.
#[derive(Debug, Clone, Copy)]
pub enum Repair {
    /// Of two values for one key the later counts.
    DuplicateKey,
    /// The end became the start.
    EndBeforeStart,
    /// The end became the start.
    NoEnd,
    /// Became U+FFFD.
    InvalidUtf8,
    /// Cut to what an index can hold.
    Label,
    /// Became null.
    NotFinite,
    /// Became U+FFFD.
    Nul,
    /// The start became the end or the arrival.
    NoStart,
    /// An event's time became the span's start.
    NoTime,
    /// Became 0.
    UnknownEnum,
}

const NAMES: [&str; 10] = [
    "duplicate_key",
    "end_before_start",
    "end_missing",
    "invalid_utf8",
    "label_too_long",
    "not_finite",
    "nul_in_text",
    "start_missing",
    "time_missing",
    "unknown_enum",
];

impl Marks {
    /// Remember a repair.
    #[inline]
    pub fn add(&mut self, repair: Repair) {
        self.0 |= 1 << repair as u16;
    }

    /// Nothing was mended.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The JSON list of the names.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut separator = b'[';
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 >> bit & 1 == 1 {
                out.extend([separator, b'"']);
                out.extend(name.as_bytes());
                out.push(b'"');
                separator = b',';
            }
        }
        out.push(b']');
    }
}
