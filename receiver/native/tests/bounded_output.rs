//! However a request is made, what it becomes has a bound: many tiny parts, long texts around many items, text that grows.

use native::copy::CopyBinary;
use native::decode::{Arrivals, Request, decode};
use native::records::{Block, Signal};
use native::reject::{MAX_PARTS, MAX_REQUEST_PARTS};

#[path = "../fuzz/drill.rs"]
mod drill;

fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number > 127 {
        out.push(u8::try_from(number % 128).expect("seven bits") | 128);
        number /= 128;
    }
    out.push(u8::try_from(number).expect("seven bits"));
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(value.len(), &mut out);
    out.extend_from_slice(value);
    out
}

fn attribute(number: u8, key: &str, value: &str) -> Vec<u8> {
    field(number, &[field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat())
}

fn request(resource: &[u8], items: &[Vec<u8>]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|item| field(2, item)).collect();
    field(1, &[field(1, resource), field(2, &items)].concat())
}

fn ids(trace: u8, span: u8, number: usize) -> Vec<u8> {
    let id = [b"span".as_slice(), &u32::try_from(number).expect("a small number").to_be_bytes()].concat();
    [field(trace, b"0123456789abcdef"), field(span, &id)].concat()
}

fn check(signal: Signal, body: &[u8], items: usize) -> Block {
    let requests = [Request { signal, body, received_ns: 1_789_000_000_000_000_000 }];
    let block = decode(&requests, &Arrivals::default(), &CopyBinary);
    assert_eq!((block.outcomes[0].items, block.outcomes[0].error.as_deref()), (items, None), "{}", block.outcomes[0].message);
    let choice = [Signal::Traces, Signal::Logs, Signal::Metrics].iter().position(|one| *one == signal);
    drill::drill(&[&[u8::try_from(choice.unwrap_or(0)).unwrap_or(0)], body].concat());
    block
}

#[test]
fn events_about_one_run_are_one_record() {
    for name in ["", "wafer.job.start", "wafer.job.heartbeat", "wafer.job.progress", "wafer.job.end"] {
        let events = field(11, &field(2, name.as_bytes())).repeat(6000);
        let block = check(Signal::Traces, &request(b"", &[[ids(1, 2, 1), events].concat()]), 1);
        assert_eq!(block.runs.len(), usize::from(!name.is_empty()));
    }
}

#[test]
fn records_about_many_runs_grow_by_entry() {
    let long = "é".repeat(2000);
    let names = ["wafer.site.id", "wafer.feed.id", "service.name", "service.version", "host.name", "service.instance.id"];
    let resource: Vec<u8> = names.iter().flat_map(|name| attribute(1, name, &long)).collect();
    for name in ["wafer.job.start", "wafer.job.heartbeat", "wafer.feed.beat", "wafer.job.end"] {
        let items: Vec<_> = (0..1000).map(|number| [ids(9, 10, number), field(12, name.as_bytes())].concat()).collect();
        check(Signal::Logs, &request(&resource, &items), items.len());
    }
}

#[test]
fn a_long_name_of_a_metric_is_one_text_for_all_its_series() {
    let points: Vec<u8> = (0..300).flat_map(|number| field(1, &attribute(7, &format!("{number}"), ""))).collect();
    let metric = [field(1, &b"n".repeat(60_000)), field(3, &b"u".repeat(30_000)), field(5, &points)].concat();
    check(Signal::Metrics, &request(b"", &[metric]), 300);
}

#[test]
fn text_grows_by_what_json_needs() {
    for text in ["\u{1}", "\"", "\\", "\0"] {
        let long = text.repeat(10_000);
        let events = field(11, &[field(2, b"wafer.job.start"), attribute(3, "wafer.job.name", &long)].concat());
        let span = [ids(1, 2, 1), field(5, long.as_bytes()), attribute(9, "wafer.job.name", &long), events].concat();
        check(Signal::Traces, &request(b"", &[span]), 1);
    }
}

#[test]
fn a_request_has_so_many_parts_and_a_block_so_many_bytes() {
    let span = |number, events: usize| [ids(1, 2, number), field(11, b"").repeat(events)].concat();
    let full = MAX_REQUEST_PARTS / MAX_PARTS;
    let mut items: Vec<_> = (0..full).map(|number| span(number, MAX_PARTS)).collect();
    items.extend([span(full, 1), span(full + 1, 0)]);
    let body = request(b"", &items);
    let block = check(Signal::Traces, &body, full + 1);
    assert_eq!(block.dead.len(), 1);
    assert!(block.dead[0].reason.starts_with("the request has more than 2097152 parts"), "{}", block.dead[0].reason);
    let one = Request { signal: Signal::Traces, body: &body, received_ns: 1_789_000_000_000_000_000 };
    assert_eq!(decode(&[one; 3], &Arrivals::default(), &CopyBinary).outcomes.len(), 1);
}

#[test]
fn buckets_become_bounds_and_counts() {
    let side = field(2, &vec![1; 20_000]);
    let point = field(1, &[field(8, &side), field(9, &side)].concat());
    check(Signal::Metrics, &request(b"", &[field(10, &point)]), 1);
}

#[test]
fn refused_items_are_kept_within_the_bound_whatever_is_around_them() {
    let resource = attribute(1, "long", &"x".repeat(60_000));
    let items = vec![b"\xff".to_vec(); 2000];
    let block = check(Signal::Traces, &request(&resource, &items), 0);
    assert_eq!(block.dead.len(), items.len());
}
