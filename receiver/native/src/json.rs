//! Canonical JSON text, byte for byte what msgspec writes in the Python lane: keys and digests are made of it.

use crate::marks::{Marks, Repair};
use crate::text::repaired;

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// `raw` as a JSON string, mended where it must be. Returns whether it stands there as it came.
#[inline]
pub fn push_string(raw: &[u8], marks: &mut Marks, out: &mut Vec<u8>) -> bool {
    if is_plain(raw) {
        out.reserve(raw.len() + 2);
        out.push(b'"');
        out.extend_from_slice(raw);
        out.push(b'"');
        return true;
    }
    push_text(&repaired(raw, marks), out);
    false
}

/// Text that is UTF-8 without NUL, as a JSON string.
pub fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..index]);
        from = index + 1;
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            8 => out.extend(b"\\b"),
            9 => out.extend(b"\\t"),
            10 => out.extend(b"\\n"),
            12 => out.extend(b"\\f"),
            13 => out.extend(b"\\r"),
            _ => {
                out.extend(b"\\u00");
                push_hex(&[byte], out);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Nothing in it needs escaping or mending: ASCII from space on, without `"` and `\`.
#[inline]
fn is_plain(raw: &[u8]) -> bool {
    let size = raw.len();
    if size < 8 {
        return match (raw.first_chunk::<4>(), raw.last_chunk::<4>()) {
            (Some(a), Some(b)) => plain_word(u64::from(u32::from_le_bytes(*a)) << 32 | u64::from(u32::from_le_bytes(*b))),
            _ => raw.iter().all(|&byte| plain_byte(byte)),
        };
    }
    let (words, _) = raw.as_chunks::<8>();
    let last = raw.last_chunk::<8>().is_none_or(|word| plain_word(u64::from_le_bytes(*word)));
    last && words.iter().all(|word| plain_word(u64::from_le_bytes(*word)))
}

fn plain_byte(byte: u8) -> bool {
    (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// `plain_byte` for eight at once.
#[inline]
fn plain_word(word: u64) -> bool {
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = word ^ (ONES * 0x22);
    let slash = word ^ (ONES * 0x5c);
    let found = control | (quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash) | word;
    found & HIGHS == 0
}

/// An integer of any kind.
#[inline]
pub fn push_integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A double in the shortest form that reads back the same; null where JSON has no number for it.
#[inline]
pub fn push_double(number: f64, marks: &mut Marks, out: &mut Vec<u8>) {
    if number.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
    } else {
        marks.add(Repair::NotFinite);
        out.extend_from_slice(b"null");
    }
}

/// Lower-case hexadecimal, without quotes.
pub fn push_hex(raw: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in raw {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// `{"bytesValue": base64}`, so that bytes cannot be taken for text.
pub fn push_bytes(raw: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.extend(br#"{"bytesValue":""#);
    for group in raw.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
    out.extend(br#""}"#);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(raw: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(raw, &mut Marks::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_special_byte_is_seen_at_every_place() {
        for size in 1..40 {
            for place in 0..size {
                for special in [0, 1, 0x1f, b'"', b'\\', 0x80, 0xff] {
                    let mut raw = vec![b'~'; size];
                    raw[place] = special;
                    assert!(!is_plain(&raw), "{special} at {place} of {size}");
                }
            }
            assert!(is_plain(&vec![0x7f; size]) && is_plain(&vec![b' '; size]) && is_plain(&vec![b'#'; size]));
        }
    }

    #[test]
    fn strings_are_escaped_as_msgspec_does() {
        assert_eq!(string(b"\x01\x08\t\n\x0b\x0c\r\x1f \"\\/\x7f"), "\"\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/\x7f\"");
        assert_eq!(string("é\u{2028}😀".as_bytes()), "\"é\u{2028}😀\"");
        assert_eq!(string(b""), "\"\"");
    }

    #[test]
    fn base64_is_padded() {
        for (raw, text) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("abcd", "YWJjZA==")] {
            let mut out = Vec::new();
            push_bytes(raw.as_bytes(), &mut out);
            assert_eq!(out, format!("{{\"bytesValue\":\"{text}\"}}").as_bytes());
        }
    }
}
