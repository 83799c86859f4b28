"""Channels and routes as people write them: every mistake is named with its place, all of them at once."""

from __future__ import annotations

import re
from datetime import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from wafermonitor.alerting.declared import load
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.notify import Channel, Quiet, Route, Routes, Step, read_routes
from wafermonitor.alerting.notify.reading import CHANNEL_FIELDS, ROUTE_FIELDS
from wafermonitor.alerting.notify.routes import Engine
from wafermonitor.alerting.rules import Where
from wafermonitor.alerting.schema import schema
from wafermonitor.runs.alerts import Severity


def place(path) -> str:
    return "alerts.yaml:" + ".".join(map(str, path))


def read(text: str) -> Routes:
    return read_routes(yaml.safe_load(text), place)


def mistakes(text: str) -> list[str]:
    with pytest.raises(AlertingRejected) as refused:
        read(text)
    return str(refused.value).splitlines()


CHANNELS = "channels: {mail: {url: 'mailto://relay?to=it@fab.example'}, pager: {url: '${env:PAGER}'}}\n"


def test_what_may_be_left_out_has_its_default():
    assert read(CHANNELS + "routes: [{channels: [mail]}]") == Routes(
        {"mail": Channel("mail", "mailto://relay?to=it@fab.example"), "pager": Channel("pager", "${env:PAGER}")},
        (Route("route-1", ("mail",)),),
    )
    assert read("{}") == read("{channels: , routes: }") == Routes()


def test_everything_may_be_said():
    found = read("""
channels:
  mail: {url: "mailto://relay", resolved: false, timeout: 5s, title: "$summary", body: "$text", zone: Europe/Berlin}
  hook: {url: "https://hooks.fab.example/w", engine: webhook, headers: {Authorization: "Bearer ${env:TOKEN}", X-Fab: F1}}
routes:
  - name: night
    where: {site: F1, job: [etl, "load*"], owner: ida}
    rules: "mis*"
    severity: warning
    channels: mail
    group_by: [job, owner]
    wait: 10s
    pause: 2m
    cooldown: 1h
    escalate: [{after: 15m, channels: [hook]}, {after: 30m, channels: [hook, mail]}]
    quiet: [{start: "22:00", end: "06:00", zone: Europe/Berlin, days: [mon, fri]}]
    quiet_unless: warning
    goes_on: true
""")
    headers = {"Authorization": "Bearer ${env:TOKEN}", "X-Fab": "F1"}
    assert found.channels["mail"] == Channel(
        "mail", "mailto://relay", Engine.APPRISE, False, 5.0, {}, "$summary", "$text", "Europe/Berlin"
    )
    assert found.channels["hook"] == Channel("hook", "https://hooks.fab.example/w", Engine.WEBHOOK, headers=headers)
    assert found.routes == (
        Route(
            "night",
            ("mail",),
            Where(("F1",), ("etl", "load*"), ("ida",)),
            ("mis*",),
            Severity.WARNING,
            ("job", "owner"),
            10.0,
            120.0,
            3600.0,
            (Step(900.0, ("hook",)), Step(1800.0, ("hook", "mail"))),
            (Quiet(time(22), time(6), "Europe/Berlin", frozenset({0, 4})),),
            Severity.WARNING,
            goes_on=True,
        ),
    )
    assert found.memory_s == 3600


def test_a_time_of_day_without_quotes_is_what_yaml_makes_of_it():
    found = read(CHANNELS + "routes: [{channels: mail, quiet: [{start: 22:30, end: 06:00}]}]")
    assert found.routes[0].quiet == (Quiet(time(22, 30), time(6)),)


def test_every_mistake_is_named_with_its_place():
    found = mistakes("""
channels:
  "a b": {url: "${env:X}"}
  literal: {url: "slack://T/B/C"}
  none: {engine: fax}
  hook: {url: "https://h/x", engine: webhook, headers: {Authorization: Bearer x}, colour: red, timeout: 0, title: "$x"}
routes:
  - {channels: [pager], severity: loud, wait: 30, group_by: [moon], goes_on: 1, quiet_unless: [], name: "a b"}
  - {where: {planet: mars}, quiet: [{start: dawn, end: "25:00", zone: Fab/One, days: [someday]}]}
  - {channels: [hook], escalate: [{channels: [hook]}, {after: 0, channels: [hook]}], name: r}
  - {channels: [hook], name: r}
  - nonsense
""")
    places = [line.partition(": ")[0].removeprefix("alerts.yaml:") for line in found]
    assert places == [
        "channels.a b", "channels.literal.url", "channels.none.engine", "channels.none",
        "channels.hook.colour", "channels.hook.timeout", "channels.hook.headers.Authorization", "channels.hook.title",
        "routes.0.name", "routes.0.channels", "routes.0.severity", "routes.0.group_by",
        "routes.0.wait", "routes.0.quiet_unless", "routes.0.goes_on",
        "routes.1", "routes.1.where.planet", "routes.1.quiet.0.start", "routes.1.quiet.0.end",
        "routes.1.quiet.0.zone", "routes.1.quiet.0.days",
        "routes.2.escalate.0", "routes.2.escalate", "routes.3.name", "routes.4",
    ]  # fmt: skip
    assert any("'pager' is no channel; there are a b, hook, literal, none" in line for line in found)


@pytest.mark.parametrize(
    "text",
    [
        "channels: {mail: 'slack://T0KEN'}",
        "channels: [slack://T0KEN]",
        "channels: {mail: {url: [slack://T0KEN], title: {x: T0KEN}}}",
    ],
)
def test_an_address_in_the_wrong_place_is_not_repeated(text):
    assert "T0KEN" not in "".join(mistakes(text))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "channels", "url", "where", "quiet"]), inner)
    ),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_whatever_stands_there_is_read_or_refused(channels, routes):
    try:
        found = read_routes({"channels": channels, "routes": routes}, place)
    except AlertingRejected as error:
        refused = str(error)
    else:
        refused = ""
        assert isinstance(found, Routes)
    assert all(line.startswith("alerts.yaml:") for line in refused.splitlines())


def test_the_page_about_notifications_can_be_followed_and_names_every_field(repository, tmp_path):
    page = (repository / "docs" / "notifications.md").read_text(encoding="utf-8")
    example, *more = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert all(Draft202012Validator(schema()).is_valid(yaml.safe_load(one)) for one in more)
    file = tmp_path / "alerts.yaml"
    file.write_text(example, encoding="utf-8")
    assert Draft202012Validator(schema()).is_valid(yaml.safe_load(example))
    found = load(file).routes
    assert list(found.channels) == ["mail", "on-call", "tickets", "alertmanager"]
    assert [route.name for route in found.routes] == ["everything-to-alertmanager", "litho", "rest"]
    tables = re.findall(r"^\| field \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    named = [
        {name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
        for table in tables
    ]
    assert named == [CHANNEL_FIELDS, ROUTE_FIELDS]


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("channels", {"mail": {"url": "x", "timeout": "soon"}}),
        ("channels", {"mail": {}}),
        ("channels", {"mail": {"url": "${env:X}", "engine": "fax"}}),
        ("channels", {"mail": {"url": "${env:X}", "colour": "red"}}),
        ("channels", {"a b": {"url": "${env:X}"}}),
        ("routes", [{"channels": "mail", "severity": "loud"}]),
        ("routes", [{"channels": "mail", "group_by": ["moon"]}]),
        ("routes", [{"channels": "mail", "quiet": [{"start": "22:00"}]}]),
        ("routes", [{"channels": "mail", "escalate": [{"channels": "mail"}]}]),
        ("routes", [{"name": "nobody"}]),
    ],
)
def test_the_schema_for_editors_refuses_what_the_reader_refuses(section, value):
    node = {"channels": {"mail": {"url": "${env:X}"}}} | {section: value}
    assert not Draft202012Validator(schema()).is_valid(node)
    with pytest.raises(AlertingRejected):
        read_routes(node, place)
