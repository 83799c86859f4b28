//! Good requests with bytes changed, cut and moved never make the lane panic or write a stream that is none.
//!
//! `cargo test --release --test broken_bytes -- --ignored` goes on for `FUZZ_SECONDS` (600); Miri runs the short one.

use std::time::{Duration, Instant};

#[path = "../fuzz/drill.rs"]
mod drill;

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let size = u8::try_from(value.len()).expect("a short field");
    [&[number << 3 | 2, size][..], value].concat()
}

fn attribute(number: u8, key: &str, value: &[u8]) -> Vec<u8> {
    field(number, &[field(1, key.as_bytes()), field(2, value)].concat())
}

fn fixed64(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// A request of each signal around one item; the first byte is the signal.
fn seeds() -> Vec<Vec<u8>> {
    let start = 1_789_000_000_000_000_000;
    let ids = [field(1, b"0123456789abcdef"), field(2, b"span id.")].concat();
    let text = field(1, b"probe \"7\"\n");
    let span = [
        ids.clone(),
        fixed64(7, start),
        fixed64(8, start + 5),
        attribute(9, "wafer.job.name", &text),
        field(11, &[fixed64(1, start), field(2, b"wafer.job.end")].concat()),
    ];
    let list = field(5, &[field(1, &text), field(1, &[0x21, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f])].concat());
    let log = [
        fixed64(1, start),
        field(5, &list),
        attribute(6, "a", &field(6, &attribute(1, "b", &list))),
        field(9, b"0123456789abcdef"),
        field(10, b"span id."),
        field(12, b"wafer.job.start"),
    ];
    let side = [0x08, 0x05, 0x12, 0x03, 1, 2, 3];
    let point = [fixed64(3, start), fixed64(4, 6), vec![0x30, 0x02], field(8, &side), field(9, &side)];
    let metric = [field(1, b"length"), field(10, &field(1, &point.concat()))];
    let resource = field(1, &attribute(1, "wafer.site.id", &field(1, b"f1")));
    [span.concat(), log.concat(), metric.concat()]
        .iter()
        .zip(0_u8..)
        .map(|(item, signal)| {
            let group = [resource.clone(), wrapped(&wrapped(item, 2), 2)].concat();
            [vec![signal + 129], wrapped(&group, 1)].concat()
        })
        .collect()
}

/// A field whose size has two bytes.
fn wrapped(value: &[u8], number: u8) -> Vec<u8> {
    let part = |size: usize| u8::try_from(size).expect("a field of a seed");
    [&[number << 3 | 2, part(value.len() % 128) | 128, part(value.len() / 128)][..], value].concat()
}

/// Xorshift: the same bytes every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0) % limit.max(1)
    }

    fn mutate(&mut self, raw: &mut Vec<u8>) {
        let at = self.below(raw.len());
        let end = raw.len().min(at + 1 + self.below(20));
        match self.below(6) {
            0 => raw[at] ^= 1 << self.below(8),
            1 => raw[at] = [0, 1, 2, 8, 10, 18, 127, 128, 255][self.below(9)],
            2 => raw.truncate(at + 1),
            3 => drop(raw.drain(at..end)),
            4 => {
                let piece = raw[at..end].to_vec();
                let place = self.below(raw.len());
                raw.splice(place..place, piece);
            }
            _ => raw.insert(at, u8::try_from(self.below(256)).unwrap_or(0)),
        }
    }
}

fn run(mut goes_on: impl FnMut(u64) -> bool) -> u64 {
    let seeds = seeds();
    for seed in &seeds {
        drill::drill(seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut number = 0;
    while goes_on(number) {
        let mut raw = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            if raw.len() > 1 {
                random.mutate(&mut raw);
            }
        }
        drill::drill(&raw);
        number += 1;
    }
    number
}

#[test]
fn a_few_thousand() {
    let limit = if cfg!(miri) { 150 } else { 20_000 };
    run(|number| number < limit);
}

#[test]
#[ignore = "takes as long as it is told to"]
fn for_a_while() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let end = Instant::now() + Duration::from_secs(seconds);
    let number = run(|_| Instant::now() < end);
    println!("{number} requests in {seconds} s");
}

#[test]
fn the_seeds_are_good() {
    for seed in seeds() {
        let signal = [native::records::Signal::Traces, native::records::Signal::Logs, native::records::Signal::Metrics]
            [usize::from(seed[0] % 3)];
        let request = native::decode::Request { signal, body: &seed[1..], received_ns: 1 };
        let block = native::decode::decode(&[request], &native::decode::Arrivals::default(), &native::copy::CopyBinary);
        assert_eq!((block.outcomes[0].items, block.outcomes[0].rejected), (1, 0), "{signal:?} {}", block.outcomes[0].message);
    }
}
