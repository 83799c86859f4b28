//! RFC 3339 → ns since 1970, as `runs.lifecycle` reads it.

/// `YYYY-MM-DD`, alone or followed by `T` or a space, `hh:mm:ss`, a fraction and an offset (`Z`, `±hh:mm`); UTC without an offset.
/// A fraction counts to the microsecond. None for anything else, and for times that 63 bits of ns do not hold.
#[must_use]
pub fn rfc3339(text: &[u8]) -> Option<i64> {
    let mut scanner = Scanner(text);
    let year = scanner.number(4)?;
    scanner.expect(b"-")?;
    let month = scanner.number(2)?;
    scanner.expect(b"-")?;
    let day = scanner.number(2)?;
    let mut seconds = days_since_1970(year, month, day)? * 86_400;
    let mut micros = 0;
    if !scanner.0.is_empty() {
        scanner.expect(b"T ")?;
        let (hour, minute) = scanner.clock()?;
        scanner.expect(b":")?;
        let second = scanner.number(2).filter(|&second| second < 60)?;
        micros = scanner.fraction()?;
        seconds += hour * 3600 + minute * 60 + second - scanner.offset()?;
    }
    let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(micros) * 1000;
    i64::try_from(nanos).ok().filter(|&nanos| nanos > i64::MIN)
}

struct Scanner<'t>(&'t [u8]);

impl Scanner<'_> {
    fn expect(&mut self, any_of: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !any_of.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (text, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
    }

    fn clock(&mut self) -> Option<(i64, i64)> {
        let hour = self.number(2).filter(|&hour| hour < 24)?;
        self.expect(b":")?;
        Some((hour, self.number(2).filter(|&minute| minute < 60)?))
    }

    /// Microseconds; digits beyond are dropped.
    fn fraction(&mut self) -> Option<i64> {
        if self.expect(b".").is_none() {
            return Some(0);
        }
        let size = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(size);
        self.0 = rest;
        if digits.is_empty() {
            return None;
        }
        Some((0..6).fold(0, |micros, place| micros * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0'))))
    }

    /// Seconds that the clock is ahead of UTC.
    fn offset(&mut self) -> Option<i64> {
        let offset = match self.expect(b"Z+-") {
            None | Some(b'Z') => 0,
            Some(sign) => {
                let (hour, minute) = self.clock()?;
                (hour * 3600 + minute * 60) * if sign == b'-' { -1 } else { 1 }
            }
        };
        self.0.is_empty().then_some(offset)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (years 1 to 9999).
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1 || !(1..=longest).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last one (H. Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    Some(shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn known_instants() {
        for (text, ns) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("2026-09-21T12:00:00+02:00", 1_789_984_800_000_000_000),
            ("2000-02-29 23:59:59.1234567-00:30", 951_870_599_123_456_000),
            ("1969-12-31T23:59:59.5", -500_000_000),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), Some(ns), "{text}");
        }
    }

    #[test]
    fn other_forms_are_absent() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-01-00",
            "0000-01-01",
            "2026-01-01T",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+0100",
            "2026-01-01t00:00:00z",
            "20260101T000000Z",
            "2026-W01-1",
            "2300-01-01",
            "1600-01-01",
        ] {
            assert_eq!(rfc3339(text.as_bytes()), None, "{text}");
        }
    }
}
