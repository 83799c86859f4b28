"""What the pages declare is what the reader takes, and what they promise of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wafermonitor.alerting.declared import STANDARD, declare
from wafermonitor.alerting.documents import parse, read
from wafermonitor.alerting.expecting import loads

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCKS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in (DOCS / "alerts.md", DOCS / "notifications.md")
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


@pytest.mark.parametrize("text", BLOCKS)
def test_a_pages_example_is_taken(text: str):
    assert declare([read(STANDARD), parse(text, "alerting.yaml")], 2026)


def test_the_example_says_what_its_comments_say():
    fab = declare([read(STANDARD), parse(BLOCKS[0].values[0], "alerting.yaml")], 2026)
    wishes = {one.name: loads(one.spec) for one in fab.expectations}
    nightly = wishes["nightly-yield"]
    assert (nightly.start_margin_s, nightly.grace_s, nightly.max_duration_s) == (600, 1200, 7200)
    assert wishes["spool-sweep"].start_margin_s == 900
    rules = {rule.name: rule for rule in fab.rules}
    assert rules["memory"].limits["over_bytes"] == 16e9
    assert "new-error" not in rules
