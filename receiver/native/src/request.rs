//! One export request: its groups, scopes and items, found by their lengths and not read yet.
//!
//! All three signals have one shape: groups (1) of a resource (1) and scoped groups (2), those of a scope (1) and items (2).

use std::borrow::Cow;

use crate::point;
use crate::records::Signal;
use crate::reject::MAX_ENTRIES;
use crate::wire::{Field, Malformed, RESOURCE, Reader, SCOPE, check};

/// Why a body is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is no export request.
    Malformed,
    /// It has more than `MAX_ENTRIES`.
    TooMany,
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Counts entries, so that no more are kept than a request may have.
struct Room {
    signal: Signal,
    taken: usize,
}

impl Room {
    fn take(&mut self, entries: usize) -> bool {
        self.taken = self.taken.saturating_add(entries);
        self.taken <= MAX_ENTRIES
    }

    fn take_item(&mut self, item: &[u8]) -> bool {
        let points = if self.signal == Signal::Metrics { point::number(item) } else { 0 };
        self.take(1 + points)
    }
}

/// Items of one resource.
#[derive(Debug, Default)]
pub struct Group<'a> {
    /// The resource's message; several are one, as protobuf joins them.
    pub resource: Cow<'a, [u8]>,
    /// By scope.
    pub scoped: Vec<Scoped<'a>>,
}

/// Items of one scope.
#[derive(Debug, Default)]
pub struct Scoped<'a> {
    /// The scope's message.
    pub scope: Cow<'a, [u8]>,
    /// Spans, log records or metrics.
    pub items: Vec<&'a [u8]>,
}

/// The groups of a body. Resources and scopes are checked to their ends, items are not looked into.
///
/// # Errors
/// The body is no export request, or a too large one; it is read to its end to tell which.
pub fn groups(body: &[u8], signal: Signal) -> Result<Vec<Group<'_>>, Refused> {
    let mut room = Room { signal, taken: 0 };
    let mut groups = Vec::new();
    let mut reader = Reader::new(body, 0);
    while let Some(field) = reader.next()? {
        if let (1, Field::Len(message)) = field {
            let keeps = room.take(1);
            let group = group(message, &mut room)?;
            if keeps {
                groups.push(group);
            }
        }
    }
    if room.taken > MAX_ENTRIES { Err(Refused::TooMany) } else { Ok(groups) }
}

fn group<'a>(message: &'a [u8], room: &mut Room) -> Result<Group<'a>, Malformed> {
    let mut group = Group::default();
    let mut reader = Reader::new(message, 1);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(resource)) => {
                check(resource, 2, &RESOURCE)?;
                join(&mut group.resource, resource);
            }
            (2, Field::Len(message)) => {
                let keeps = room.take(1);
                let scoped = scoped(message, room)?;
                if keeps {
                    group.scoped.push(scoped);
                }
            }
            _ => {}
        }
    }
    Ok(group)
}

fn scoped<'a>(message: &'a [u8], room: &mut Room) -> Result<Scoped<'a>, Malformed> {
    let mut scoped = Scoped::default();
    let mut reader = Reader::new(message, 2);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(scope)) => {
                check(scope, 3, &SCOPE)?;
                join(&mut scoped.scope, scope);
            }
            (2, Field::Len(item)) if room.take_item(item) => scoped.items.push(item),
            _ => {}
        }
    }
    Ok(scoped)
}

fn join<'a>(whole: &mut Cow<'a, [u8]>, part: &'a [u8]) {
    if whole.is_empty() {
        *whole = Cow::Borrowed(part);
    } else {
        whole.to_mut().extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let part = |shift: usize, more: usize| u8::try_from(value.len() >> shift & 127 | more).unwrap();
        [&[number << 3 | 2, part(0, 128), part(7, 128), part(14, 128), part(21, 0)][..], value].concat()
    }

    #[test]
    fn a_request_has_so_many_entries_and_no_more() {
        let kept = |body: &[u8], signal| groups(body, signal).map(|groups| groups.len());
        for over in [0, 1] {
            let wanted = if over == 0 { Ok(1) } else { Err(Refused::TooMany) };
            let items = b"\x12\x00".repeat(MAX_ENTRIES - 2 + over);
            let logs = field(1, &field(2, &items));
            assert_eq!(kept(&logs, Signal::Logs), wanted);
            assert_eq!(kept(&[logs, vec![0x0a]].concat(), Signal::Logs), Err(Refused::Malformed));
            let scopes = field(1, &b"\x12\x00".repeat(MAX_ENTRIES - 1 + over));
            assert_eq!(kept(&scopes, Signal::Traces), wanted);
            let points = field(5, &b"\x0a\x00".repeat(MAX_ENTRIES - 3 + over));
            let metrics = field(1, &field(2, &field(2, &points)));
            assert_eq!(kept(&metrics, Signal::Metrics), wanted);
        }
        assert_eq!(kept(&b"\x0a\x00".repeat(MAX_ENTRIES + 1), Signal::Traces), Err(Refused::TooMany));
    }
}
