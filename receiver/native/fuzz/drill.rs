//! Any bytes as a request: decode, write every stream, and hold what comes out to what PostgreSQL takes.
//!
//! Used by the fuzz target and by `tests/broken_bytes.rs`.

use native::copy::CopyBinary;
use native::decode::{Arrivals, Request, decode};
use native::encoder::RowEncoder;
use native::part::{self, Mark, Numbers};
use native::records::{Block, Signal};
use native::request::groups;

const BYTES_PER_BYTE: usize = 32;
const BYTES_PER_ENTRY: usize = 1536;
/// Feed, service and version of the resource stand in the row of each run.
const LABELS_PER_RUN: usize = 3 * 1000;

/// The first byte chooses the signal and whether the request comes twice; the others are its body.
pub fn drill(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let signal = [Signal::Traces, Signal::Logs, Signal::Metrics][usize::from(choice % 3)];
    let request = Request { signal, body, received_ns: 1_789_000_000_000_000_000 };
    let requests = vec![request; 1 + usize::from(choice / 128)];
    let block = decode(&requests, &Arrivals::default(), &CopyBinary);
    assert_eq!(block.outcomes.len(), requests.len());
    assert_eq!(block.ends.len(), requests.len() + 1);
    let numbers = Numbers {
        sites: vec![1; block.sites.len()],
        apps: vec![2; block.resources.len()],
        resources: vec![3; block.resources.len()],
        scopes: vec![4; block.scopes.len()],
        series: vec![5; block.series.len()],
    };
    assert_bounded(&block, &requests);
    streams(&block.spans, &block, &numbers, 24);
    streams(&block.logs, &block, &numbers, 19);
    streams(&block.points, &block, &numbers, 16);
    let (stream, rows) = part::runs(&block, 0..block.runs.len(), &numbers.sites, &CopyBinary).expect("every site has a number");
    assert_eq!(count_rows(&stream, 43), rows);
    let bound = bound(&block, &requests) + LABELS_PER_RUN * rows;
    assert!(stream.len() <= bound, "{} of {bound} bytes from {}", stream.len(), body.len());
}

/// What a block may have in memory: so many times its requests' bytes, and something for each entry (`README.md`).
fn assert_bounded(block: &Block, requests: &[Request<'_>]) {
    let (held, bound) = (block.held_bytes(), bound(block, requests));
    assert!(held <= bound, "{held} of {bound} bytes from {:?}", requests.iter().map(|one| one.body.len()).collect::<Vec<_>>());
}

fn bound(block: &Block, requests: &[Request<'_>]) -> usize {
    let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
    let around: usize =
        requests.iter().flat_map(|one| groups(one.body, one.signal)).flatten().map(|one| 1 + one.scoped.len()).sum();
    let items: usize = block.outcomes.iter().map(|outcome| outcome.items + outcome.rejected).sum();
    BYTES_PER_BYTE * bytes + BYTES_PER_ENTRY * (around + items) + 4096
}

fn streams<M: Mark>(marks: &[M], block: &Block, numbers: &Numbers, columns: i16) {
    let (hot, late) = part::choose(marks, 0..marks.len(), block, 0..1_800_000_000_000_000);
    assert!(hot.len() + late.len() <= marks.len());
    for chosen in [hot, late] {
        let mut out = vec![0; chosen.stream_len::<CopyBinary>()];
        part::write(&chosen, marks, block, numbers, &CopyBinary, &mut out).expect("every name has a number");
        assert_eq!(count_rows(&out, columns), chosen.len());
    }
}

/// Walk a stream field by field. Attributes are one JSON object without NUL.
fn count_rows(stream: &[u8], columns: i16) -> usize {
    if stream.is_empty() {
        return 0;
    }
    let mut rest = stream.strip_prefix(CopyBinary::HEADER).expect("a header");
    let attributes = match columns {
        24 => 21,
        other => other - 1,
    };
    let mut rows = 0;
    loop {
        let (number, behind) = rest.split_first_chunk::<2>().expect("a row or the trailer");
        rest = behind;
        if *number == [0xff, 0xff] {
            assert!(rest.is_empty());
            return rows;
        }
        assert_eq!(i16::from_be_bytes(*number), columns);
        for column in 0..columns {
            let (size, behind) = rest.split_first_chunk::<4>().expect("a length");
            let size = i32::from_be_bytes(*size);
            let (field, behind) = behind.split_at(usize::try_from(size).unwrap_or(0));
            if column == attributes && columns != 16 && size >= 0 {
                let text = std::str::from_utf8(field).expect("UTF-8");
                assert!(text.starts_with('{') && text.ends_with('}') && !text.contains(|sign: char| sign < ' '));
            }
            rest = behind;
        }
        rows += 1;
    }
}
