"""The metrics of a process with runs: its CPU, memory and uptime, and how long its runs took.

In: the kernel's accounting, and durations of runs that ended. Out: one collection each time it is asked for.
Called by: `providers` (makes it), `heartbeat` and the end of a process's outermost run (collect).

There is no thread of its own: a batch process reports with its heartbeat and at its end. Durations are deltas, because a
process that ends soon has no total worth adding to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from wafermonitor.instrumentation import usage
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import metrics
from wafermonitor.semconv.schema import SCHEMA_URL

_BOUNDS_S = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)


class _Reader(MetricReader):
    """Hands each collection on; collected only on demand."""

    def __init__(self, receive: Callable[[MetricsData], None]) -> None:
        super().__init__(preferred_temporality={Histogram: AggregationTemporality.DELTA})
        self._receive = receive

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        del timeout_millis, kwargs
        self._receive(metrics_data)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing is open."""


class Metrics:
    """The instruments of one process."""

    def __init__(self, resource: Resource, version: str, receive: Callable[[MetricsData], None]) -> None:
        self._reader = _Reader(receive)
        provider = MeterProvider([self._reader], resource=resource, shutdown_on_exit=False)
        meter = provider.get_meter("wafer", version, SCHEMA_URL)
        self._provider = provider
        self.durations = meter.create_histogram(
            metrics.WAFER_JOB_DURATION, "s", "How long runs took.", explicit_bucket_boundaries_advisory=_BOUNDS_S
        )
        meter.create_observable_counter(metrics.PROCESS_CPU_TIME, [_cpu], "s", "CPU of this process and its reaped children.")
        meter.create_observable_up_down_counter(
            metrics.PROCESS_MEMORY_USAGE, [_memory], "By", "Resident memory of this process."
        )
        meter.create_observable_gauge(metrics.PROCESS_UPTIME, [_uptime], "s", "How long this process has been running.")

    def collect(self) -> None:
        """Take one collection and hand it on."""
        self._reader.collect()


def _cpu(_: CallbackOptions) -> Iterable[Observation]:
    user_s, system_s = usage.cpu_s()
    yield Observation(user_s, {names.CPU_MODE: names.CPU_MODE_USER})
    yield Observation(system_s, {names.CPU_MODE: names.CPU_MODE_SYSTEM})


def _memory(_: CallbackOptions) -> Iterable[Observation]:
    memory = usage.memory_bytes()
    if memory is not None:
        yield Observation(memory)


def _uptime(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(usage.uptime_s())
