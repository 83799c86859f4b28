"""Memory and PostgreSQL keep the same, whatever is done in whatever order: hypothesis looks for what tells them apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.contract.alerts import alert, delivery, expectation, expected, silence
from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND
from tests.storage.engines import Engine, in_memory
from wafermonitor.runs.alerts import DeliveryState, Origin
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.watch import AlertQuery, ExpectedQuery, Outcome, Watch

pytestmark = pytest.mark.postgres
TABLES = ("expectation", "expected_run", "alert", "delivery", "silence", "alerting_note")
few, names = st.integers(1, 3), st.sampled_from(["nightly", "weekly"])
later = st.sampled_from([None, NOW - 3 * DAY, NOW])
expectations = st.builds(
    lambda name, spec, origin: expectation(name, spec=spec, origin=origin),
    names,
    st.sampled_from(['{"cron": "0 2 * * *"}', '{"every": 60}']),
    st.sampled_from([Origin.API, Origin.PROPOSED]),
)
runs = st.builds(
    lambda number, name, state, settled: expected(number, expectation=name, state=state, settled=settled, changed_ns=number),
    st.integers(-60, 2),
    names,
    st.sampled_from(ExpectedState),
    st.booleans(),
)
alerts = st.builds(
    lambda number, seen, resolved, acknowledged: alert(
        number,
        fingerprint=alert(number // 2).fingerprint,
        seen_ns=NOW + seen,
        resolved_ns=resolved,
        acknowledged_ns=acknowledged,
        acknowledged_by=None if acknowledged is None else "ann",
    ),
    few,
    few,
    later,
    later,
)
deliveries = st.builds(
    lambda number, about, state, due: delivery(
        number, alerts=(alert(about).id,), state=state, due_ns=NOW + due * SECOND, created_ns=NOW - about * DAY
    ),
    few,
    few,
    st.sampled_from(DeliveryState),
    few,
)
outcomes = st.builds(
    Outcome,
    expected=st.lists(runs, max_size=3),
    alerts=st.lists(alerts, max_size=3),
    deliveries=st.lists(deliveries, max_size=2),
    watched=st.dictionaries(names, st.integers(NOW, NOW + DAY), max_size=2),
    notes=st.dictionaries(st.sampled_from("ab"), st.none() | st.sampled_from("xy"), max_size=2),
)
Act = Callable[[Watch], Awaitable[Any]]


def calls(method: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(method), st.tuples(*arguments))


acts = st.one_of(
    calls("tick", outcomes),
    calls("tick", outcomes),
    calls("save", expectations),
    calls("declare", st.lists(expectations, max_size=2)),
    calls("forget", names),
    calls("acknowledge", few.map(lambda number: alert(number).id), st.sampled_from(["ann", "bob"])),
    calls("silence", st.builds(lambda until: silence(until_ns=NOW + until * SECOND), st.integers(0, 200))),
    calls("unsilence", st.sampled_from(["s1", "s2"])),
    calls("claim_deliveries", few),
    calls(
        "settle_delivery",
        st.sampled_from(["d1", "d2"]),
        st.integers(0, 2),
        st.sampled_from(DeliveryState),
        st.just("said"),
        st.just(30.0),
    ),
    calls("prune", st.sampled_from([NOW - 2 * DAY, NOW + HOUR]), st.sampled_from([None, NOW - DAY, NOW + HOUR])),
    calls("wait", st.sampled_from([SECOND, 61 * SECOND])),
)


async def act(engine: Engine, method: str, arguments: tuple[Any, ...]) -> Any:
    """What it answers, or which error it gives."""
    if method == "wait":
        engine.clock.now_ns += arguments[0]
        return None
    try:
        if method != "tick":
            return await getattr(engine.watch, method)(*arguments)
        async with engine.watch.lead() as lead:
            await lead.expectations()
            return await lead.store(*arguments)
    except StorageError as error:
        return type(error)


async def kept(engine: Engine) -> list[Any]:
    """Everything that can be asked."""
    watch = engine.watch
    async with watch.lead() as lead:
        led = [await lead.expectations(), await lead.unsettled(), await lead.open_alerts(), await lead.deliveries(NOW)]
        led += [await lead.silences(), await lead.deliveries(0), await lead.notes(), lead.now_ns]
    pages = [(await watch.alerts(AlertQuery())).items, (await watch.expected_runs(ExpectedQuery())).items]
    of_alerts = [await watch.alert_deliveries(alert(number).id) for number in range(1, 4)]
    return [*led, *pages, *of_alerts, await watch.expectations(), await watch.silences()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(acts, max_size=12))
async def test_memory_and_postgresql_keep_the_same(store: Engine, story: list[tuple[str, tuple[Any, ...]]]):
    await store.pool.execute("; ".join(f"DELETE FROM wafer_data.{table}" for table in TABLES))
    memory = in_memory()
    store.clock.now_ns = memory.clock.now_ns
    tokens = [(await engine.watch.alert_changes(None)).token for engine in (store, memory)]
    for method, arguments in story:
        assert await act(store, method, arguments) == await act(memory, method, arguments), method
        assert await kept(store) == await kept(memory), method
        changes = [await engine.watch.alert_changes(token) for engine, token in zip((store, memory), tokens, strict=True)]
        tokens = [one.token for one in changes]
        told = [sorted(one.alerts, key=lambda alert: alert.id) for one in changes]
        assert told[0] == told[1], method
