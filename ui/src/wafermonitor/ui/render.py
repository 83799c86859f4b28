"""Pages as HTML: the templates of `theme/` with the filters they use.

In: a template's name and its values. Out: HTML text, everything from outside escaped. Called by: pages, session, app.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from wafermonitor.query.models import RunModel, SpanModel
from wafermonitor.ui import clock
from wafermonitor.ui.address import Job, Run, url
from wafermonitor.ui.states import LOOKS, Look, look, look_of_expected

_LONGEST_VALUE = 2_000
_INSTANT = re.compile(r"(\b\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)|\ \d\d:\d\d:\d\d\ UTC))")


def render(template: str, **values: Any) -> str:
    """The HTML of `theme/<template>`."""
    return _environment().get_template(template).render(**values)


def source(template: str) -> str:
    """The text of `theme/<template>`, unrendered."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, template)[0]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wafermonitor.ui", "theme"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "duration": clock.duration,
        "held": lambda alert: clock.seconds_between(alert.since, alert.resolved),
        "ms": _milliseconds,
        "number": clock.number,
        "plain": plain,
        "plural": plural,
        "size": clock.file_size,
        "timed": timed,
        "utc": clock.utc_words,
        "urlencode": lambda text: quote(text, safe=""),
    }
    environment.globals |= {
        "ends_words": ends,
        "job_url": job_url,
        "look_named": LOOKS.__getitem__,
        "look_of": look,
        "look_of_expected": look_of_expected,
        "look_of_span": look_of_span,
        "run_url": lambda run: url(Run(run=run.run)),
        "span_url": lambda span: url(Run(run=f"{span.trace_id}-{span.span_id}")),
        "url": url,
    }
    return environment


def ends(run: RunModel) -> str:
    """When it should be over, in a few words: `≈ 3m 10s left`, `of 10m 00s`, `12m 04s over`; empty where nothing says so."""
    expected_s = run.expected_duration_s
    if run.state == "ended":
        return f"{clock.duration(expected_s)} expected" if expected_s else ""
    if run.overdue and expected_s and run.duration_s and run.duration_s > expected_s:
        return f"{clock.duration(run.duration_s - expected_s)} over"
    if run.overdue:
        return "past its deadline"
    if run.state == "running" and run.progress and run.eta is None:  # the pace tells where nobody knows better
        at_progress_s = clock.seconds_between(run.start, run.progress.at)
        left_s = clock.remaining_s(at_progress_s, run.progress.ratio)
        if left_s is not None and at_progress_s is not None and run.duration_s is not None:
            return f"≈ {clock.duration(max(left_s - (run.duration_s - at_progress_s), 0))} left"
    return f"of {clock.duration(expected_s)}" if expected_s else ""


def job_url(one: Any) -> str:
    """The page of a run's, an alert's or an expected run's job over time; empty where it has none."""
    return url(Job(site=one.site or "", job=one.job)) if one.job else ""


def look_of_span(span: SpanModel) -> Look:
    """A root span as the table of plain traces shows it."""
    return LOOKS["span-error"] if span.status == "error" else LOOKS["span"]


def plural(word: str, count: float) -> str:
    """`die` → `dies` unless there is exactly one."""
    return word if count == 1 else word if word.endswith("s") else f"{word}s"


def plain(value: Any) -> str:
    """An attribute's value on one line, cut at 2,000 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} … ({len(text):,} characters)"


def timed(text: str) -> Markup:
    """The text with its times of UTC as elements that the page moves to the viewer's zone; everything else escaped."""
    parts = _INSTANT.split(text)
    return Markup("").join(_time(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def _time(words: str) -> Markup:
    instant = words.replace(" UTC", "Z").replace(" ", "T")
    try:
        return Markup('<time data-as="clock" data-ms="{}" datetime="{}">{}</time>').format(
            _milliseconds(instant), instant, words
        )
    except ValueError:
        return escape(words)  # the 31st of February


def _milliseconds(instant: str | None) -> str:
    found = clock.epoch_ms(instant)
    return "" if found is None else f"{found:.3f}".rstrip("0").rstrip(".")
