"""`wafer alerting`: watch what should happen, look once, say how it stands.

In: flags, the environment (`WAFER_ALERTING_*`, `WAFER_STORAGE_*`), the files that they name. Out: lines, or JSON with `--json`.
Called by: people, cron, `wafer up` (`run`).
"""

from __future__ import annotations

import click

from wafermonitor.alerting.notify.command import COMMANDS

SERVICE = "wafer-alerting"


@click.group()
def alerting() -> None:
    """Know what should have happened, and tell the right person once."""


for _command in COMMANDS:
    alerting.add_command(_command)
