"""Kafka as a way into the receiver: one member of a consumer group, beside gRPC and HTTP or instead of them.

In: messages of the configured topics. Out: requests to the pipeline; offsets, committed only when everything before them is in
the store. Called by: `receiver.server`, which starts and stops it with the pipeline.

At-least-once: after a kill, a rebalance or a lost commit messages come again, and the store keeps each row once. When
partitions are taken away, what is in flight gets a moment to finish, its positions are committed while they are still ours, and
the rest is forgotten. Brokers that are away are said once and tried again for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from wafermonitor.receiver.kafka.client import Client, Message, Standing
from wafermonitor.receiver.kafka.config import KafkaConfig
from wafermonitor.receiver.kafka.delivery import Delivery, Submit
from wafermonitor.receiver.kafka.errors import CommitRefused, KafkaUnavailable
from wafermonitor.receiver.kafka.offsets import Ledger, Partition, Window
from wafermonitor.receiver.kafka.telemetry import KafkaTelemetry
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.storage.protocol import Writer

LOG = logging.getLogger(__name__)
COMMIT_S = 0.5
LOOK_S = 5.0
TAKE_S = 0.5
CROWDED_S = 0.02
"""While some partition may take nothing: how soon it is asked again."""
REVOKED_S = 3.0
"""What in flight of a revoked partition may take to finish; the whole group waits for it."""
FINISH_S = 0.1
"""How often it is asked whether one of those has stalled."""
LEAVE_S = 0.5
SAY_EVERY_S = 60.0
FAR_BEHIND = 1000
"""Messages; more are worth a line in the log now and then."""
SHORTEST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
MOST_MESSAGES = 1000
FAILURES = 20
"""In a row, until the connections are made anew."""


class State(NamedTuple):
    """What health pages say. `trouble` is None while Kafka answers; `missing` are topics that are not there yet."""

    trouble: str | None
    partitions: int
    lag: int
    stalled: int
    missing: tuple[str, ...]


class Consumer:
    """Reads from Kafka between `start()` and `stop()`."""

    def __init__(self, config: KafkaConfig, limit_bytes: int, submit: Submit, writer: Writer, telemetry: Telemetry) -> None:
        self._config = config
        self._signals = {topic: Signal(signal) for topic, signal in config.kafka_topics.items()}
        self._ledger = Ledger(config.kafka_bytes)
        self._telemetry = KafkaTelemetry(telemetry.registry, lambda: self._ledger.held_bytes, lambda: self.state.stalled)
        self._delivery = Delivery(submit, writer, limit_bytes, telemetry, self._telemetry)
        self._client = Client(config, self._assigned, self._revoked)
        self._room = asyncio.Event()
        self._look = asyncio.Event()
        self._mean_bytes = 1024.0
        self._trouble: str | None = "not connected yet"
        self._said: str | None = None
        self._told = 0.0
        self._missing: tuple[str, ...] = ()
        self._lag: dict[Partition, int] = {}
        self._committing = asyncio.Lock()
        self._main: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        """How it goes."""
        windows = self._ledger.windows
        stalled = sum(window.stalled for window in windows.values())
        return State(self._trouble, len(windows), sum(self._lag.values()), stalled, self._missing)

    def start(self) -> None:
        """Begin; returns at once, whether a broker is there or not."""
        self._main = asyncio.create_task(self._run(), name="kafka")

    async def stop(self, within_s: float) -> None:
        """Take nothing more, let what is in flight finish, commit its offsets, leave the group; all that within `within_s`."""
        if self._main is None:
            return
        self._main.cancel()
        await asyncio.gather(self._main, return_exceptions=True)
        windows = self._ledger.close(list(self._ledger.windows))
        await self._finish(windows, within_s - 2 * LEAVE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._commit(windows)
        self._forget(windows)
        await self._client.close(LEAVE_S)

    async def _run(self) -> None:
        pause_s = SHORTEST_PAUSE_S
        while True:
            try:
                await self._client.open()
                pause_s = SHORTEST_PAUSE_S
                self._up()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._take())
                    tasks.create_task(self._keep_committing())
                    tasks.create_task(self._keep_looking())
            except* KafkaUnavailable as group:
                self._down(str(group.exceptions[0]))
            except* Exception:
                LOG.exception("reading Kafka failed in the receiver itself")
                self._down("a fault of ours")
            windows = self._ledger.close(list(self._ledger.windows))
            await self._finish(windows, 0)
            self._forget(windows)
            await self._client.close(LEAVE_S)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _take(self) -> None:
        """Take what there is room for, and start a task for each message."""
        failures = 0
        while True:
            takers = self._ledger.takers()
            windows = self._ledger.windows
            crowded = len(takers) < len(windows)
            if crowded and not takers:
                self._room.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAKE_S):
                        await self._room.wait()
                continue
            most = min(max(int(self._ledger.free_bytes / self._mean_bytes), 1), MOST_MESSAGES)
            try:
                taken = await self._client.take(takers if crowded else None, most, CROWDED_S if crowded else TAKE_S)
            except KafkaUnavailable as error:
                # Of one partition, or of all: the others are asked again before everything is opened anew.
                failures += 1
                if failures > FAILURES:
                    raise
                self._down(str(error))
                await asyncio.sleep(TAKE_S)
                continue
            failures = 0
            for partition, messages in taken.items():
                window = windows.get(partition)
                if window is None or window.closing:
                    # Taken away, or not yet said to be ours: what is not in a window must come again.
                    self._client.rewind(partition, messages[0].offset)
                else:
                    self._deliver(window, messages)

    def _deliver(self, window: Window, messages: Sequence[Message]) -> None:
        signal = self._signals[window.partition.topic]
        size_bytes = 0
        for message in messages:
            size_bytes += len(message.body or b"")
            window.take(message.offset, len(message.body or b""))
            task = asyncio.create_task(self._settle(window, message, signal))
            window.tasks.add(task)
            task.add_done_callback(window.tasks.discard)
        self._mean_bytes = 0.8 * self._mean_bytes + 0.2 * size_bytes / len(messages)

    async def _settle(self, window: Window, message: Message, signal: Signal) -> None:
        if await self._delivery.settle(message, signal, window):
            window.settle(message.offset)
        self._room.set()

    async def _keep_committing(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit()

    async def _commit(self, windows: Sequence[Window] | None = None) -> None:
        """Commit what is due of `windows`, or of all. One after the other, so that no position goes back."""
        async with self._committing:
            due = self._ledger.due(windows)
            positions = {window.partition: position for window, position in due}
            if not positions:
                return
            try:
                await self._client.commit(positions)
            except CommitRefused as error:
                LOG.debug("the group was shared out anew before a commit: %s", error)
            except KafkaUnavailable as error:
                self._down(str(error))
            else:
                for window, position in due:
                    window.committed(position)

    async def _keep_looking(self) -> None:
        """Whether the brokers answer, how far behind we are, which topics there are."""
        while True:
            try:
                self._see_topics(await self._client.missing())
                await self._measure()
            except CommitRefused as error:
                LOG.debug("the group was shared out anew while it was measured: %s", error)
            except KafkaUnavailable as error:
                self._down(str(error))
            else:
                self._up()
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()

    async def _measure(self) -> None:
        windows = list(self._ledger.windows.values())
        for partition, standing in (await self._client.standing(window.partition for window in windows)).items():
            window = self._ledger.windows.get(partition)
            if window is None or window not in windows:
                continue
            if not window.known:
                await self._learn(window, standing)
            behind = standing.end - (standing.end if window.position is None else window.position)
            self._lag[partition] = max(behind, 0)
            self._telemetry.lag(partition, self._lag[partition])
        behind = sum(self._lag.values())
        if behind >= FAR_BEHIND and time.monotonic() - self._told >= SAY_EVERY_S:
            self._told = time.monotonic()
            LOG.info("%d messages behind in %d partitions", behind, sum(lag > 0 for lag in self._lag.values()))

    async def _learn(self, window: Window, standing: Standing) -> None:
        """Where the group stands in a partition that was just assigned, and whether Kafka still has what comes next."""
        if standing.committed is None and self._config.kafka_from == "latest":
            # Kept at once: who comes after us would begin at what is the end then, and pass over what arrives until then.
            window.begin(await self._client.position(window.partition), kept=False)
            window.known = True
            return
        window.known = True
        committed = standing.first if standing.committed is None else standing.committed
        lost = standing.first - committed
        if lost > 0:
            self._telemetry.expired.labels(window.partition.topic).inc(lost)
            LOG.error(
                "Kafka deleted %d messages of %s before they were read: its retention is too short", lost, window.partition
            )
        window.begin(max(committed, standing.first))

    def _see_topics(self, missing: set[str]) -> None:
        names = tuple(sorted(missing))
        if names != self._missing and names:
            LOG.warning("Kafka has no topic %s (or hides it from us); it is read as soon as it is there", ", ".join(names))
        self._missing = names

    async def _assigned(self, partitions: list[Partition]) -> None:
        self._ledger.assign(partitions)
        self._telemetry.rebalances.inc()
        self._look.set()
        LOG.info("reads %s", ", ".join(map(str, sorted(partitions))) or "nothing: other receivers have every partition")

    async def _revoked(self, partitions: list[Partition]) -> None:
        windows = self._ledger.close(partitions)
        await self._finish(windows, REVOKED_S)
        await self._commit(windows)
        self._forget(windows)

    def _forget(self, windows: Sequence[Window]) -> None:
        self._ledger.forget(windows)
        for window in windows:
            if self._lag.pop(window.partition, None) is not None:
                self._telemetry.forget(window.partition)

    async def _finish(self, windows: Sequence[Window], within_s: float) -> None:
        """Wait for the messages of `windows`; give up those that are not settled in time, or must be tried again."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            going = [task for window in windows if not window.stalled for task in window.tasks]
            if not going:
                break
            await asyncio.wait(going, timeout=FINISH_S)
        tasks = [task for window in windows for task in window.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _up(self) -> None:
        self._telemetry.connected.set(1)
        if self._trouble is not None:
            LOG.info("Kafka at %s answers; group %s", self._config.kafka, self._config.kafka_group)
        self._trouble = None

    def _down(self, why: str) -> None:
        self._telemetry.connected.set(0)
        if self._trouble is None or self._said is None:
            LOG.error("Kafka at %s cannot be read: %s; tried again until it can", self._config.kafka, why)
        self._said = self._trouble = why
