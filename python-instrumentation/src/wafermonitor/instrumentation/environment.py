"""Settings that are environment variables, for programs that run beside jobs and need no file.

In: `os.environ`, flags. Out: the values of a frozen dataclass, and a record of each option. Called by: the settings of the
instrumentation, of the Collector and of every writer. Standard library only; services use `settings`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Self

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.option import MASK, Option

WORDS: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_STANDARD: Final = "OTEL_"

_logger = logging.getLogger("wafermonitor")


def option(
    read: Callable[[str], Any], doc: str, *names: str, default: Any = None, secret: bool = False, yaml: bool = False
) -> Any:
    """A field. `read` makes its value of text or raises ValueError; `names` are its variables, strongest first.

    Without a name of its own (OpenTelemetry's do not count) it follows the pattern `WAFER_<COMPONENT>_<FIELD>`. `yaml`: a
    Collector's files substitute its first variable.
    """
    factory = default if callable(default) else lambda: default
    metadata = {"read": read, "doc": doc, "names": names, "secret": secret, "yaml": yaml}
    return dataclasses.field(default_factory=factory, metadata=metadata)


class Given(NamedTuple):
    """A value that stands elsewhere than in the environment: text as a variable would have it, or the value itself."""

    value: Any
    source: str
    """The file."""
    place: str
    """The file and the key."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """The base of such settings. A subclass says its component's name, and may say its own class of ConfigRejected."""

    component: ClassVar[str]
    rejected: ClassVar[type[ConfigRejected]] = ConfigRejected

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, strict: bool = True, **flags: Any) -> Self:
        """Flags that are not None, then the environment, then what lies beneath it, then defaults.

        ConfigRejected names field, value and fix; not strict: one warning, and the default.
        """
        environ = os.environ if environ is None else environ
        beneath = cls.beneath(environ, strict=strict)
        values = {name: value for name, value in flags.items() if value is not None}
        for field in dataclasses.fields(cls):
            name = cls._source(field, environ)
            given = beneath.get(field.name) if name is None else Given(environ[name].strip(), "environment", name)
            if given is None or field.name in values:
                continue
            try:
                values[field.name] = field.metadata["read"](given.value) if isinstance(given.value, str) else given.value
            except ValueError as error:
                value = MASK if field.metadata["secret"] else repr(given.value)
                message = f"{cls.component}.{field.name} = {value}: {error} (set {given.place})"
                if strict:
                    raise cls.rejected(message) from None
                _logger.warning("%s; the default is used", message)
        return cls(**values)

    @classmethod
    def beneath(cls, environ: Mapping[str, str], *, strict: bool) -> Mapping[str, Given]:
        """By field: what counts where the environment says nothing. None of it unless a subclass has a file."""
        del environ, strict
        return {}

    @classmethod
    def options(cls) -> list[Option]:
        """Every option with its value and where that came from, secrets masked."""
        config, untouched, beneath = cls.load(), cls(), cls.beneath(os.environ, strict=True)
        rows = []
        for field in dataclasses.fields(cls):
            names = cls.variables(field)
            own = next(name for name in names if not name.startswith(_STANDARD))
            value = shown(getattr(config, field.name))
            rows.append(
                Option(
                    component=cls.component,
                    name=field.name,
                    environment=own,
                    aliases=tuple(name for name in names if name != own),
                    type=str(field.type),
                    default=shown(getattr(untouched, field.name)),
                    doc=field.metadata["doc"],
                    value=MASK if field.metadata["secret"] and value else value,
                    source="environment" if cls._source(field, os.environ) else _source_of(beneath.get(field.name)),
                )
            )
        return rows

    @classmethod
    def variables(cls, field: dataclasses.Field[Any]) -> list[str]:
        """The variables of a field, strongest first."""
        names = list(field.metadata["names"])
        if all(name.startswith(_STANDARD) for name in names):
            names.append(f"WAFER_{cls.component.upper()}_{field.name.upper()}")
        return names

    @classmethod
    def _source(cls, field: dataclasses.Field[Any], environ: Mapping[str, str]) -> str | None:
        return next((name for name in cls.variables(field) if environ.get(name, "").strip()), None)


def _source_of(given: Given | None) -> str:
    return "default" if given is None else given.source


def one_of(*known: str) -> Callable[[str], str]:
    """One of these words, in any case."""

    def read(text: str) -> str:
        for word in known:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"known: {', '.join(known)}")

    return read


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("a number above 0")
    return value


def switch(text: str) -> bool:
    """True or false, yes or no, on or off, 1 or 0."""
    if text.lower() not in WORDS:
        raise ValueError("true or false")
    return WORDS[text.lower()]


def shown(value: Any) -> str:
    """A value as its variable would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
