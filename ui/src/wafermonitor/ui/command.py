"""`wafer ui`: serve the screens until SIGTERM or SIGINT.

In: flags, environment, `wafer.toml`. Out: a ready line with the real port on stdout, logs on stderr.
Called by: the `wafer` group.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import click

from wafermonitor.instrumentation import service, settings
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.ui.config import Config
from wafermonitor.ui.errors import UiError

if TYPE_CHECKING:
    from wafermonitor.ui.app import RunningUi


@click.command()
@settings.options(Config)
@click.option("--ready-json", is_flag=True, help="print the ready line as one JSON object")
def ui(*, ready_json: bool, **flags: Any) -> None:
    """Serve the screens: what runs now, what ran, one run in full.

    Exit codes: 0 stopped in order, 1 the address cannot be used, 2 a setting is wrong.
    """
    service.configure_logging("wafer-ui")
    # One line for each file of a page, each question to the API and each page closed while it was written to is no news.
    for name in ("tornado.access", "httpx", "bokeh", "panel"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)
    try:
        config = Config.load(**flags)
    except ConfigRejected as error:
        raise click.UsageError(str(error)) from None

    def ready(running: RunningUi) -> None:
        line = {"ready": "ui", "url": running.url, "pid": os.getpid(), "api": config.api_url}
        click.echo(json.dumps(line) if ready_json else f"wafer ui shows {config.api_url} at {running.url}")

    async def run() -> None:
        from wafermonitor.ui import app

        await app.serve(config, service.stop_event(), ready)

    try:
        asyncio.run(run())
    except UiError as error:
        raise click.ClickException(str(error)) from None
