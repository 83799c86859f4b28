"""How a service is set up: flags › environment › `wafer.toml` › defaults, one record per option.

In: a `Config` class, flags, the environment, `wafer.toml`. Out: a frozen `Config`, or ConfigRejected that names the field, its
value and fix. Called by: each service's `config.py` and `command.py`, `wafer config show`, the docs table.

Needs pydantic-settings, which every service extra brings; the base install never imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import click
from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.option import MASK, Option

F = TypeVar("F", bound=Callable[..., Any])


class ServiceConfig(BaseSettings):
    """What the operator sets of one service. Subclasses say `component="receiver"` and list their fields with descriptions.

    `aliases` maps a field to names from before the pattern `WAFER_<COMPONENT>_<FIELD>`; the pattern wins over them.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")
    component: ClassVar[str] = ""
    aliases: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, *, component: str = "", **kwargs: Any) -> None:
        cls.component = component or cls.component
        super().__init_subclass__(**kwargs)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the older names, then `wafer.toml`."""
        del env_settings, dotenv_settings, file_secret_settings
        return (init_settings, *(source for _, source in cls._sources(settings_cls)))

    @classmethod
    def _sources(cls, settings_cls: type[BaseSettings]) -> Iterator[tuple[str, PydanticBaseSettingsSource]]:
        yield "environment", EnvSettingsSource(settings_cls, env_prefix=f"WAFER_{cls.component.upper()}_")
        older = {
            field: os.environ[name] for field, names in cls.aliases.items() for name in reversed(names) if name in os.environ
        }
        yield "environment", InitSettingsSource(settings_cls, older)
        file = config_file()
        if file is not None:
            yield str(file), _TomlSection(settings_cls, file, cls.component)

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read every source; flags that are None do not count. ConfigRejected says what to mend."""
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            raise ConfigRejected(cls._explain(error)) from None

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        lines = []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            says = problem["msg"].removeprefix("Value error, ")
            if not name:  # several options do not fit together: the text names them
                lines.append(f"{cls.component}: {says}")
                continue
            field = cls.model_fields.get(name)
            secret = field is not None and field.annotation is not None and "Secret" in str(field.annotation)
            value = MASK if secret else repr(problem.get("input"))
            known = f"set WAFER_{cls.component.upper()}_{name.upper()}" if field else f"known: {', '.join(cls.model_fields)}"
            lines.append(f"{cls.component}.{name} = {value}: {says} ({known})")
        return "\n".join(lines)

    @classmethod
    def options(cls, **flags: Any) -> list[Option]:
        """Every option with its value and where that came from, secrets masked."""
        config = cls.load(**flags)
        found = [(label, source()) for label, source in cls._sources(cls)]
        rows = []
        for name, field in cls.model_fields.items():
            value = getattr(config, name)
            source = "flag" if flags.get(name) is not None else next((label for label, has in found if name in has), "default")
            rows.append(
                Option(
                    component=cls.component,
                    name=name,
                    environment=f"WAFER_{cls.component.upper()}_{name.upper()}",
                    aliases=cls.aliases.get(name, ()),
                    type=getattr(field.annotation, "__name__", str(field.annotation)),
                    default=_show(field.get_default(call_default_factory=True)),
                    doc=field.description or "",
                    value=_show(value),
                    source=source,
                )
            )
        return rows


class _TomlSection(TomlConfigSettingsSource):
    """One component's table of `wafer.toml`."""

    def __init__(self, settings_cls: type[BaseSettings], file: Path, section: str) -> None:
        self._section = section
        super().__init__(settings_cls, file)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            table = super()._read_file(file_path).get(self._section, {})
        except ValueError as error:
            raise ConfigRejected(f"{file_path} is not TOML: {error}") from None
        if not isinstance(table, dict):
            raise ConfigRejected(f"{file_path}: [{self._section}] must be a table")
        return table


def config_file() -> Path | None:
    """`WAFER_CONFIG` or `./wafer.toml`; None when there is none. A named file that is missing is an error."""
    named = os.environ.get("WAFER_CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigRejected(f"WAFER_CONFIG = {named!r}: no such file")
        return Path(named)
    here = Path("wafer.toml")
    return here if here.is_file() else None


def options(config: type[ServiceConfig]) -> Callable[[F], F]:
    """A click decorator: one `--flag` for each field of `config`, with its description and default."""

    def decorate(function: F) -> F:
        for name, field in reversed(config.model_fields.items()):
            if "Secret" in str(field.annotation):
                continue  # secrets come from the environment or files: a command line is public
            flag = f"--{name.replace('_', '-')}"
            default = _show(field.get_default(call_default_factory=True))
            text = f"{field.description or ''}  [default: {default or 'none'}]"
            boolean = field.annotation is bool
            declaration = f"{flag}/--no-{flag[2:]}" if boolean else flag
            function = click.option(declaration, name, default=None, type=bool if boolean else str, help=text)(function)
        return function

    return decorate


def _show(value: Any) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return "" if value is None else str(value)
