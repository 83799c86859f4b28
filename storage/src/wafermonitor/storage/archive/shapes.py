"""JSON text as typed columns: a key that many rows have becomes a column of numbers or words, and the text comes back exactly.

In: the JSON texts of one field (attributes, events, a body). Out: columns to store, and the same texts. Called by: `tables`.

The store keeps JSON in one canonical form (keys sorted, no white space), so a text is its leaves: it is built again from the
columns and compared when it is written. What has no column stands in `<field>/more`; a text that its leaves do not give
again (another form, a leaf that is too deep) stands whole in `<field>/text`. Guessing wrong costs bytes, nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa

Path: TypeAlias = tuple[str | int, ...]
MAX_COLUMNS = 200
"""Of one field in one file; attributes beyond them are rare and stand in `more`."""
MAX_ITEMS = 4
"""Of a list that becomes columns; a longer one is a leaf of JSON text."""
RARE = 2_000
"""A key that fewer than one row in this many has gets no column."""
MAX_NUMBERS = 6
"""In a text that is taken apart."""
_PATTERNS = 0.02
"""Texts are taken apart when they hardly repeat, but what stands around their numbers does: at most this share of them."""
_SEARCHED = "wafer."
"""Names that people search for are never taken apart, so that other programs find them as they are."""
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode
_INT64 = 2**63
_DIGITS = re.compile(r"[0-9]{1,18}")
_HASHES = re.compile(r"#+")
_KINDS: dict[Any, str] = {str: "text", int: "int", float: "float", bool: "bool"}
_TYPES: dict[str, Any] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "json": pa.string(),
    "after": pa.int64(),
    "pattern": pa.string(),
}
"""Kinds of leaves. `after`: a time in ns, kept as its distance from the row's own. `pattern`: a text with # for every digit,
whose numbers are leaves of the kinds `number 0`, `number 1` …"""


class Leaf(NamedTuple):
    """One column: where its values stand in the JSON, and what they are."""

    path: Path
    kind: str

    def name(self, field: str) -> str:
        """The column's name; its kind is added where the path does not say it alone."""
        return "/".join([field, *map(str, self.path)]) + (f" ({self.kind})" if self.kind != "text" else "")

    @property
    def type(self) -> Any:
        """Arrow's."""
        return _TYPES.get(self.kind, pa.int64())


class Shape(NamedTuple):
    """The columns of one field in one file."""

    field: str
    leaves: tuple[Leaf, ...]

    @property
    def more(self) -> str:
        """The column of what has none."""
        return f"{self.field}/more"

    @property
    def text(self) -> str:
        """The column of whole texts."""
        return f"{self.field}/text"

    def schema(self) -> list[Any]:
        """Arrow fields, in the order of `columns`."""
        return [
            *(pa.field(leaf.name(self.field), leaf.type) for leaf in self.leaves),
            pa.field(self.more, pa.string()),
            pa.field(self.text, pa.string()),
        ]

    def columns(self, texts: Sequence[str | None], bases_ns: Sequence[int]) -> list[Any]:
        """The values of every column for these texts; `bases_ns` are the rows' own times."""
        places = {leaf: place for place, leaf in enumerate(self.leaves)}
        build = _builder(self.leaves)
        empty = [None] * len(places)
        rows, rests, wholes = [], [], []
        for text, base_ns in zip(texts, bases_ns, strict=True):
            row: list[Any] = empty.copy()
            rest = None if text is None else _spread(text, base_ns, places, row)
            exact = text is None or (rest is not None and build(row, base_ns, rest) == text)
            rows.append(row if exact else empty)
            rests.append(_encode(rest).decode() if exact and rest else None)
            wholes.append(None if exact else text)
        return [*zip(*rows, strict=True), rests, wholes] if self.leaves else [rests, wholes]

    def texts(self, columns: Sequence[Sequence[Any]], bases_ns: Sequence[int]) -> list[str | None]:
        """The texts again, of columns as `columns` gives them."""
        *values, rests, wholes = columns
        rows: Iterable[Sequence[Any]] = zip(*values, strict=True) if values else [()] * len(rests)
        build = _builder(self.leaves)
        return [
            whole if whole is not None else build(row, base_ns, {} if rest is None else _decode(rest))
            for row, rest, whole, base_ns in zip(rows, rests, wholes, bases_ns, strict=True)
        ]


def shape_of(field: str, texts: Iterable[str | None]) -> Shape:
    """The columns that these texts, a sample of a file's, deserve: those of their frequent leaves."""
    counts: Counter[Leaf] = Counter()
    words: dict[Leaf, list[str]] = {}
    rows = 0
    for text in texts:
        rows += 1
        if text is not None:
            for leaf, value in _leaves(_decode(text), (), 0):
                counts[leaf] += 1
                if leaf.kind == "text":
                    words.setdefault(leaf, []).append(value)
    frequent = [leaf for leaf, count in counts.most_common(MAX_COLUMNS) if count * RARE >= rows]
    for leaf in tuple(frequent):
        frequent += [Leaf(leaf.path, kind) for kind in _parts(leaf, words.get(leaf, []))]
    return Shape(field, tuple(sorted(_once(field, frequent), key=lambda leaf: (tuple(map(str, leaf.path)), leaf.kind))))


def _once(field: str, leaves: Sequence[Leaf]) -> Iterator[Leaf]:
    """Without those whose name another column has: keys may be called `more` or `x (int)`."""
    names = {one.name for one in Shape(field, ()).schema()}
    for leaf in leaves:
        name = leaf.name(field)
        if name not in names:
            names.add(name)
            yield leaf


def _parts(leaf: Leaf, values: Sequence[str]) -> list[str]:
    """The kinds of a text that is worth being taken apart: its pattern and its numbers."""
    if (leaf.path and str(leaf.path[-1]).startswith(_SEARCHED)) or len(set(values)) * 2 <= len(values):
        return []
    taken = [part for part in map(_take_apart, values) if part is not None]
    if len(taken) * 2 < len(values) or len({pattern for pattern, _ in taken}) > max(2, len(values) * _PATTERNS):
        return []
    most = max(len(numbers) for _, numbers in taken)
    return ["pattern", *(f"number {place}" for place in range(most))]


def _take_apart(text: str) -> tuple[str, list[int]] | None:
    """A text as its pattern and numbers; None when it has none, or too many, or the sign that stands for a digit."""
    numbers = _DIGITS.findall(text)
    if not 0 < len(numbers) <= MAX_NUMBERS or "#" in text:
        return None
    return _DIGITS.sub(lambda found: "#" * len(found[0]), text), [int(number) for number in numbers]


def _leaves(value: Any, path: Path, base_ns: int) -> Iterator[tuple[Leaf, Any]]:
    """Objects go down to their keys, except below an attribute: what is nested there is one leaf of JSON text."""
    kind = type(value)
    if kind is dict and value and (not path or path[-1] == "attributes" or isinstance(path[-1], int)):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key), base_ns)
    elif kind is list and not path and 0 < len(value) <= MAX_ITEMS:
        for place, inner in enumerate(value):
            yield from _leaves(inner, (place,), base_ns)
    elif kind is int and path[-1:] == ("time_ns",) and -_INT64 <= value - base_ns < _INT64:
        yield Leaf(path, "after"), value - base_ns
    elif kind in _KINDS and (kind is not int or -_INT64 <= value < _INT64):
        yield Leaf(path, _KINDS[kind]), value
    else:
        yield Leaf(path, "json"), _encode(value).decode()


def _spread(text: str, base_ns: int, places: dict[Leaf, int], row: list[Any]) -> dict[str, Any] | None:
    """Put a text's leaves into `row`. What has no place there is given back, None where that is deeper than a key."""
    rest: dict[str, Any] = {}
    for leaf, value in _leaves(_decode(text), (), base_ns):
        if leaf.kind == "text" and (pattern := places.get(Leaf(leaf.path, "pattern"))) is not None:
            parts = _take_apart(value)
            at = [places.get(Leaf(leaf.path, f"number {place}")) for place in range(len(parts[1]))] if parts else [None]
            if parts is not None and None not in at:
                row[pattern] = parts[0]
                for place, number in zip(at, parts[1], strict=True):
                    row[place] = number  # type: ignore[index]  # none of them is None here
                continue
        place = places.get(leaf)
        if place is not None:
            row[place] = value
        elif len(leaf.path) == 1 and isinstance(leaf.path[0], str) and leaf.kind != "after":
            rest[leaf.path[0]] = msgspec.Raw(value.encode()) if leaf.kind == "json" else value
        else:
            return None
    return rest


def _builder(leaves: Sequence[Leaf]) -> Callable[[Sequence[Any], int, dict[str, Any]], str | None]:
    """How a row of these leaves, with what has no column, becomes canonical text again; None when there is nothing at all."""
    simple = [(place, leaf) for place, leaf in enumerate(leaves) if not leaf.kind.startswith("number")]
    numbers = {
        leaf.path: [place for place, one in enumerate(leaves) if one.path == leaf.path and one.kind.startswith("number")]
        for leaf in leaves
        if leaf.kind == "pattern"
    }
    flat = all(len(leaf.path) == 1 and isinstance(leaf.path[0], str) for leaf in leaves)
    steps = [(place, leaf.path, leaf.path[0] if leaf.path else None, leaf.kind) for place, leaf in simple]

    def build(row: Sequence[Any], base_ns: int, rest: dict[str, Any]) -> str | None:
        root: Any = dict(rest) if rest else None
        if flat and root is None:
            root = {}
        for place, path, key, kind in steps:
            value = row[place]
            if value is None:
                continue
            if kind == "json":
                value = msgspec.Raw(value.encode())
            elif kind == "after":
                value += base_ns
            elif kind == "pattern":
                value = _put_together(value, [row[at] for at in numbers[path]])
            if flat:
                root[key] = value
            else:
                root = _place(root, path, value) if path else value
        return None if root is None or root == {} else _encode(root).decode()

    return build


def _put_together(pattern: str, numbers: Sequence[int | None]) -> str:
    """The way back of `_take_apart`."""
    following = iter(numbers)
    return _HASHES.sub(lambda found: str(next(following)).zfill(len(found[0])), pattern)


def _place(root: Any, path: Path, value: Any) -> Any:
    """`value` put at `path` of `root`, which is made as the path needs it. List items come in order."""
    if root is None:
        root = [] if isinstance(path[0], int) else {}
    at = root
    for key, following in pairwise(path):
        if isinstance(key, int):
            while len(at) <= key:
                at.append({})
            at = at[key]
        else:
            at = at.setdefault(key, [] if isinstance(following, int) else {})
    key = path[-1]
    if isinstance(key, int):
        at.append(value)
    else:
        at[key] = value
    return root
