//! Any bytes as a request: decode, write every stream in each format, and hold what comes out to what the databases take.
//!
//! Used by the fuzz target and by `tests/broken_bytes.rs`.

use native::copy::{CopyBinary, Numbers};
use native::decode::{Arrivals, Request, decode};
use native::encoder::RowEncoder;
use native::part::{self, Mark};
use native::records::{Block, Signal};
use native::request::groups;
use native::rowbinary::{self, Precedence, RowBinary};

const BYTES_PER_BYTE: usize = 32;
const BYTES_PER_ENTRY: usize = 1536;
/// Feed, service and version of the resource stand in the row of each run.
const LABELS_PER_RUN: usize = 3 * 1000;
/// `RowBinary` names the site and service in each row.
const LABELS_PER_ROW: usize = 2 * 1000;

/// The first byte chooses the signal and whether the request comes twice; the others are its body.
pub fn drill(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let signal = [Signal::Traces, Signal::Logs, Signal::Metrics][usize::from(choice % 3)];
    let request = Request { signal, body, received_ns: 1_789_000_000_000_000_000 };
    let requests = vec![request; 1 + usize::from(choice / 128)];
    let copied = copied(&requests);
    let inserted = inserted(&requests);
    assert_eq!(
        [copied.spans.len(), copied.logs.len(), copied.points.len(), copied.runs.len(), copied.dead.len()],
        [inserted.spans.len(), inserted.logs.len(), inserted.points.len(), inserted.runs.len(), inserted.dead.len()]
    );
}

fn copied(requests: &[Request<'_>]) -> Block {
    let block = decode(requests, &Arrivals::default(), &CopyBinary);
    assert_eq!(block.outcomes.len(), requests.len());
    assert_eq!(block.ends.len(), requests.len() + 1);
    let numbers = Numbers {
        sites: vec![1; block.sites.len()],
        apps: vec![2; block.resources.len()],
        resources: vec![3; block.resources.len()],
        scopes: vec![4; block.scopes.len()],
        series: vec![5; block.series.len()],
    };
    let bound = bound(&block, requests);
    assert_bounded(&block, requests, bound);
    streams(&block.spans, &block, &numbers, 24);
    streams(&block.logs, &block, &numbers, 19);
    streams(&block.points, &block, &numbers, 16);
    let runs = part::merged(&block, 0..block.runs.len());
    let stream = part::write_runs(&block, &runs, &numbers, &CopyBinary).expect("every site has a number");
    assert_eq!(count_rows(&stream, 43), runs.len());
    assert!(stream.len() <= bound + LABELS_PER_RUN * runs.len(), "{} of {bound} bytes", stream.len());
    block
}

fn inserted(requests: &[Request<'_>]) -> Block {
    let block = decode(requests, &Arrivals::default(), &RowBinary);
    let bound = bound(&block, requests) + LABELS_PER_ROW * (block.spans.len() + block.logs.len());
    assert_bounded(&block, requests, bound);
    rows(&block.spans, &block, "8888444444NIIKKsssssoss");
    rows(&block.logs, &block, "8888444NIKKKsssso");
    rows(&block.points, &block, "K88841??????aaa");
    let runs = &block.runs;
    let stream = part::write_runs(&block, runs, &Precedence(7), &RowBinary).expect("the block has every site");
    let described = "1s1s1I1s1s1s1s181s1818181s1s1s1s1S1S1N1s";
    count_inserted(&stream, &format!("NIs?418ss1??8888sss1??1?{described}"), runs.len());
    // Messages of one run are not merged here, and each names what its sender says.
    assert!(stream.len() <= bound + (LABELS_PER_RUN + LABELS_PER_ROW) * runs.len(), "{} of {bound} bytes", stream.len());
    let told = part::merged(&block, 0..runs.len()).len();
    count_inserted(&rowbinary::changes(runs, &block, *b"a call").expect("the block has every site"), "141NIs", told);
    for one in &block.resources {
        count_inserted(&rowbinary::resource(one, &block, 1).expect("the block has every site"), "KN14sssso", 1);
    }
    for one in &block.scopes {
        count_inserted(&rowbinary::scope(one, 1), "K4sso", 1);
    }
    for one in &block.series {
        count_inserted(&rowbinary::series(one, &block, 1).expect("the block has every name"), "KKKN414ssssso", 1);
    }
    block
}

/// What a block may have in memory: so many times its requests' bytes, and something for each entry (`README.md`).
fn assert_bounded(block: &Block, requests: &[Request<'_>], bound: usize) {
    let held = block.held_bytes();
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

fn rows<M: Mark>(marks: &[M], block: &Block, columns: &str) {
    let chosen = part::all(marks, 0..marks.len(), block);
    assert_eq!(chosen.len(), marks.len());
    let mut out = vec![0; chosen.stream_len::<RowBinary>()];
    part::write(&chosen, marks, block, &Precedence(7), &RowBinary, &mut out).expect("every row has a precedence");
    count_inserted(&out, columns, marks.len());
}

/// Walk rows column by column: a figure or K, N, I for so many bytes, `?` what may be null, `a` numbers, `s` text, `S` texts, and
/// `o` one JSON object.
fn count_inserted(stream: &[u8], columns: &str, rows: usize) {
    let mut rest = stream;
    for _ in 0..rows {
        for column in columns.chars() {
            match column {
                'K' => take(&mut rest, 32),
                'N' => take(&mut rest, 16),
                'I' => take(&mut rest, 8),
                '?' => {
                    let null = take(&mut rest, 1)[0] == 1;
                    take(&mut rest, if null { 0 } else { 8 })
                }
                'a' => {
                    let number = length(&mut rest);
                    take(&mut rest, 8 * number)
                }
                'S' => {
                    for _ in 0..length(&mut rest) {
                        text(&mut rest);
                    }
                    &[]
                }
                's' => text(&mut rest).as_bytes(),
                'o' => {
                    let object = text(&mut rest);
                    assert!(object.starts_with('{') && object.ends_with('}') && !object.contains(|sign: char| sign < ' '));
                    object.as_bytes()
                }
                figure => take(&mut rest, figure.to_digit(10).expect("a figure") as usize),
            };
        }
    }
    assert!(rest.is_empty(), "{} bytes behind {rows} rows", rest.len());
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (field, behind) = rest.split_at(size);
    *rest = behind;
    field
}

fn length(rest: &mut &[u8]) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = take(rest, 1)[0];
        number |= usize::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    number
}

fn text<'a>(rest: &mut &'a [u8]) -> &'a str {
    let size = length(rest);
    std::str::from_utf8(take(rest, size)).expect("UTF-8")
}
