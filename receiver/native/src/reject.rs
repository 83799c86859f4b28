//! Why an item cannot be stored.

use std::borrow::Cow;

/// The words that the sender and the dead letter get; those of the Python lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject(pub Cow<'static, str>);

impl Reject {
    /// `what` is no protobuf message.
    #[must_use]
    #[cold]
    pub fn malformed(what: &str) -> Self {
        Self(format!("{what} is not valid protobuf").into())
    }
}

impl From<&'static str> for Reject {
    fn from(reason: &'static str) -> Self {
        Self(reason.into())
    }
}

impl From<String> for Reject {
    fn from(reason: String) -> Self {
        Self(reason.into())
    }
}

/// The first of several things that are wrong with an item, by the order in which the Python lane looks at its fields.
#[derive(Debug, Default)]
pub struct Verdict(Option<(u8, Reject)>);

impl Verdict {
    /// Keep the error of a check, unless one with a lower or equal `stage` is kept already.
    #[inline]
    pub fn note<T>(&mut self, stage: u8, checked: Result<T, Reject>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(reject) => {
                if self.open(stage) {
                    self.0 = Some((stage, reject));
                }
                None
            }
        }
    }

    /// Nothing before this stage, or in it, was wrong so far.
    #[inline]
    #[must_use]
    pub fn open(&self, stage: u8) -> bool {
        self.0.as_ref().is_none_or(|(found, _)| *found > stage)
    }

    /// Whether the item can be stored.
    ///
    /// # Errors
    /// What was kept.
    pub fn result(self) -> Result<(), Reject> {
        self.0.map_or(Ok(()), |(_, reject)| Err(reject))
    }
}

/// A time that 63 bits hold (until the year 2262).
///
/// # Errors
/// It is later.
#[inline]
pub fn instant(time_ns: u64) -> Result<i64, Reject> {
    i64::try_from(time_ns).map_err(|_| "time is before 1970 or after 2262".into())
}

/// A count that a bigint holds.
///
/// # Errors
/// It is larger.
#[inline]
pub fn count(number: u64) -> Result<i64, Reject> {
    i64::try_from(number).map_err(|_| "count is negative or above 2^63 - 1".into())
}

/// An id of `N` bytes, not all zero.
///
/// # Errors
/// It is not.
#[inline]
pub fn id<const N: usize>(raw: &[u8], name: &str) -> Result<[u8; N], Reject> {
    let id = <[u8; N]>::try_from(raw).map_err(|_| format!("{name} has {} bytes, expected {N}", raw.len()))?;
    if id == [0; N] {
        return Err(format!("{name} is all zero").into());
    }
    Ok(id)
}

/// An id that may be absent: empty or all zero.
///
/// # Errors
/// It has another length.
#[inline]
pub fn optional_id<const N: usize>(raw: &[u8], name: &str) -> Result<Option<[u8; N]>, Reject> {
    if raw.is_empty() || raw == [0; N] {
        return Ok(None);
    }
    id(raw, name).map(Some)
}

/// How many events, links, buckets or quantiles one item may have.
pub const MAX_PARTS: usize = 65_536;

/// Resources, scopes, items and data points of one request: two bytes on the wire can become three hundred.
pub const MAX_ENTRIES: usize = 262_144;

/// Events, links, bounds, buckets and quantiles of one request that are stored: 64 MiB have as many of 32 bytes each.
pub const MAX_REQUEST_PARTS: usize = 2_097_152;

/// At most `MAX_PARTS` of something: two bytes on the wire can become sixty in a row.
///
/// # Errors
/// There are more.
#[inline]
pub fn parts(number: usize) -> Result<(), Reject> {
    if number > MAX_PARTS {
        return Err(format!("item has more than {MAX_PARTS} parts of one kind").into());
    }
    Ok(())
}
