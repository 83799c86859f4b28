"""`wafer alerting`: watch what should happen, look once, say how it stands.

In: flags, the environment (`WAFER_ALERTING_*`, `WAFER_STORAGE_*`), the files that they name. Out: lines, or JSON with `--json`.
Called by: people, cron, `wafer up` (`run`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from wafermonitor.alerting.config import Config
from wafermonitor.alerting.errors import AlertingError
from wafermonitor.alerting.notify.command import COMMANDS
from wafermonitor.alerting.trying import COMMANDS as TRYING
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.service import configure_logging
from wafermonitor.instrumentation.settings import options
from wafermonitor.storage.answers import as_json_option
from wafermonitor.storage.errors import StorageError

SERVICE = "wafer-alerting"
T = TypeVar("T")


@click.group(invoke_without_command=True)
@click.pass_context
def alerting(context: click.Context, /) -> None:
    """Know what should have happened, and tell the right person once. Without a command: `run`."""
    if context.invoked_subcommand is None:
        context.invoke(run, as_json=False)


@alerting.command()
@options(Config)
@as_json_option
def run(*, as_json: bool, **flags: Any) -> None:
    """Evaluate and tell until SIGTERM or SIGINT. Any number may run: one evaluates, the others stand by."""
    from wafermonitor.alerting import running

    configure_logging(SERVICE)
    _done(flags, lambda config: running.run(config, as_json=as_json))


@alerting.command()
@options(Config)
@as_json_option
def once(*, as_json: bool, **flags: Any) -> int:
    """Evaluate once, now, and send what is due. Exit code 1 when another process is at it."""
    from wafermonitor.alerting import running

    return _done(flags, lambda config: running.once(config, as_json=as_json))


@alerting.command()
@options(Config)
@as_json_option
def status(*, as_json: bool, **flags: Any) -> int:
    """Say when it was last evaluated, and what is open. Exit code 1 when nobody evaluates."""
    from wafermonitor.alerting import running

    return _done(flags, lambda config: running.status(config, as_json=as_json))


def _done(flags: dict[str, Any], do: Callable[[Config], Coroutine[Any, Any, T]]) -> T:
    """Do it with the settings as they are; what cannot be done is said in one line."""
    try:
        return asyncio.run(do(Config.load(**flags)))
    except ConfigRejected as error:
        raise click.UsageError(str(error)) from None
    except (AlertingError, StorageError) as error:
        raise click.ClickException(str(error)) from None


for _command in (*COMMANDS, *TRYING):
    alerting.add_command(_command)
