"""The configuration file that every language's instrumentation reads: one JSON object, named by `WAFER_SDK_CONFIG`.

In: a file, the environment. Out: values for `Config`, the list of direct backends, and what is wrong, each with its line or
its path in the file. Called by: `config`. What may stand in an entry of the list is known to `backends`, which reads it later.

    {"mode": "direct", "app": {"name": "yield", "site_id": "fab1"},
     "direct_backends": [{"type": "elasticsearch", "url": "https://es:9200", "password": "${env:ES_PASSWORD}"},
                         {"type": "files", "folder": "/data/monitoring"}]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from wafermonitor.instrumentation.environment import Given, positive

VARIABLE: Final = "WAFER_SDK_CONFIG"
BACKENDS: Final = "direct_backends"
WAIT_S: Final = 5.0
"""How long a job waits for a direct backend, unless its entry says otherwise."""
REFERENCE: Final = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_USERINFO: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@")
_SIZE_LIMIT_BYTES: Final = 1 << 20


class Key(NamedTuple):
    """A key of the file: the field of `Config` that it sets, its JSON type, and what it means where the field does not say."""

    field: str
    type: str
    doc: str = ""
    secret: bool = False


KEYS: Final[Mapping[str, Mapping[str, Key]]] = {
    "": {"mode": Key("mode", "string")},
    "sidecar": {
        "url": Key("endpoint", "string"),
        "timeout": Key("timeout_s", "number", "Seconds that the background sender waits for one answer."),
        "retries": Key("retries", "integer"),
        "token": Key("token", "string", secret=True),
    },
    "app": {
        "name": Key("app_name", "string"),
        "version": Key("app_version", "string"),
        "site_id": Key("site_id", "string"),
    },
}
"""By section; the section without a name is the file itself."""
ENTRY: Final[Mapping[str, Key]] = {
    "type": Key("type", "string", "Which writer."),
    "enabled": Key("enabled", "boolean", "false: as if it did not stand here."),
    "wait_s": Key("wait_s", "number", f"How long to wait for its answer before the next one is asked; {WAIT_S:g} unless set."),
}
"""What each entry of the list may have beside its writer's own settings."""
_TOP: Final = ("$schema", "mode", "sidecar", "app", BACKENDS, "backends")
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list, str),
}


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One entry of the list: a writer's name, and its settings as the file has them."""

    type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    place: str = "WAFER_DIRECT_BACKENDS"
    source: str = "environment"
    wait_s: float = WAIT_S

    def __str__(self) -> str:
        return self.type


class File(NamedTuple):
    """What a file says, and what is wrong with it."""

    values: dict[str, Given]
    problems: list[str]


def named(text: str) -> tuple[Backend, ...]:
    """Names of writers, separated by commas; their settings are in the environment."""
    return tuple(Backend(type=name.strip()) for name in text.split(",") if name.strip())


def read(path: Path, environ: Mapping[str, str]) -> File:
    """The file's values. Nothing is raised: a key that is wrong is a problem, and the others count all the same."""
    reader = _Reader(path, environ)
    document = reader.document()
    if document is not None:
        reader.everything(document)
    return File(reader.values, reader.problems)


def text_of(value: Any, key: Key, place: str, environ: Mapping[str, str]) -> str:
    """A JSON value as a variable would have it. ValueError says what is wrong; it never shows a secret."""
    if key.secret and not (isinstance(value, str) and (found := REFERENCE.fullmatch(value)) and found[2] is None):
        raise ValueError(f'{place}: a secret is not written here; write "${{env:NAME}}" and set NAME where the program runs')
    if isinstance(value, str) and _USERINFO.search(value):
        raise ValueError(f'{place}: a password is not written here, in an address neither; write "${{env:NAME}}"')
    referring = isinstance(value, str) and REFERENCE.search(value) is not None
    fits = isinstance(value, _TYPES[key.type]) and (isinstance(value, bool) == (key.type == "boolean"))
    if not (fits or referring):
        raise ValueError(f"{place} = {json.dumps(value)}: not of type {key.type}")
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            raise ValueError(f"{place} = {json.dumps(value)}: a list of texts is needed")
        return ",".join(resolved(item, place, environ) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return resolved(value, place, environ) if isinstance(value, str) else str(value)


def resolved(text: str, place: str, environ: Mapping[str, str]) -> str:
    """The text with every `${env:NAME}` and `${env:NAME:-default}` replaced. ValueError names a variable that is not set."""

    def value(found: re.Match[str]) -> str:
        given = environ.get(found[1]) or found[2]
        if given is None:
            raise ValueError(f"{place}: the variable {found[1]} is not set")
        return given

    return REFERENCE.sub(value, text)


def unknown(key: str, place: str, known: Iterable[str]) -> str:
    """What is said of a key that nobody knows."""
    import difflib

    near = difflib.get_close_matches(key, known, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"{place}: unknown key {key!r}{meant} (known: {', '.join(known)})"


class _Reader:
    """Reads one file, and goes on after a mistake."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.values: dict[str, Given] = {}
        self.problems: list[str] = []
        self._path = path
        self._environ = environ

    def document(self) -> dict[str, Any] | None:
        """The file's object; None when it is none."""
        try:
            with self._path.open("rb") as file:
                text = file.read(_SIZE_LIMIT_BYTES).decode("utf-8-sig")
            found = json.loads(text, object_pairs_hook=self._object)
        except json.JSONDecodeError as error:
            self.problems.append(f"{self._path}, line {error.lineno}, column {error.colno}: {error.msg}")
        except UnicodeDecodeError:
            self.problems.append(f"{self._path}: not UTF-8")
        except RecursionError:
            self.problems.append(f"{self._path}: nested too deeply")
        except OSError as error:
            self.problems.append(f"{VARIABLE} = {str(self._path)!r}: {error.strerror}")
        else:
            if isinstance(found, dict):
                return found
            self.problems.append(f"{self._path}: one JSON object is needed")
        return None

    def everything(self, document: dict[str, Any]) -> None:
        """Each section of the document."""
        for key in document:
            if key not in _TOP:
                self.problems.append(unknown(key, str(self._path), _TOP))
        self._section("", {key: document[key] for key in KEYS[""] if key in document})
        for name in ("sidecar", "app"):
            if name in document:
                self._section(name, document[name])
        if BACKENDS in document and "backends" in document:
            self.problems.append(f"{self._path}: backends is the older name of {BACKENDS}; give one of the two")
        elif BACKENDS in document or "backends" in document:
            self._backends(document.get(BACKENDS, document.get("backends")))

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                self.problems.append(f"{self._path}: the key {key!r} stands there twice in one object")
            found[key] = value
        return found

    def _section(self, name: str, section: Any) -> None:
        if not isinstance(section, dict):
            self.problems.append(f"{self._path}: {name} must be an object")
            return
        for key, value in section.items():
            place = f"{self._path}: {name}.{key}" if name else f"{self._path}: {key}"
            known = KEYS[name].get(key)
            if known is None:
                self.problems.append(unknown(key, f"{self._path}: {name}", KEYS[name]))
                continue
            text = self._text(value, known, place)
            if text is not None:
                self.values[known.field] = Given(text, str(self._path), place)

    def _backends(self, entries: Any) -> None:
        if not isinstance(entries, list):
            self.problems.append(f"{self._path}: {BACKENDS} must be a list")
            return
        found = [self._backend(entry, f"{self._path}: {BACKENDS}[{position}]") for position, entry in enumerate(entries)]
        backends = tuple(backend for backend in found if backend is not None)
        self.values[BACKENDS] = Given(backends, str(self._path), f"{self._path}: {BACKENDS}")

    def _backend(self, entry: Any, place: str) -> Backend | None:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            self.problems.append(f'{place}: an object with a "type" is needed')
            return None
        common = {key: self._text(entry[key], ENTRY[key], f"{place}.{key}") for key in ENTRY if key in entry}
        try:
            wait_s = positive(common.get("wait_s") or str(WAIT_S))
        except ValueError:
            self.problems.append(f"{place}.wait_s: a number above 0 is needed")
            wait_s = WAIT_S
        if common.get("enabled") == "false":
            return None
        settings = {key: value for key, value in entry.items() if key not in ENTRY}
        return Backend(type=entry["type"], settings=settings, place=place, source=str(self._path), wait_s=wait_s)

    def _text(self, value: Any, key: Key, place: str) -> str | None:
        try:
            return text_of(value, key, place, self._environ)
        except ValueError as error:
            self.problems.append(str(error))
            return None
