"""The fields of a declaration, read one by one; every mistake is noted with its place, and reading goes on.

In: a `Document` and a path. Out: values, or defaults where they are wrong, and the mistakes. Called by: declared.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from wafermonitor.alerting.documents import Document, Path
from wafermonitor.alerting.errors import ScheduleRejected
from wafermonitor.alerting.quantities import duration_s

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What a store cannot keep, and what would stop the tick of every other expectation."""


class Fields:
    """One mapping of a document. `mistakes` is shared by all that are read from it."""

    def __init__(self, document: Document, path: Path, value: Any, mistakes: list[str]) -> None:
        self.document, self.path, self.mistakes = document, path, mistakes
        self.values: Mapping[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict | None):
            self.wrong(f"{value!r:.60}", "names with values")

    def wrong(self, what: str, expected: str, *parts: str | int) -> None:
        """Note a mistake in the field at `parts`."""
        where = self.document.where((*self.path, *parts))
        self.mistakes.append(f"{where}: {self._name(*parts)}{what}, expected {expected}")

    def refused(self, error: Exception, *parts: str | int) -> None:
        """Note an error that says itself what is expected."""
        self.mistakes.append(f"{self.document.where((*self.path, *parts))}: {self._name(*parts)}{error}")

    def only(self, known: Collection[str]) -> None:
        """Note fields that there are not."""
        for name in self.values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.6)
                hint = f"{near[0]!r}" if near else "one of " + ", ".join(sorted(known))
                where = self.document.where((*self.path, name))
                self.mistakes.append(f"{where}: {self._name()}unknown field {name!r}, expected {hint}")

    def named(self, name: str) -> Iterator[tuple[str, Fields]]:
        """(name, its fields) of each entry of the mapping `name`."""
        entries = self.fields(name)
        for key, value in entries.values.items():
            if NAME.match(key):
                yield key, Fields(self.document, (*entries.path, key), value, self.mistakes)
            else:
                entries.wrong(f"{key!r}", "a name of letters, digits, '_', '.' and '-', at most 64", key)

    def fields(self, name: str) -> Fields:
        """The mapping `name`; an empty one where there is none."""
        return Fields(self.document, (*self.path, name), self.values.get(name), self.mistakes)

    def listed(self, name: str) -> Iterator[Fields]:
        """Each mapping of the list `name`."""
        for index, value in enumerate(self._list(name)):
            yield Fields(self.document, (*self.path, name, index), value, self.mistakes)

    def text(self, name: str) -> str | None:
        """A text that is not empty."""
        value = self.values.get(name)
        if value is None or self._is_text(value, name):
            return value
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, or one alone."""
        value = self.values.get(name)
        if isinstance(value, str):
            return (value,) if not value or self._is_text(value, name) else ()
        return tuple(one for index, one in enumerate(self._list(name)) if self._is_text(one, name, index))

    def each(self, name: str, read: Callable[[str], T]) -> list[T]:
        """What `read` makes of each text of the list `name`, or of one alone."""
        found = []
        for index, text in enumerate(self.texts(name)):
            try:
                found.append(read(text))
            except (ValueError, ScheduleRejected) as error:
                self.refused(error, name, index)
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name, default)
        if isinstance(value, bool):
            return value
        self.wrong(f"{value!r:.60}", "true or false", name)
        return default

    def choice(self, name: str, known: Mapping[str, T], default: T) -> T:
        """One of some words."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, str) and value in known:
            return known[value]
        near = difflib.get_close_matches(str(value), known, 1, 0.6)
        self.wrong(f"{value!r:.60}", f"{near[0]!r}" if near else "one of " + ", ".join(known), name)
        return default

    def seconds(self, name: str, default: float) -> float:
        """A duration with its unit, s."""
        return self.quantity(name, duration_s, default)

    def quantity(self, name: str, read: Callable[[object], T], default: T) -> T:
        """What `read` makes of the field."""
        value = self.values.get(name)
        if value is None:
            return default
        try:
            return read(value)
        except (ValueError, ScheduleRejected) as error:
            self.refused(error, name)
            return default

    def _is_text(self, value: Any, *parts: str | int) -> bool:
        """Whether it is one that is not empty and that a store keeps; else a mistake."""
        if not isinstance(value, str) or not value:
            self.wrong(f"{value!r:.60}", "a text", *parts)
        elif NO_TEXT.search(value):
            self.wrong(f"{value!r:.60}", "text that is Unicode, without NUL", *parts)
        else:
            return True
        return False

    def _list(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if isinstance(value, list):
            return value
        if value is not None:
            self.wrong(f"{value!r:.60}", "a list", name)
        return []

    def _name(self, *parts: str | int) -> str:
        whole = ".".join(map(str, (*self.path, *parts)))
        return f"{whole}: " if whole else ""
