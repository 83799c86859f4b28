"""OTLP requests from a seed, written byte by byte: good ones, odd ones, and bytes that were cut, flipped and spliced.

Made of the wire format and not of message classes, which refuse what a sender may well send: invalid UTF-8, groups …
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

START_NS = 1_789_000_000_000_000_000
JOB_KEYS = [value for value in vars(names).values() if isinstance(value, str) and value.startswith("wafer.")]
RESOURCE_KEYS = [
    names.WAFER_SITE_ID,
    names.WAFER_FEED_ID,
    names.SERVICE_NAME,
    names.SERVICE_VERSION,
    names.SERVICE_INSTANCE_ID,
    names.HOST_NAME,
    names.PROCESS_PID,
]
EVENT_NAMES = [value for value in vars(events).values() if isinstance(value, str) and value.startswith("wafer.")]
RESULTS = ["success", "failure", "error", "timeout", "cancellation", "skip", "none of these"]
INSTANTS = [
    "2026-09-21T12:00:00+02:00",
    "2026-09-21 12:00:00.1234567Z",
    "2026-09-21",
    "2026-02-30",
    "20260921T120000Z",
    "2400-01-01",
    "1969-12-31T23:59:59.999999-23:59",
]
TEXTS = [
    "",
    "probe",
    "lot 7",
    'a "quoted" \\ path',
    "tab\tand\nline\x00\x1f\x7f",
    "Größe 300 µm",
    "晶圓",
    "😀",
    "x" * 300,
    "é" * 600,
]
BROKEN_TEXTS = [
    b"\xff",
    b"ab\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98",
    b"\x80 continued",
    b"\xc0\x80",
    b"ok\xf4\x90\x80\x80ok",
]
DOUBLES = [
    0.0,
    -0.0,
    1.0,
    0.1,
    1e16,
    1e15,
    123456789.125,
    1e-5,
    1e-7,
    5e-324,
    1.7976931348623157e308,
    float("nan"),
    float("inf"),
    -float("inf"),
]


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def lengthy(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def fixed64(number: int, value: int) -> bytes:
    return varint(number << 3 | 1) + (value & 2**64 - 1).to_bytes(8, "little")


def fixed32(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + (value & 2**32 - 1).to_bytes(4, "little")


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


class Generator:
    """Requests that are the same for the same seed.

    `oddity` is the share of fields that are out of the ordinary, `broken` that of items whose bytes are changed.
    """

    def __init__(self, seed: int, oddity: float = 0.03, *, broken: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.oddity = oddity
        self.broken = broken

    def request(self, signal: Signal, items: int) -> bytes:
        """A request of about so many items."""
        item = {Signal.TRACES: self.span, Signal.LOGS: self.log, Signal.METRICS: self.metric}[signal]
        body = b""
        while items > 0:
            number = min(items, self.random.choice([1, 2, 10, 100]))
            items -= number
            body += lengthy(1, self.group(item, number))
        return body + self.stranger()

    def perhaps_broken(self, item: bytes) -> bytes:
        return self.mutated(item) if self.random.random() < self.broken else item

    def odd(self) -> bool:
        return self.random.random() < self.oddity

    def group(self, item: Callable[[], bytes], number: int) -> bytes:
        scoped = [lengthy(1, self.scope())] + [lengthy(2, self.perhaps_broken(item())) for _ in range(number)]
        parts = [lengthy(1, self.resource()), lengthy(2, b"".join(scoped) + self.stranger())]
        if self.odd():
            parts.append(lengthy(1, self.resource()))
        if self.odd():
            self.random.shuffle(parts)
        return b"".join(parts) + self.stranger()

    def resource(self) -> bytes:
        chosen = [key for key in RESOURCE_KEYS if self.random.random() < 0.7]
        pairs = [self.pair(key, self.text_value(self.random.choice(["f1", "f2", *TEXTS[:4]]))) for key in chosen]
        if names.PROCESS_PID in chosen or self.odd():
            pairs.append(self.pair(names.PROCESS_PID, integer(3, self.random.choice([1, 4711, 0, -(2**63)]))))
        if self.odd():
            pairs += [self.pair(self.random.choice(RESOURCE_KEYS), self.value(0)), lengthy(3, lengthy(3, b"entity"))]
        return b"".join(lengthy(1, pair) for pair in pairs)

    def scope(self) -> bytes:
        if self.random.random() < 0.2:
            return b""
        scope = lengthy(1, self.text()) + lengthy(2, b"1.0")
        return scope + (lengthy(3, self.pair("k", self.value(0))) if self.odd() else b"")

    def span(self) -> bytes:
        start_ns, end_ns = self.times()
        parts = [
            lengthy(1, self.id(16)),
            lengthy(2, self.id(8)),
            lengthy(5, self.text()),
            integer(6, self.random.randrange(6) if not self.odd() else self.random.randrange(-3, 2**33)),
            fixed64(7, start_ns),
            fixed64(8, end_ns),
            *self.attributes(9, 14, JOB_KEYS if self.random.random() < 0.3 else ()),
        ]
        if self.random.random() < 0.5:
            parts.append(lengthy(4, self.id(8)))
        parts += [lengthy(11, self.event()) for _ in range(self.random.choice([0, 0, 1, 2]))]
        if self.random.random() < 0.1:
            parts.append(lengthy(13, self.link()))
        if self.random.random() < 0.3:
            code = self.random.randrange(3) if not self.odd() else 9
            parts.append(lengthy(15, integer(3, code) + lengthy(2, self.text())))
        if self.odd():
            parts += [integer(10, 3), integer(12, 2**40 + 1), integer(14, 5), fixed32(16, 0x301), lengthy(3, self.text())]
        return self.joined(parts)

    def event(self) -> bytes:
        name = self.random.choice(EVENT_NAMES).encode() if self.random.random() < 0.3 else self.text()
        parts = [lengthy(2, name), *self.attributes(3, 3, JOB_KEYS)]
        if not self.odd():
            parts.append(fixed64(1, self.times()[0]))
        if self.odd():
            parts.append(integer(4, 7))
        return self.joined(parts)

    def link(self) -> bytes:
        parts = [lengthy(1, self.id(16)), lengthy(2, self.id(8)), *self.attributes(4, 2)]
        if self.random.random() < 0.3:
            parts += [lengthy(3, self.text()), integer(5, 1), fixed32(6, 257)]
        return self.joined(parts)

    def log(self) -> bytes:
        lifecycle = self.random.random() < 0.4
        timeless = self.odd()
        parts = [
            fixed64(1, self.times()[0] if not self.odd() and not timeless else 0),
            fixed64(11, self.times()[1] if not timeless else 0),
            integer(2, self.random.randrange(25) if not self.odd() else 77),
            lengthy(3, self.random.choice([b"INFO", b"WARN", self.text()])),
            *self.attributes(6, 8, JOB_KEYS if lifecycle else ()),
        ]
        if self.random.random() < 0.9:
            parts.append(lengthy(5, self.value(0)))
        if lifecycle or self.random.random() < 0.3:
            parts += [lengthy(9, self.id(16)), lengthy(10, self.id(8))]
        if lifecycle:
            parts.append(lengthy(12, self.random.choice(EVENT_NAMES).encode()))
        if self.odd():
            parts += [integer(7, 3), fixed32(8, 1), lengthy(12, self.text())]
        return self.joined(parts)

    def metric(self) -> bytes:
        kind = self.random.choice([5, 7, 9, 10, 11])
        one = {5: self.number, 7: self.number, 9: self.histogram, 10: self.exponential, 11: self.summary}[kind]
        data = b"".join(lengthy(1, self.perhaps_broken(one())) for _ in range(self.random.choice([1, 1, 2, 5])))
        if kind in (7, 9, 10):
            data += integer(2, self.random.randrange(3) if not self.odd() else 8)
        if kind == 7:
            data += integer(3, self.random.randrange(2))
        parts = [lengthy(1, self.text()), lengthy(3, self.random.choice([b"1", b"s", self.text()])), lengthy(kind, data)]
        if self.odd():
            parts += [
                lengthy(12, self.pair("m", self.value(0))),
                lengthy(kind, data),
                lengthy(self.random.choice([5, 7, 9]), b""),
            ]
        return self.joined(parts)

    def number(self) -> bytes:
        value = double(4, self.double()) if self.random.random() < 0.5 else fixed64(6, self.random.getrandbits(64))
        parts = [*self.point(7), value if not self.odd() else b""]
        if self.odd():
            parts += [lengthy(5, lengthy(7, self.pair("e", self.value(0)))), integer(8, 1)]
        return self.joined(parts)

    def histogram(self) -> bytes:
        number = self.random.randrange(6)
        bounds = sorted({self.random.choice([self.random.uniform(-10, 10), self.random.randrange(9)]) for _ in range(number)})
        buckets = [self.random.getrandbits(20) for _ in range(len(bounds) + 1)]
        if self.odd():
            buckets = buckets[1:]
        if self.odd():
            bounds.append(self.double())
        packed = lengthy(6, b"".join(count.to_bytes(8, "little") for count in buckets))
        parts = [*self.point(9), packed, fixed64(4, sum(buckets)), *self.totals(5, 11, 12)]
        parts.append(
            lengthy(7, struct.pack(f"<{len(bounds)}d", *bounds))
            if not self.odd()
            else b"".join(double(7, one) for one in bounds)
        )
        return self.joined(parts)

    def exponential(self) -> bytes:
        scale = self.random.randrange(-11, 22)
        sides = [lengthy(field, self.side()) for field in (8, 9) if self.random.random() < 0.7]
        parts = [*self.point(1), *sides, integer(6, scale << 1 ^ scale >> 63), fixed64(7, self.random.getrandbits(10))]
        return self.joined([*parts, fixed64(4, self.random.getrandbits(63)), *self.totals(5, 12, 13)])

    def side(self) -> bytes:
        offset = self.random.choice([0, 1, -1, 500, -1100, 1_000_000, -(2**31), 2**31 - 1])
        buckets = [
            self.random.choice([0, 1, 7, 2**40]) if not self.odd() else 2**63 - 1 for _ in range(self.random.randrange(5))
        ]
        packed = lengthy(2, b"".join(map(varint, buckets))) if not self.odd() else b"".join(integer(2, one) for one in buckets)
        return integer(1, (offset << 1 ^ offset >> 31) & 2**32 - 1) + packed

    def summary(self) -> bytes:
        pairs = [
            double(1, self.random.choice([0.5, 0.9, 1.0])) + double(2, self.double()) for _ in range(self.random.randrange(4))
        ]
        parts = [*self.point(7), fixed64(4, 3), *(lengthy(6, pair) for pair in pairs)]
        return self.joined([*parts, double(5, self.double()) if not self.odd() else b""])

    def totals(self, *fields: int) -> list[bytes]:
        return [double(field, self.double()) for field in fields if self.random.random() < 0.7]

    def point(self, attributes: int) -> list[bytes]:
        start_ns, time_ns = self.times()
        return [fixed64(2, start_ns), fixed64(3, time_ns), *self.attributes(attributes, 3)]

    def attributes(self, field: int, most: int, keys: tuple[str, ...] | list[str] = ()) -> list[bytes]:
        pairs = []
        for _ in range(self.random.randrange(most + 1)):
            key = self.random.choice(keys) if keys and self.random.random() < 0.7 else self.random.choice("abcdefghijkl") * 3
            pairs.append(lengthy(field, self.pair(key, self.value_for(key))))
        if names.WAFER_JOB_NAME in keys and self.random.random() < 0.7:
            pairs.append(lengthy(field, self.pair(names.WAFER_JOB_NAME, self.text_value("probe"))))
        return pairs

    def pair(self, key: str, value: bytes) -> bytes:
        raw = key.encode() if not self.odd() else self.text()
        parts = [lengthy(1, raw), lengthy(2, value)]
        if self.odd():
            parts.append(lengthy(2, self.value(0)))
        return b"".join(parts) + self.stranger()

    def value_for(self, key: str) -> bytes:  # noqa: PLR0911 - a list of cases
        """A value that the key is likely to have."""
        if self.random.random() < 0.3:
            return self.value(0)
        if key == names.WAFER_JOB_RESULT:
            return self.text_value(self.random.choice(RESULTS))
        if key in (names.WAFER_JOB_DEADLINE, names.WAFER_JOB_NOMINAL_TIME):
            return self.text_value(self.random.choice(INSTANTS))
        if key == names.WAFER_JOB_PARENT_SPAN_ID:
            return self.text_value(
                self.random.choice(["0102030405060708", "01 02 0304\t05060708", "00" * 8, "xyz", "01020304050607", "A1" * 8])
            )
        if key in (names.WAFER_LOT_IDS, names.WAFER_SUBSTRATE_IDS):
            texts = [
                lengthy(1, self.text_value(self.random.choice(["L1", "L2", "", "x" * 1200])))
                for _ in range(self.random.randrange(4))
            ]
            return lengthy(5, b"".join(texts))
        if "progress" in key or "expected" in key or "cpu" in key or "memory" in key or "attempt" in key:
            return self.random.choice(
                [double(4, self.random.uniform(-1, 5)), integer(3, self.random.randrange(-2, 2**40)), double(4, self.double())]
            )
        return self.value(0)

    def value(self, depth: int) -> bytes:  # noqa: PLR0911 - as above
        choice = self.random.randrange(14)
        if choice < 7:
            return lengthy(1, self.text())
        if choice < 9:
            return integer(3, self.random.choice([0, 1, -1, self.random.getrandbits(64), 2**63 - 1]))
        if choice == 9:
            return double(4, self.double())
        if choice == 10:
            return integer(2, self.random.randrange(3))
        if choice == 11 and depth < 4:
            return lengthy(5, b"".join(lengthy(1, self.value(depth + 1)) for _ in range(self.random.randrange(4))))
        if choice == 12 and depth < 4:
            pairs = [self.pair(self.random.choice("abc"), self.value(depth + 1)) for _ in range(self.random.randrange(4))]
            return lengthy(6, b"".join(lengthy(1, pair) for pair in pairs))
        if self.odd():
            return self.random.choice(
                [
                    b"",
                    integer(8, 3),
                    lengthy(1, b"first") + integer(3, 5),
                    self.deep(),
                    lengthy(5, b"\xff"),
                    lengthy(6, b"\x0a\x05a"),
                ]
            )
        return lengthy(7, self.random.randbytes(self.random.randrange(8)))

    def deep(self) -> bytes:
        value = lengthy(1, b"deep")
        for _ in range(self.random.choice([2, 63, 64, 65])):
            value = (
                lengthy(5, lengthy(1, value)) if self.random.random() < 0.5 else lengthy(6, lengthy(1, self.pair("d", value)))
            )
        return value

    def text_value(self, text: str) -> bytes:
        return lengthy(1, text.encode())

    def text(self) -> bytes:
        if self.odd():
            return self.random.choice(BROKEN_TEXTS)
        return self.random.choice(TEXTS).encode() if self.random.random() < 0.2 else self.random.choice(TEXTS[1:3]).encode()

    def double(self) -> float:
        if self.random.random() < 0.2:
            return self.random.choice(DOUBLES)
        if self.random.random() < 0.3:
            return struct.unpack("<d", self.random.randbytes(8))[0]
        return self.random.uniform(-1e6, 1e6)

    def id(self, size: int) -> bytes:
        if self.odd():
            return self.random.choice([b"", bytes(size), b"abc", self.random.randbytes(size + 1)])
        # Few different ones, so that keys come twice and runs are merged.
        return self.random.randrange(1, 2**14).to_bytes(size, "big")

    def times(self) -> tuple[int, int]:
        start_ns = START_NS + self.random.randrange(10**6) * 1_001
        if self.odd():
            return self.random.choice(
                [(0, 0), (0, start_ns), (start_ns, 0), (start_ns, start_ns - 1), (2**63, 1), (1, 2**64 - 1)]
            )
        return start_ns, start_ns + self.random.randrange(10**12)

    def stranger(self) -> bytes:
        """Now and then a field that nobody knows, or one in a form that is not its own."""
        if not self.odd():
            return b""
        return self.random.choice(
            [
                integer(999, 5),
                lengthy(1000, b"new"),
                b"\xfb\x3e\x08\x01\xfc\x3e",
                b"\xfb\x3e\x00\x01\x03\x02\x01a\x04\xfc\x3e",
                integer(1, 7),
                fixed32(2, 7),
                fixed64(9, 1),
                lengthy(6, b""),
            ]
        )

    def joined(self, parts: list[bytes]) -> bytes:
        if self.odd():
            self.random.shuffle(parts)
        if self.odd():
            parts = [*parts, self.random.choice(parts)]
        return b"".join(parts) + self.stranger()

    def mutated(self, body: bytes) -> bytes:
        """A few bytes of it changed, cut, doubled or moved."""
        raw = bytearray(body)
        for _ in range(self.random.choice([1, 1, 2, 5])):
            if not raw:
                break
            at = self.random.randrange(len(raw))
            end = min(len(raw), at + self.random.randrange(1, 40))
            choice = self.random.randrange(7)
            if choice == 0:
                raw[at] ^= 1 << self.random.randrange(8)
            elif choice == 1:
                raw[at] = self.random.choice([0, 1, 2, 8, 9, 10, 11, 12, 13, 127, 128, 255])
            elif choice == 2:
                del raw[at:]
            elif choice == 3:
                del raw[at:end]
            elif choice == 4:
                raw[at:at] = raw[at:end]
            elif choice == 5:
                raw[at:at] = self.random.randbytes(self.random.randrange(1, 5))
            else:
                other = self.random.randrange(len(raw))
                raw[at:end] = raw[other : other + end - at]
        return bytes(raw)
