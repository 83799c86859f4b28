//! One export request: its groups, scopes and items, found by their lengths and not read yet.
//!
//! All three signals have one shape: groups (1) of a resource (1) and scoped groups (2), those of a scope (1) and items (2).

use std::borrow::Cow;

use crate::wire::{Field, Malformed, RESOURCE, Reader, SCOPE, check};

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
/// The body is no export request.
pub fn groups(body: &[u8]) -> Result<Vec<Group<'_>>, Malformed> {
    let mut groups = Vec::new();
    let mut reader = Reader::new(body, 0);
    while let Some(field) = reader.next()? {
        if let (1, Field::Len(message)) = field {
            groups.push(group(message)?);
        }
    }
    Ok(groups)
}

fn group(message: &[u8]) -> Result<Group<'_>, Malformed> {
    let mut group = Group::default();
    let mut reader = Reader::new(message, 1);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(resource)) => {
                check(resource, 2, &RESOURCE)?;
                join(&mut group.resource, resource);
            }
            (2, Field::Len(message)) => group.scoped.push(scoped(message)?),
            _ => {}
        }
    }
    Ok(group)
}

fn scoped(message: &[u8]) -> Result<Scoped<'_>, Malformed> {
    let mut scoped = Scoped::default();
    let mut reader = Reader::new(message, 2);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Len(scope)) => {
                check(scope, 3, &SCOPE)?;
                join(&mut scoped.scope, scope);
            }
            (2, Field::Len(item)) => scoped.items.push(item),
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
