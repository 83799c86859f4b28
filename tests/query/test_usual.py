"""What is usual for a job is answered over time, and is what judges go by."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest

from tests.query import world
from tests.query.test_ends import past
from wafermonitor.query.client import AsyncClient
from wafermonitor.runs.bands import LEAST_RUNS, profile
from wafermonitor.runs.records import Batch

ASKED = {"site": "fab1", "job": "lot_yield"}


async def test_little_history_says_nothing_is_usual(api):
    answer = (await api.get("/v1/usual", params={"site": "nowhere", "job": "none"})).json()
    assert (answer["runs"], answer["mid_s"], answer["bands"], answer["shift"]) == (0, None, [], None)


async def test_bands_are_those_that_judges_go_by_evenly_over_the_time_asked_for(running, storage):
    runs = [past(number, 600.0 + 10 * (number % 5)) for number in range(4 * LEAST_RUNS)]
    await storage.writer.write([Batch(runs=runs)])
    client = AsyncClient(running.url)
    answer = await client.usual(**ASKED, from_="-10d")
    await client.close()
    ((history),) = await storage.reader.history([("fab1", "lot_yield")], 500)
    judged = profile(history, world.NOW)
    assert answer.runs == judged.runs >= 4 * LEAST_RUNS
    starts = [datetime.fromisoformat(band.start).timestamp() for band in answer.bands]
    steps = {round(after - before) for before, after in pairwise(starts)}
    assert steps == {10 * 86_400 // 120}
    assert len(starts) == 120
    band = judged.band(round(starts[7] * world.SECOND))
    assert answer.bands[7].high_s == pytest.approx(band.high_s, rel=1e-6)
    assert answer.bands[7].low_s < 600 < answer.bands[7].high_s < 1_200


async def test_a_time_that_ends_before_it_begins_holds_no_bands(api):
    answer = await api.get("/v1/usual", params=ASKED | {"from": "now", "to": "-1h"})
    assert (answer.status_code, answer.json()["bands"]) == (200, [])


@pytest.mark.parametrize("wrong", [{"site": "fab1"}, {**ASKED, "from": "x"}, {**ASKED, "q": "1"}])
async def test_a_wrong_question_names_the_parameter(api, wrong):
    answer = await api.get("/v1/usual", params=wrong)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"
