"""`wafer receiver`: take OTLP in until SIGTERM or SIGINT, then drain.

In: flags, environment, `wafer.toml`; the store of `WAFER_STORAGE_*`. Out: one ready line with the real ports on stdout.
Called by: `wafer`, `wafer up`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import sys
import textwrap
import threading
from typing import Any

import click

from wafermonitor.instrumentation import service, settings
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.dead_letters.command import dead_letters
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.protocol import Storage

SERVICE = "wafer-receiver"
LONG_GARBAGE_CYCLES = 50_000
"""Objects of a request die with it by their counts; looking for cycles among them at every 700th costs a tenth of the time."""
CLOSE_S = 3.0
"""How long a writer may take to let go of its backend."""
_WIDTH = 100
_INDENT = " " * 15


@click.group(invoke_without_command=True)
@settings.options(Config)
@click.option("--ready-json", is_flag=True, help="Print the ready line as one JSON object.")
@click.pass_context
def receiver(context: click.Context, /, *, ready_json: bool, **flags: Any) -> None:
    """Take OTLP in by gRPC and HTTP; answer when it is committed.

    The store is the one of WAFER_STORAGE_DSN, or the embedded PostgreSQL. With --writer it is a bridge: it takes OTLP by HTTP
    and answers when another backend has it; `wafer receiver writers` names them. Exit codes: 0 stopped in order, 1 an address
    or the store cannot be used, 2 a setting is wrong.
    """
    if context.invoked_subcommand is not None:
        if ready_json or any(value is not None for value in flags.values()):
            raise click.UsageError(f"`{context.invoked_subcommand}` takes its own options only, behind its name")
        return
    service.configure_logging(SERVICE)
    try:
        config, storage_config = Config.load(**flags), StorageConfig.load()
    except ConfigRejected as error:
        raise click.UsageError(str(error)) from None
    from wafermonitor.receiver.errors import AddressRejected, ChildUnavailable, LaneRejected
    from wafermonitor.receiver.kafka import KafkaRejected

    try:
        if config.writer:
            asyncio.run(_serve_bridge(config.writer, config, ready_json=ready_json))
        elif config.processes > 1:
            asyncio.run(_serve_together(config, storage_config, flags, ready_json=ready_json))
        else:
            asyncio.run(_serve(config, storage_config, ready_json=ready_json))
    except ConfigRejected as error:
        raise click.UsageError(str(error)) from None
    except (AddressRejected, ChildUnavailable, KafkaRejected, LaneRejected, StorageError) as error:
        raise click.ClickException(str(error)) from None


receiver.add_command(dead_letters)


@receiver.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON list.")
def writers(*, as_json: bool) -> None:
    """Name the backends that a bridge can write to, and the variables that each reads."""
    from wafermonitor.storage.errors import StorageRejected
    from wafermonitor.storage.writers import loading

    rows: list[dict[str, Any]] = []
    for name in loading.names():
        try:
            kind = loading.find(name)
        except StorageRejected as error:
            rows.append({"writer": name, "missing": str(error)})
            continue
        variables = [kind.config_type.variables(field)[0] for field in dataclasses.fields(kind.config_type)]
        rows.append({"writer": name, "signals": sorted(kind.signals), "port": kind.port, "environment": variables})
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        if "missing" in row:
            click.echo(f"{row['writer']:<14} {row['missing']}")
            continue
        click.echo(f"{row['writer']:<14} port {row['port']}  {', '.join(row['signals'])}")
        names = " ".join(row["environment"])
        click.echo(textwrap.fill(names, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False))


async def _serve(config: Config, storage_config: StorageConfig, *, ready_json: bool) -> None:
    from wafermonitor.receiver import memory, server
    from wafermonitor.storage.connect import connect

    memory.bound_arenas()
    stop = service.stop_event()
    stop_spans = service.export_spans(SERVICE)
    storage = await connect(storage_config)
    try:
        running = await server.start(storage, config)
        gc.freeze()
        gc.set_threshold(LONG_GARBAGE_CYCLES, *gc.get_threshold()[1:])
        maintenance = _maintain(storage, storage_config, stop)
        try:
            health = await storage.reader.health()
            ready = {
                "ready": "receiver",
                "grpc": running.grpc_address if config.otlp else None,
                "http": running.http_address,
                "pid": os.getpid(),
                "engine": health.engine,
                "lane": running.lane,
                "metrics": running.metrics_address,
            } | ({"kafka": config.kafka} if config.kafka else {})
            ready |= {"legacy": running.legacy_address} if running.legacy_address else {}
            ways = [f"OTLP/gRPC on {running.grpc_address}", f"OTLP/HTTP on {running.http_address}"]
            ways = ways if config.otlp else [f"pages on {running.http_address}"]
            ways += [f"older routes on {running.legacy_address}"] if running.legacy_address else []
            ways += [f"Kafka from {config.kafka}"] if config.kafka else []
            text = f"ready: {', '.join(ways)} (store: {health.engine}, lane: {running.lane})"
            click.echo(json.dumps(ready) if ready_json else text)
            await stop.wait()
        finally:
            stop.set()
            await running.stop()
            if maintenance is not None:
                await asyncio.gather(maintenance, return_exceptions=True)
    finally:
        await storage.close()
        await asyncio.to_thread(stop_spans)


async def _serve_bridge(name: str, config: Config, *, ready_json: bool) -> None:
    from wafermonitor.receiver import memory, server
    from wafermonitor.receiver.bridge import Bridge
    from wafermonitor.storage.writers import loading

    memory.bound_arenas()
    stop = service.stop_event()
    stop_spans = service.export_spans(f"wafer-bridge-{name}")
    writer = loading.make(name)
    try:
        running = await server.start_bridge(name, writer, config)
        try:
            ready = {
                "ready": "bridge",
                "writer": name,
                "http": running.http_address,
                "pid": os.getpid(),
                "metrics": running.metrics_address,
            }
            click.echo(json.dumps(ready) if ready_json else f"ready: OTLP/HTTP on {running.http_address} (writer: {name})")
            await stop.wait()
        finally:
            await running.stop()
    finally:
        closing = threading.Thread(target=writer.close, name="close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_S)
        await asyncio.to_thread(stop_spans)
    if closing.is_alive() or (isinstance(running.outlet, Bridge) and running.outlet.writing):
        # A backend that hangs: Python would wait for its thread. Whoever sent that has been told to try again.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _serve_together(config: Config, storage_config: StorageConfig, flags: dict[str, Any], *, ready_json: bool) -> None:
    """Several processes. The store is opened here, too: an embedded one ends with the process that supervises it."""
    from wafermonitor.receiver import processes
    from wafermonitor.storage.connect import connect

    def told(ready: dict[str, Any]) -> None:
        pids = ", ".join(str(one["pid"]) for one in ready["processes"])
        text = f"ready: OTLP/gRPC on {ready['grpc']}, OTLP/HTTP on {ready['http']} (processes: {pids})"
        click.echo(json.dumps(ready) if ready_json else text)

    stop = service.stop_event()
    storage = await connect(storage_config)
    try:
        await processes.run(config, flags, stop, told)
    finally:
        await storage.close()


def _maintain(storage: Storage, config: StorageConfig, stop: asyncio.Event) -> asyncio.Task[None] | None:
    """Partitions, ghosts and lost runs, beside the receiver; other engines have none of them."""
    if config.engine != "timescale":
        return None
    from wafermonitor.storage.maintain import keeper

    return asyncio.create_task(keeper.keep(storage, stop), name="maintenance")
