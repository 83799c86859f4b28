"""A run's place in the tree, carried to other processes and threads: W3C trace context in the environment.

In: the present context, or `TRACEPARENT`, `TRACESTATE`, `BAGGAGE`. Out: environment variables, a context, a bound function.
Called by: `jobs`.

The `wafer` entry of TRACESTATE names the span of the innermost run, because plain spans may stand between it and its children;
without that entry the sender of TRACEPARENT is taken for a run, as every one of our SDKs puts its run there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, ParamSpec, TypeVar

from opentelemetry import context as contexts
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from wafermonitor.instrumentation.processor import PARENT_KEY, RUN_KEY, Run

P = ParamSpec("P")
R = TypeVar("R")

_KEYS: Final = ("traceparent", "tracestate", "baggage")
_ENTRY: Final = "wafer"


def pack(context: Context | None = None) -> dict[str, str]:
    """The context as `traceparent`, `tracestate` and `baggage`; empty outside any span."""
    context = contexts.get_current() if context is None else context
    span = get_current_span(context).get_span_context()
    carrier: dict[str, str] = {}
    if not span.is_valid:
        return carrier
    run = contexts.get_value(RUN_KEY, context)
    if isinstance(run, Run) and run.trace_id == span.trace_id:
        state = span.trace_state.update(_ENTRY, f"{run.span_id:016x}")
        span = SpanContext(span.trace_id, span.span_id, span.is_remote, span.trace_flags, state)
        context = set_span_in_context(NonRecordingSpan(span), context)
    TraceContextTextMapPropagator().inject(carrier, context)
    W3CBaggagePropagator().inject(carrier, context)
    return carrier


def unpack(carrier: Mapping[str, str], context: Context | None = None) -> Context:
    """The reverse of `pack`; what cannot be read is left out."""
    context = contexts.get_current() if context is None else context
    context = TraceContextTextMapPropagator().extract(carrier, context)
    context = W3CBaggagePropagator().extract(carrier, context)
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return context
    return contexts.set_value(PARENT_KEY, span.trace_state.get(_ENTRY) or f"{span.span_id:016x}", context)


def from_environment(environ: Mapping[str, str] | None = None) -> Context:
    """The present context with what the environment says about the caller."""
    environ = os.environ if environ is None else environ
    return unpack({key: environ[key.upper()] for key in _KEYS if environ.get(key.upper())})


def environment(context: Context, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of the environment for a child process. What it said about the caller before is replaced."""
    out = dict(os.environ if base is None else base)
    packed = pack(context)
    if packed:
        for key in _KEYS:
            out.pop(key.upper(), None)
        out |= {key.upper(): value for key, value in packed.items()}
    return out


class Bound(Generic[P, R]):
    """A function that runs under the run it was bound in: in other threads, and pickled, in other processes."""

    def __init__(self, function: Callable[P, R], context: Context) -> None:
        self.__wrapped__ = function
        self._context = context

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's own result and errors."""
        token = contexts.attach(self._context)
        try:
            return self.__wrapped__(*args, **kwargs)
        finally:
            contexts.detach(token)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebind, (self.__wrapped__, pack(self._context))


def bind(function: Callable[P, R]) -> Bound[P, R]:
    """Threads and pools start outside every run; `bind(function)` takes the present one along."""
    return Bound(function, contexts.get_current())


def _rebind(function: Callable[P, R], carrier: Mapping[str, str]) -> Bound[P, R]:
    return Bound(function, unpack(carrier))
