"""Generated pages are what a fresh generation gives, on any machine and for any user."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import pytest

from tests.docs.pages import pages
from tests.docs.test_requirements import ROOT, generate

VARIABLE = re.compile(r"\bWAFER_[A-Z][A-Z_]*[A-Z]\b")


@pytest.mark.parametrize("page", sorted(generate.pages()), ids=lambda page: page.name)
def test_the_page_is_what_a_fresh_generation_gives(page):
    assert page.read_text(encoding="utf-8") == generate.pages()[page], "run: make generate"


@pytest.mark.parametrize("user", [0, 1000])
def test_no_setting_of_this_machine_is_on_the_page(user, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("WAFER_", "XDG_", "OTEL_"))]:
        monkeypatch.delenv(name)
    elsewhere = platform.uname()._replace(node="elsewhere")
    monkeypatch.setattr(platform, "uname", lambda: elsewhere)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WAFER_SITE_ID", "fab-somewhere")
    monkeypatch.setenv("WAFER_STORAGE_DSN", "postgresql://reader:hidden@elsewhere/db")
    monkeypatch.chdir(tmp_path)
    assert Path.home() == tmp_path
    assert platform.node() == "elsewhere"
    assert generate.configuration_page() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_option_says_what_it_means():
    for component, options in generate.configurations():
        for option in options:
            assert option.doc, f"{component}.{option.name}"


def test_only_defaults_that_exist_are_said_in_words():
    known = {(component, option.name) for component, options in generate.configurations() for option in options}
    assert set(generate.COMPUTED) <= known


def test_every_variable_that_a_page_names_is_read_somewhere():
    known = {
        name for _, options in generate.configurations() for option in options for name in (option.environment, *option.aliases)
    }
    sources = (path for kind in ("*/src/**/*.py", "*/src/**/*.yaml", "benchmarks/*.py") for path in ROOT.glob(kind))
    known |= {name for path in sources for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    for page in pages():
        unknown = set(VARIABLE.findall(page.read_text(encoding="utf-8"))) - known
        assert not unknown, f"{page.relative_to(ROOT)} names {sorted(unknown)}"
