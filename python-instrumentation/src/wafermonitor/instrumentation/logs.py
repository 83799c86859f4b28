"""The program's own log records, bound to the run they were written in.

In: records of the `logging` module, while a run is open. Out: OTLP log records with the run's trace and span id.
Called by: `jobs`, which begins to listen when the first run of a process begins.

We listen where records are made, not with a handler on the root logger: with a handler there, `logging.basicConfig` would do
nothing any more and warnings of a program without handlers would no longer be printed.
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

_listening = False


@guarded
def listen(telemetry: providers.Telemetry) -> None:
    """Hear of every record, once; not where the application already sends its records to us."""
    global _listening  # noqa: PLW0603 - one for each process, and forked children inherit it
    if _listening or not telemetry.config.logs or _sent_already(telemetry):
        return
    _listening = True
    make = logging.getLogRecordFactory()
    level = logging.getLevelNamesMapping()[telemetry.config.log_level]

    def heard(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        # logging.makeLogRecord asks for an empty record and fills it later: somebody else's record comes in, none is written.
        name: object = record.name
        if isinstance(name, str) and record.levelno >= level and not name.startswith(_OWN):
            _send(record)
        return record

    logging.setLogRecordFactory(heard)


@guarded
def _send(record: logging.LogRecord) -> None:
    """Queue it; outside any context it belongs to the process's oldest run."""
    telemetry = providers.existing()
    runs = telemetry.open_runs() if telemetry is not None else ()
    if telemetry is None or not runs:
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


def _sent_already(telemetry: providers.Telemetry) -> bool:
    """Whether a handler of OpenTelemetry's stands on the root logger and its records arrive where ours do."""
    handlers = (getattr(handler, "_logger_provider", None) for handler in logging.getLogger().handlers)
    return any(provider is not None and providers.logs_come_to_us(provider, telemetry.config) for provider in handlers)
