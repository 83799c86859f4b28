"""Generated runs: any mixture of announcements, signs of life and ends of one run."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from wafermonitor.runs.lifecycle import RESULTS
from wafermonitor.runs.merge import DESCRIPTIVE, final_fields
from wafermonitor.runs.records import Feed, Progress, Run
from wafermonitor.runs.state import Limits

SITE, TRACE_ID, SPAN_ID = "f1", bytes(range(16)), bytes(range(8))
T0 = 1_790_000_000_000_000_000  # 2026-09-21, ns
times = st.integers(T0, T0 + 3_000_000_000_000)
words = st.text('abcÄé漢 _-"\\', min_size=1, max_size=6)
seconds = st.floats(0.001, 1e6, allow_nan=False).map(lambda value: round(value, 3))
span_ids = st.binary(min_size=8, max_size=8)
word_lists = st.lists(words, min_size=1, max_size=3).map(tuple)
VALUES = {
    "parent_span_id": span_ids,
    "attempt": st.integers(1, 9),
    "nominal_time_ns": times,
    "expected_duration_s": seconds,
    "deadline_ns": times,
    "lot_ids": word_lists,
    "substrate_ids": word_lists,
    "process_key": st.binary(min_size=16, max_size=16),
    "attributes": st.dictionaries(words, words, max_size=2).map(lambda pairs: json.dumps(pairs, sort_keys=True)),
}
progresses = st.builds(
    Progress,
    at_ns=times,
    ratio=st.none() | st.floats(0, 1),
    completed=st.none() | st.integers(0, 99).map(float),
    total=st.none() | st.integers(1, 99).map(float),
    unit=st.none() | words,
    stage=st.none() | words,
    message=st.none() | words,
)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """One record about the run (SITE, TRACE_ID, SPAN_ID): an event with few fields, or a final span."""
    described = {name: draw(st.none() | VALUES.get(name, words)) for name in DESCRIPTIVE}
    end_rank = draw(st.sampled_from([0, 0, 0, 1, 2]))
    run = Run(
        site=SITE,
        trace_id=TRACE_ID,
        span_id=SPAN_ID,
        start_ns=draw(times) if end_rank == 2 else draw(st.none() | times),
        end_rank=end_rank,
        end_ns=draw(times) if end_rank else None,
        result=draw(st.sampled_from(RESULTS)) if end_rank else None,
        error_type=draw(st.none() | words) if end_rank else None,
        heartbeat_interval_s=draw(st.none() | seconds),
        last_sign_ns=draw(times),
        progress=draw(st.none() | progresses),
        cpu_s=draw(st.none() | seconds),
        memory_bytes=draw(st.none() | st.integers(0, 2**40)),
        received_ns=draw(times),
        **described,
    )
    if end_rank < 2:
        return run
    return Run(**{name: getattr(run, name) for name in Run.__slots__} | {"final_fields": final_fields(run)})


feeds = st.none() | st.builds(
    Feed,
    site=st.just(SITE),
    feed=st.just("host-1"),
    watermark_ns=st.none() | times,
    received_ns=st.none() | times,
    skew_ns=st.integers(-10_000_000_000, 10_000_000_000),
)
limits = st.builds(
    Limits,
    margin_s=st.integers(0, 30).map(float),
    behind_s=st.integers(0, 60).map(float),
    loss_floor_s=st.integers(0, 600).map(float),
    close_after_s=st.integers(0, 2000).map(float),
    dark_s=st.integers(0, 2000).map(float),
)
