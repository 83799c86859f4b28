"""The matrix of backends is whole and honest: what a row points at is there, and a row that is not run here says so."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

from tests.docs.test_requirements import ROOT, generate
from tests.servers.collector import lacking
from wafermonitor.storage.writers import loading

BACKENDS = generate.backends()
ROWS = [(name, way, one[way]) for name, one in BACKENDS.items() for way in generate.WAYS if way in one]
KEYS = {"signals", "promise", "twice", "lost"}
ASIDE = {"failover", "routing"}
"""Files that choose among backends and are none."""


def ids(value):
    return value if isinstance(value, str) else ""


def test_there_are_as_many_as_were_asked_for():
    assert len(BACKENDS) >= 16
    assert sum(bool(generate.proven(one)) for one in BACKENDS.values()) >= 12


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_says_what_it_is_and_has_a_way(name):
    one = BACKENDS[name]
    assert {"title", "server"} <= set(one) <= {"title", "server", "stand_in", *generate.WAYS}
    assert set(one) & set(generate.WAYS)


@pytest.mark.parametrize(("name", "way", "row"), ROWS, ids=ids)
def test_a_row_names_a_test_that_is_there(name, way, row):
    assert KEYS <= set(row) <= KEYS | {"linted", "fetched", "fragment", "test"}
    if row.get("linted") and "test" not in row:
        return
    path, _, test = row["test"].partition("::")
    assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), row["test"]


@pytest.mark.parametrize(("name", "way", "row"), ROWS, ids=ids)
def test_what_a_way_is_made_of_is_there(name, way, row):
    for fragment in generate.fragments(name, way, row):
        assert (ROOT / fragment).is_file(), fragment
    if way == "exporter":
        lacks = any(lacking(str(ROOT / fragment), "full") for fragment in generate.fragments(name, way, row))
        assert bool(row.get("linted")) == (lacks or "test" not in row), "`linted` is said of what cannot be run here"
        return
    writer = loading.find(name)
    assert set(row["signals"]) <= writer.signals
    if way == "bridge":
        assert str(writer.port) in (ROOT / generate.FRAGMENTS / f"bridge-{name}.yaml").read_text(encoding="utf-8")


def test_every_file_of_the_collector_and_every_writer_has_its_row():
    named = {path for name, way, row in ROWS for path in generate.fragments(name, way, row)}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / generate.FRAGMENTS).glob("*.yaml") if path.stem not in ASIDE}
    assert files <= named
    ours = {entry.name for entry in metadata.entry_points(group=loading.GROUP) if entry.value.startswith("wafermonitor.")}
    for name in ours:
        assert {"bridge", "direct"} <= set(BACKENDS[name]), name


def test_no_two_bridges_listen_on_one_port():
    ports = [loading.find(name).port for name in loading.names()]
    assert len(ports) == len(set(ports))
