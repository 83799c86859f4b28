//! Text that the store always takes: UTF-8 without NUL, cut where an index needs it short.

use std::borrow::Cow;

use crate::marks::{Marks, Repair};

/// What is indexed is cut to this: a B-tree entry of PostgreSQL takes 2704 bytes.
pub const MAX_LABEL_BYTES: usize = 1000;
const REPLACEMENT: &str = "\u{fffd}";

/// Bytes that claim to be UTF-8 → text; what is not, and NUL, becomes U+FFFD.
#[inline]
pub fn repaired<'a>(raw: &'a [u8], marks: &mut Marks) -> Cow<'a, str> {
    match std::str::from_utf8(raw) {
        Ok(text) if !raw.contains(&0) => Cow::Borrowed(text),
        _ => mend(raw, marks),
    }
}

#[cold]
fn mend<'a>(raw: &'a [u8], marks: &mut Marks) -> Cow<'a, str> {
    let text = String::from_utf8_lossy(raw);
    if matches!(text, Cow::Owned(_)) {
        marks.add(Repair::InvalidUtf8);
    }
    if !text.as_bytes().contains(&0) {
        return text;
    }
    marks.add(Repair::Nul);
    Cow::Owned(text.replace('\0', REPLACEMENT))
}

/// Cut to `MAX_LABEL_BYTES`, never inside a character.
#[must_use]
pub fn label(text: &str) -> &str {
    if text.len() <= MAX_LABEL_BYTES {
        return text;
    }
    &text[..text.floor_char_boundary(MAX_LABEL_BYTES)]
}

/// `label`, marked when something was cut.
pub fn marked_label<'a>(text: &'a str, marks: &mut Marks) -> &'a str {
    let kept = label(text);
    if kept.len() < text.len() {
        marks.add(Repair::Label);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_bytes_and_nul_become_replacements() {
        let mut marks = Marks::default();
        assert_eq!(repaired(b"a\xe2\x82\xf0\x9f\x98z\0", &mut marks), "a\u{fffd}\u{fffd}z\u{fffd}");
        let mut shown = Vec::new();
        marks.write(&mut shown);
        assert_eq!(shown, br#"["invalid_utf8","nul_in_text"]"#);
    }

    #[test]
    fn a_label_ends_between_characters() {
        let text = "x".repeat(999) + "é";
        assert_eq!(label(&text), "x".repeat(999));
        assert_eq!(label(&text[1..]).len(), 1000);
    }
}
