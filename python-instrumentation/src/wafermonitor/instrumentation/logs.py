"""The program's own log records, bound to the run they were written in.

In: records of the `logging` module, while a run is open. Out: OTLP log records with the run's trace and span id.
Called by: `jobs`, which attaches the handler to the root logger when the first run of a process begins.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from wafermonitor.instrumentation import providers
from wafermonitor.instrumentation.guard import guarded
from wafermonitor.instrumentation.otlp_json import text
from wafermonitor.instrumentation.results import described
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv.schema import SCHEMA_URL

_OWN: Final = ("wafermonitor", "opentelemetry")
"""Records about telemetry, sent as telemetry, would feed themselves."""
_STEPS: Final = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (logging.DEBUG, SeverityNumber.DEBUG),
)


class Handler(logging.Handler):
    """Sends records written while a run is open; outside any context they belong to the process's oldest run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record. The program's arguments are in the message only."""
        if not record.name.startswith(_OWN):
            self._send(record)

    @guarded
    def _send(self, record: logging.LogRecord) -> None:
        telemetry = providers.existing()
        if telemetry is None:
            return
        runs = telemetry.open_runs()
        if not runs:
            return
        span = trace.get_current_span()
        context = set_span_in_context(span, Context()) if span.get_span_context().is_valid else runs[0].context
        attributes: dict[str, Any] = {
            names.CODE_FUNCTION_NAME: record.funcName,
            names.CODE_LINE_NUMBER: record.lineno,
            names.THREAD_NAME: record.threadName,
        }
        if record.exc_info and record.exc_info[1] is not None:
            attributes |= described(record.exc_info[1], stacktrace=telemetry.config.stacktrace)
        severity = next((severity for level, severity in _STEPS if record.levelno >= level), SeverityNumber.TRACE)
        telemetry.logs.get_logger(record.name, telemetry.version, SCHEMA_URL).emit(
            timestamp=int(record.created * 1_000_000_000),
            context=context,
            severity_number=severity,
            severity_text=record.levelname,
            body=text(record.getMessage()),
            attributes={name: value for name, value in attributes.items() if value is not None},
        )


_handler: Handler | None = None


@guarded
def attach(telemetry: providers.Telemetry) -> None:
    """Put the handler on the root logger, once; not where the application already sends its records to us."""
    global _handler  # noqa: PLW0603 - one for each process
    if _handler is not None or not telemetry.config.logs or _sent_already(telemetry):
        return
    _handler = Handler(telemetry.config.log_level)
    logging.getLogger().addHandler(_handler)


def _sent_already(telemetry: providers.Telemetry) -> bool:
    """Whether a handler of OpenTelemetry's stands on the root logger and its records arrive where ours do."""
    for handler in logging.getLogger().handlers:
        provider = getattr(handler, "_logger_provider", None)
        if provider is not None and providers.logs_come_to_us(provider, telemetry.config):
            return True
    return False
