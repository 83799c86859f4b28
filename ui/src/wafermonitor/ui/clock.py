"""Times and durations as people read them.

In: RFC 3339 text (ns precision), seconds. Out: short words with units. Called by: templates, pages.

`theme/clock.js` says the same in the browser, where elapsed times tick and clock times move to the viewer's zone.
"""

from __future__ import annotations

from datetime import UTC, datetime

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
_SCALES = ((1e-6, 1e9, "ns", 0), (1e-3, 1e6, "µs", 0), (1.0, 1e3, "ms", 0), (60.0, 1.0, "s", 1))
_TEN = 10


def duration(seconds: float | None) -> str:
    """`412 µs`, `87 ms`, `4.2 s`, `42 s`, `4m 12s`, `3h 05m`, `2d 04h`; `–` for None. Negative counts as zero."""
    if seconds is None:
        return "–"
    seconds = max(seconds, 0.0)
    for below, factor, unit, digits in _SCALES:
        if seconds < below:
            value = seconds * factor
            return f"{value:.{digits if value < _TEN else 0}f} {unit}" if round(value) < MINUTE_S or unit != "s" else "1m 00s"
    whole = round(seconds)
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m {whole % MINUTE_S:02d}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h {whole % HOUR_S // MINUTE_S:02d}m"
    return f"{whole // DAY_S}d {whole % DAY_S // HOUR_S:02d}h"


def epoch_ms(instant: str | None) -> float | None:
    """RFC 3339 → milliseconds since 1970, with the microseconds as fraction; None stays None."""
    if instant is None:
        return None
    moment = datetime.fromisoformat(instant)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000


def utc_words(instant: str | None) -> str:
    """`14:03:22 UTC`: what a page shows until the browser moves it to the viewer's zone."""
    if instant is None:
        return "–"
    return f"{datetime.fromisoformat(instant).astimezone(UTC):%H:%M:%S} UTC"


def remaining_s(elapsed_s: float | None, ratio: float | None) -> float | None:
    """Seconds left at the pace so far, or None where the pace says nothing yet (under 2 % or done)."""
    if elapsed_s is None or ratio is None or not 0.02 <= ratio < 1.0:  # noqa: PLR2004 - a pace from 2 % on
        return None
    return elapsed_s * (1.0 - ratio) / ratio


def seconds_between(earlier: str | None, later: str | None) -> float | None:
    """`later` − `earlier` in seconds; None when one is missing."""
    begin, end = epoch_ms(earlier), epoch_ms(later)
    return None if begin is None or end is None else (end - begin) / 1_000


def file_size(size_bytes: float | None) -> str:
    """`812 B`, `14.2 MB`, `1.3 GB` (powers of 1000); `–` for None."""
    if size_bytes is None:
        return "–"
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1_000:  # noqa: PLR2004 - SI step
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"  # noqa: PLR2004 - three digits
        value /= 1_000
    return f"{value:.1f} TB"


def number(value: float | None) -> str:
    """`1,569`, `0.25`; `–` for None."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
