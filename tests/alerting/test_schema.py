"""The JSON Schema knows what the reader knows of the shape of a file."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from tests.alerting.test_declared import FAB, MISTAKES
from wafermonitor.alerting.command import alerting
from wafermonitor.alerting.declared import STANDARD
from wafermonitor.alerting.documents import parse
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.schema import schema

ONLY_READ = (
    "limits: {ovr", "rules:\n  m:\n    severity", "cron: '0 25", "cron: '0 0 30", "zone: Mars", "since: monday",
    "every: 10ms", "calendar: plnt", "min_duration: 2m", "country: XQ", "subdivision: XX", "off: [sat", "2026-02-30",
    "to: 2026-02-01", "06:00Z", "channels: [mail]",
)  # fmt: skip
"""Mistakes that need more than the shape: what exists, what may follow what, what a standard rule's kind is."""


def valid(text: str) -> bool:
    return Draft202012Validator(schema()).is_valid(parse(text, "fab.yaml").data)


def test_it_is_a_schema():
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("text", [FAB, STANDARD.read_text(), "", "version: 1"], ids=["fab", "standard", "empty", "version"])
def test_what_the_reader_takes_is_valid(text):
    errors = [error.message for error in Draft202012Validator(schema()).iter_errors(parse(text, "fab.yaml").data)]
    assert errors == []


@pytest.mark.parametrize(("text", "told"), MISTAKES, ids=[text.replace("\n", " ")[:50] for text, _ in MISTAKES])
def test_what_the_reader_refuses_for_its_shape_is_not_valid(text, told):
    try:
        data = parse(text, "fab.yaml").data
    except AlertingRejected:
        return  # no mapping at all, which no schema is asked about
    if any(words in text for words in ONLY_READ):
        return
    assert not Draft202012Validator(schema()).is_valid(data), told


def test_the_command_prints_it():
    done = CliRunner().invoke(alerting, ["schema"])
    assert json.loads(done.stdout) == schema()
    assert yaml.safe_load(done.stdout)["$schema"].startswith("https://json-schema.org/")
