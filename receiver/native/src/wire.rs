//! Protobuf's wire format: bytes in, fields out, every read within its message.
//!
//! What is accepted is what upb accepts (the parser of the Python lane): tags of at most 5 bytes, sizes of at most 5 bytes and
//! 2^31 - 1, varints of at most 10 bytes whose surplus bits are dropped, groups skipped to a depth of 100.

/// The bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Messages and groups inside each other, counted from the message that was handed in.
const MAX_NESTING: u32 = 100;

/// One field's value; which of them a field number means is the message's business.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a message or packed numbers.
    Len(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
    /// Wire type 3, skipped.
    Group,
}

/// Reads one message field by field.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    depth: u32,
}

impl<'a> Reader<'a> {
    /// `depth`: how many messages enclose this one in what upb would parse in one go.
    #[must_use]
    pub fn new(message: &'a [u8], depth: u32) -> Self {
        Self { rest: message, depth }
    }

    /// The next field, None at the end of the message.
    ///
    /// # Errors
    /// Malformed: nothing after this can be trusted.
    #[inline(always)]
    // An Iterator of Results would need two unwrappings at every use; a call per field costs a quarter of the whole decoding.
    #[allow(clippy::should_implement_trait, clippy::inline_always)]
    pub fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.tag()?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed);
        }
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.fixed64()?),
            2 => Field::Len(self.len()?),
            3 => {
                self.skip_group(number)?;
                Field::Group
            }
            5 => Field::Fixed32(self.fixed32()?),
            _ => return Err(Malformed),
        };
        Ok(Some((number, field)))
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    fn tag(&mut self) -> Result<u32, Malformed> {
        if let [first, rest @ ..] = self.rest
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(*first));
        }
        u32::try_from(self.long(5)?).map_err(|_| Malformed)
    }

    /// A varint of at most 10 bytes.
    ///
    /// # Errors
    /// Malformed when it is longer or cut off.
    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        if let [first, rest @ ..] = self.rest
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long(10)
    }

    #[inline(never)]
    fn long(&mut self, max: usize) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().take(max).enumerate() {
            value |= u64::from(byte & 0x7f).wrapping_shl(7 * u32::try_from(index).unwrap_or(0));
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    fn len(&mut self) -> Result<&'a [u8], Malformed> {
        let size = if let [first, rest @ ..] = self.rest
            && *first < 0x80
        {
            self.rest = rest;
            u64::from(*first)
        } else {
            self.long(5)?
        };
        let size = i32::try_from(size).ok().and_then(|size| usize::try_from(size).ok()).ok_or(Malformed)?;
        let (bytes, rest) = self.rest.split_at_checked(size).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// Malformed when there are fewer.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn fixed32(&mut self) -> Result<u32, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[cold]
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        loop {
            if open.len() > (MAX_NESTING - self.depth) as usize {
                return Err(Malformed);
            }
            let tag = self.tag()?;
            let number = tag >> 3; // 0 is let through here, as upb does
            match tag & 7 {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.fixed64()?;
                }
                2 => {
                    self.len()?;
                }
                3 => open.push(number),
                4 => {
                    if open.pop() != Some(number) {
                        return Err(Malformed);
                    }
                    if open.is_empty() {
                        return Ok(());
                    }
                }
                5 => {
                    self.fixed32()?;
                }
                _ => return Err(Malformed),
            }
        }
    }
}

/// A message's fields that are messages themselves, for those whose content is checked and not kept.
pub struct Shape(pub &'static [(u32, &'static Shape)]);

/// `AnyValue`; arrays and maps inside are bytes here and read later, each by itself.
pub static ANY_VALUE: Shape = Shape(&[]);
/// `KeyValue`.
pub static KEY_VALUE: Shape = Shape(&[(2, &ANY_VALUE)]);
static ENTITY_REF: Shape = Shape(&[]);
/// `Resource`.
pub static RESOURCE: Shape = Shape(&[(1, &KEY_VALUE), (3, &ENTITY_REF)]);
/// `InstrumentationScope`.
pub static SCOPE: Shape = Shape(&[(3, &KEY_VALUE)]);
/// `Exemplar`.
pub static EXEMPLAR: Shape = Shape(&[(7, &KEY_VALUE)]);

/// Read a message to its end and forget it.
///
/// # Errors
/// Malformed, wherever in it.
pub fn check(message: &[u8], depth: u32, shape: &Shape) -> Result<(), Malformed> {
    let mut reader = Reader::new(message, depth);
    while let Some((number, field)) = reader.next()? {
        if let Field::Len(inner) = field
            && let Some((_, inner_shape)) = shape.0.iter().find(|(child, _)| *child == number)
        {
            check(inner, depth + 1, inner_shape)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8], depth: u32) -> Result<Vec<(u32, Field<'_>)>, Malformed> {
        let mut reader = Reader::new(message, depth);
        let mut found = Vec::new();
        while let Some(field) = reader.next()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn tags_sizes_and_varints_have_the_limits_of_upb() {
        assert_eq!(all(b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 0), Ok(vec![(6, Field::Varint(u64::MAX))]));
        assert_eq!(all(b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0), Err(Malformed));
        assert_eq!(all(b"\xb0\x80\x80\x80\x00\x05", 0), Ok(vec![(6, Field::Varint(5))]));
        assert_eq!(all(b"\xb0\x80\x80\x80\x80\x00\x05", 0), Err(Malformed));
        assert_eq!(all(b"\xf8\xff\xff\xff\x1f\x05", 0), Err(Malformed));
        assert_eq!(all(b"\x2a\x83\x80\x80\x80\x00abc", 0), Ok(vec![(5, Field::Len(b"abc"))]));
        assert_eq!(all(b"\x2a\x83\x80\x80\x80\x80\x00abc", 0), Err(Malformed));
        assert_eq!(all(b"\x2a\x80\x80\x80\x80\x08abc", 0), Err(Malformed));
        assert_eq!(all(b"\x2a\x04abc", 0), Err(Malformed));
        for bad in [b"\x00\x01".as_slice(), b"\x0e\x00", b"\x0f", b"\x34", b"\x09\x01", b"\x0d\x01", b"\x80"] {
            assert_eq!(all(bad, 0), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn groups_are_skipped_to_a_depth_that_counts_the_messages_around_them() {
        let nested = |depth: usize| [b"\xfb\x0f".repeat(depth), b"\xfc\x0f".repeat(depth)].concat();
        assert_eq!(all(&nested(100), 0), Ok(vec![(255, Field::Group)]));
        assert_eq!(all(&nested(101), 0), Err(Malformed));
        assert_eq!(all(&nested(98), 2), Ok(vec![(255, Field::Group)]));
        assert_eq!(all(&nested(99), 2), Err(Malformed));
        assert_eq!(all(b"\xfb\x0f\x84\x10", 0), Err(Malformed));
        assert_eq!(all(b"\xfb\x0f", 0), Err(Malformed));
        assert_eq!(all(b"\xfb\x0f\x00\x01\x03\x04\xfc\x0f", 0), Ok(vec![(255, Field::Group)]));
        assert_eq!(all(b"\xfb\x0f\x04\xfc\x0f", 0), Err(Malformed));
    }
}
