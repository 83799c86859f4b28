//! A list of requests → one block: request by request, resource by resource, scope by scope, item by item.
//!
//! In: bodies of OTLP requests, each read within its own bounds. Out: `Block`. Whatever is wrong with an item stays with the item.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::encoder::{Owner, RowEncoder};
use crate::marks::Marks;
use crate::records::{Block, DeadLetter, Ends, Outcome, Scope, Signal};
use crate::reject::{MAX_ENTRIES, MAX_REQUEST_PARTS, Reject};
use crate::request::{Group, Refused, groups};
use crate::sample::{Around, Frame, MAX_SAMPLE_BYTES, SAMPLES, sample};
use crate::sender::{self, Sender, UNSET_SITE};
use crate::value::Attributes;

/// One span, log record or metric point as it came.
pub const MAX_ITEM_BYTES: usize = 16 * 1024 * 1024;
/// Rows of a block, in bytes, beyond which no further request is begun.
pub const BLOCK_BYTES: usize = 64 * 1024 * 1024;
/// How many different reasons the sender is told.
const MAX_REASONS: usize = 5;

/// One request to decode.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // named as in `transcode.protocol.Request`
pub struct Request<'a> {
    pub signal: Signal,
    pub body: &'a [u8],
    pub received_ns: i64,
}

/// When items that say no time of their own arrived for the first time, by their digest, as far as that is known.
pub type Arrivals = HashMap<[u8; 32], i64>;

/// Decode requests to rows in `encoder`'s format: all of them, or the first ones when those have `MAX_ENTRIES` rows or
/// `BLOCK_BYTES` already.
pub fn decode<E: RowEncoder>(requests: &[Request<'_>], arrivals: &Arrivals, encoder: &E) -> Block {
    let mut decoder = Decoder::new(encoder, arrivals);
    decoder.block.ends.push(Ends::default());
    // Rows are a little larger than what they are made of, runs repeat some of it; what is not touched costs nothing.
    decoder.block.arena.reserve(requests.iter().map(|request| request.body.len()).sum::<usize>() * 2);
    for request in requests {
        decoder.request(*request);
        if decoder.rows >= MAX_ENTRIES || decoder.block.arena.len() >= BLOCK_BYTES {
            break;
        }
    }
    decoder.block
}

/// Who sent an item, and when it was received.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // positions in `Decoder::senders` and `Decoder::scopes`
pub struct Context {
    pub sender: usize,
    pub scope: usize,
    pub received_ns: i64,
}

/// What is used again from item to item.
#[derive(Default)]
#[allow(missing_docs)] // named as what they hold
pub struct Scratch<'a> {
    pub item: Attributes<'a>,
    pub inner: Attributes<'a>,
    pub attributes: Vec<u8>,
    pub events: Vec<u8>,
    pub links: Vec<u8>,
    pub event_messages: Vec<&'a [u8]>,
    pub link_messages: Vec<&'a [u8]>,
}

/// A scope that was read.
pub struct KnownScope {
    pub(crate) key: [u8; 32],
    /// Kept until an item needs it; then it gets a number.
    scope: Option<Scope>,
    number: u32,
}

type Map<K, V> = HashMap<K, V, RandomState>;

/// The block while it grows.
pub struct Decoder<'a, 'e, E> {
    pub(crate) encoder: &'e E,
    arrivals: &'e Arrivals,
    pub(crate) block: Block,
    pub(crate) scratch: Scratch<'a>,
    pub(crate) senders: Vec<Sender>,
    pub(crate) scopes: Vec<KnownScope>,
    pub(crate) series_of: Map<[u8; 32], u32>,
    sender_of: Map<Cow<'a, [u8]>, Result<usize, Reject>>,
    scope_of: Map<Cow<'a, [u8]>, Result<usize, Reject>>,
    site_of: Map<String, u32>,
    resource_of: Map<[u8; 32], u32>,
    scope_number_of: Map<[u8; 32], u32>,
    reasons: Vec<(String, usize)>,
    reason_of: Map<String, usize>,
    repaired: usize,
    rows: usize,
    signal: Signal,
    frame: Frame<'a>,
    /// For whole samples of this request, in bytes.
    room: usize,
    /// Parts of items that this request may still have.
    parts: usize,
}

impl<'a, 'e, E: RowEncoder> Decoder<'a, 'e, E> {
    fn new(encoder: &'e E, arrivals: &'e Arrivals) -> Self {
        Self {
            encoder,
            arrivals,
            block: Block::default(),
            scratch: Scratch::default(),
            senders: Vec::new(),
            scopes: Vec::new(),
            series_of: Map::default(),
            sender_of: Map::default(),
            scope_of: Map::default(),
            site_of: Map::default(),
            resource_of: Map::default(),
            scope_number_of: Map::default(),
            reasons: Vec::new(),
            reason_of: Map::default(),
            repaired: 0,
            rows: 0,
            signal: Signal::Traces,
            frame: Frame::default(),
            room: 0,
            parts: 0,
        }
    }

    fn request(&mut self, request: Request<'a>) {
        let before = self.block.end();
        self.signal = request.signal;
        self.room = SAMPLES * request.body.len() + MAX_SAMPLE_BYTES;
        self.parts = MAX_REQUEST_PARTS;
        self.repaired = 0;
        self.reasons.clear();
        self.reason_of.clear();
        let mut outcome = Outcome::default();
        match groups(request.body, request.signal) {
            Err(Refused::TooMany) => {
                outcome.error = Some(format!("the request has more than {MAX_ENTRIES} entries; send smaller ones"));
            }
            Err(Refused::Malformed) => {
                outcome.error = Some(format!("the body is no protobuf export request for {}", request.signal.name()));
            }
            Ok(groups) => {
                for group in groups {
                    self.group(group, request.received_ns);
                }
                self.tell(before, &mut outcome);
            }
        }
        self.rows += outcome.rows;
        self.block.outcomes.push(outcome);
        let ends = self.block.end();
        self.block.ends.push(ends);
    }

    fn group(&mut self, group: Group<'a>, received_ns: i64) {
        let sender = self.sender(group.resource.clone());
        self.frame.resource = group.resource;
        for scoped in group.scoped {
            let sender = match &sender {
                Ok(sender) => *sender,
                Err(Reject(reason)) => {
                    self.frame.scope = scoped.scope;
                    self.reject_all(UNSET_SITE, &format!("resource: {reason}"), &scoped.items, received_ns);
                    continue;
                }
            };
            let scope = self.scope(scoped.scope.clone());
            self.frame.scope = scoped.scope;
            match scope {
                Ok(scope) => {
                    let context = Context { sender, scope, received_ns };
                    for item in scoped.items {
                        self.item(item, context);
                    }
                }
                Err(Reject(reason)) => {
                    let site = self.senders[sender].site.clone();
                    self.reject_all(&site, &format!("scope: {reason}"), &scoped.items, received_ns);
                }
            }
        }
    }

    fn reject_all(&mut self, site: &str, reason: &str, items: &[&[u8]], received_ns: i64) {
        for item in items {
            self.reject(site, reason, item, None, received_ns);
        }
    }

    fn item(&mut self, item: &'a [u8], context: Context) {
        let add = match self.signal {
            Signal::Traces => Self::add_span,
            Signal::Logs => Self::add_log,
            Signal::Metrics => Self::add_metric,
        };
        self.isolate(item, None, context, add);
    }

    /// Add one item; whatever is wrong with it stays with it. A data point comes with its metric.
    pub(crate) fn isolate(
        &mut self,
        item: &'a [u8],
        around: Option<Around<'a>>,
        context: Context,
        add: impl FnOnce(&mut Self, &'a [u8], Context) -> Result<Marks, Reject>,
    ) {
        let added = if item.len() > MAX_ITEM_BYTES {
            Err(format!("item is larger than {MAX_ITEM_BYTES} bytes").into())
        } else {
            add(self, item, context)
        };
        match added {
            Ok(marks) => self.repaired += usize::from(!marks.is_empty()),
            Err(Reject(reason)) => {
                let site = self.senders[context.sender].site.clone();
                self.reject(&site, &reason, item, around, context.received_ns);
            }
        }
    }

    /// Count the parts of an item that is stored otherwise.
    ///
    /// # Errors
    /// The request has too many of them.
    pub(crate) fn take_parts(&mut self, number: usize) -> Result<(), Reject> {
        let rest = self.parts.checked_sub(number);
        self.parts = rest.ok_or_else(|| {
            Reject::from(format!("the request has more than {MAX_REQUEST_PARTS} parts of items; send smaller ones"))
        })?;
        Ok(())
    }

    /// The time of an item that says none: when it arrived for the first time, as far as that is known.
    #[cold]
    pub(crate) fn arrived_ns(&self, digest: &[u8; 32], received_ns: i64) -> i64 {
        self.arrivals.get(digest).copied().unwrap_or(received_ns)
    }

    #[cold]
    fn reject(&mut self, site: &str, reason: &str, item: &[u8], around: Option<Around<'_>>, received_ns: i64) {
        if let Some(&index) = self.reason_of.get(reason) {
            self.reasons[index].1 += 1;
        } else {
            self.reason_of.insert(reason.to_owned(), self.reasons.len());
            self.reasons.push((reason.to_owned(), 1));
        }
        let sample = sample(item, around, &self.frame, &mut self.room, &mut self.block.arena);
        let site = self.site(site);
        self.block.dead.push(DeadLetter { site, signal: self.signal, reason: reason.to_owned(), sample, received_ns });
    }

    fn sender(&mut self, resource: Cow<'a, [u8]>) -> Result<usize, Reject> {
        if let Some(known) = self.sender_of.get(&resource) {
            return known.clone();
        }
        let made = sender::sender(&resource, &mut self.block.arena).map(|sender| {
            self.senders.push(sender);
            self.senders.len() - 1
        });
        self.sender_of.insert(resource, made.clone());
        made
    }

    fn scope(&mut self, scope: Cow<'a, [u8]>) -> Result<usize, Reject> {
        if let Some(known) = self.scope_of.get(&scope) {
            return known.clone();
        }
        let made = sender::scope(&scope).map(|scope| {
            self.scopes.push(KnownScope { key: scope.key, scope: Some(scope), number: 0 });
            self.scopes.len() - 1
        });
        self.scope_of.insert(scope, made.clone());
        made
    }

    fn site(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.site_of.get(name) {
            return number;
        }
        let number = position(self.block.sites.len());
        self.block.sites.push(name.to_owned());
        self.site_of.insert(name.to_owned(), number);
        number
    }

    /// The numbers of a stored item's resource, scope and site in the block; they get one now if they have none yet.
    #[inline]
    pub(crate) fn numbers(&mut self, context: Context) -> (u32, u32, u32) {
        let resource = match self.senders[context.sender].number {
            Some(number) => number,
            None => self.number_resource(context.sender),
        };
        let heard_since = self.block.ends.last().map_or(0, |ends| ends.heard);
        // Neighbours mostly have one sender, so the newest entry is the one; doubles cost nothing but a row of four numbers.
        if self.block.heard.len() == heard_since || self.block.heard.last() != Some(&(resource, context.received_ns)) {
            self.block.heard.push((resource, context.received_ns));
        }
        let known = &self.scopes[context.scope];
        let scope = if known.scope.is_none() { known.number } else { self.number_scope(context.scope) };
        (resource, scope, self.block.resources[resource as usize].site)
    }

    #[cold]
    fn number_resource(&mut self, sender: usize) -> u32 {
        let site = self.senders[sender].site.clone();
        let site = self.site(&site);
        let number = match self.senders[sender].resource.take() {
            None => 0,
            Some(mut resource) => *self.resource_of.entry(resource.key).or_insert_with(|| {
                resource.site = site;
                self.block.resources.push(resource);
                position(self.block.resources.len() - 1)
            }),
        };
        self.senders[sender].number = Some(number);
        number
    }

    #[cold]
    fn number_scope(&mut self, scope: usize) -> u32 {
        let known = &mut self.scopes[scope];
        if let Some(found) = known.scope.take() {
            known.number = *self.scope_number_of.entry(found.key).or_insert_with(|| {
                self.block.scopes.push(found);
                position(self.block.scopes.len() - 1)
            });
        }
        known.number
    }

    fn tell(&mut self, before: Ends, outcome: &mut Outcome) {
        let after = self.block.end();
        outcome.items = after.spans - before.spans + after.logs - before.logs + after.points - before.points;
        outcome.rows = outcome.items + after.runs - before.runs + after.processes - before.processes + after.feeds
            - before.feeds
            + after.dead
            - before.dead;
        outcome.repaired = self.repaired;
        outcome.rejected = self.reasons.iter().map(|(_, number)| number).sum();
        if outcome.rejected > 0 {
            self.reasons.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
            let told: Vec<_> =
                self.reasons.iter().take(MAX_REASONS).map(|(reason, number)| format!("{reason} ({number})")).collect();
            outcome.message = format!("{} {} rejected for good: {}", outcome.rejected, self.signal.noun(), told.join("; "));
        }
    }
}

/// What a span or log record belongs to.
#[inline]
pub(crate) fn owner<'r>(senders: &'r [Sender], scopes: &'r [KnownScope], context: Context) -> Owner<'r> {
    let sender = &senders[context.sender];
    Owner {
        resource_key: &sender.key,
        scope_key: &scopes[context.scope].key,
        site: &sender.site,
        service: &sender.shown_service,
    }
}

/// A position as a number; a block of 64 MiB of requests has far fewer names.
pub(crate) fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
