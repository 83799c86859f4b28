"""What a site declares: read with its lines, refused with file, line and what is expected."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml

from wafermonitor.alerting.calendars import stretch
from wafermonitor.alerting.declared import STANDARD, declare, file_name, load
from wafermonitor.alerting.documents import parse
from wafermonitor.alerting.documents import read as read_file
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.expecting import After, loads
from wafermonitor.alerting.judges import KINDS
from wafermonitor.alerting.rules import Where
from wafermonitor.alerting.schedule import Cron, Every
from wafermonitor.runs.alerts import Origin, Severity

FAB = """\
version: 1
calendars:
  plant:
    zone: Europe/Berlin
    off: [sat, sun]
    country: DE
    subdivision: BY
    dates: [2026-12-24, 2026-12-31]
    closed:
      - {from: 2026-12-22, to: 2026-12-23T02:00, why: power}
expectations:
  nightly-yield:
    job: lot_yield
    site: fab1
    cron: "0 2 * * *"
    zone: Europe/Berlin
    calendar: plant
    start_margin: 10m
    grace: 1h30m
    max_duration: 2h
    min_duration: 1m
    silence: 10m
    owner: yield-team
    runbook: https://wiki.fab.example/yield
  sweep:
    job: sweep
    every: 15m
  transfer:
    job: transfer
    after: {job: lot_yield, within: 2h, on: start, same_lot: false}
rules:
  memory:
    severity: critical
    limits: {over: 16GB}
  memory-etch:
    kind: memory
    limits: {over: 4GiB}
    where: {job: "etch_*", site: [fab1, fab2]}
  new-error: {enabled: false}
channels:
  mail: {url: "mailto://localhost?to=fab@fab.example", timeout: 5s}
routes:
  - {name: all, channels: [mail], wait: 1m, escalate: [{after: 30m, channels: [mail]}]}
"""


def read(text: str, name: str = "fab.yaml"):
    return declare([read_file(STANDARD), parse(text, name)], 2026)


def refused(text: str, name: str = "fab.yaml") -> list[str]:
    with pytest.raises(AlertingRejected) as error:
        read(text, name)
    return str(error.value).splitlines()


def test_every_kind_of_rule_has_a_standard_rule_with_its_defaults():
    standard = load(None, 2026)
    assert {rule.kind for rule in standard.rules} == set(KINDS)
    for rule in standard.rules:
        defaults = {limit.name: limit.default for limit in KINDS[rule.kind].limits}
        assert {name: defaults[name] for name in rule.limits} == dict(rule.limits), rule.name
    assert standard.expectations == ()


def test_names_of_limits_in_files_are_one_for_each_limit():
    for kind in KINDS.values():
        names = [file_name(limit) for limit in kind.limits]
        assert len(names) == len(set(names)), kind.name


def test_a_file_says_what_is_expected():
    fab = read(FAB)
    nightly, sweep, transfer = fab.expectations
    assert (nightly.name, nightly.site, nightly.job, nightly.origin) == ("nightly-yield", "fab1", "lot_yield", Origin.DECLARED)
    wish = loads(nightly.spec)
    assert wish.schedule == Cron("0 2 * * *", "Europe/Berlin")
    assert (wish.start_margin_s, wish.grace_s, wish.max_duration_s, wish.min_duration_s, wish.silence_s) == (
        600, 5400, 7200, 60, 600,
    )  # fmt: skip
    assert (wish.owner, wish.runbook) == ("yield-team", "https://wiki.fab.example/yield")
    assert wish.calendar == fab.calendars["plant"]
    assert sweep.site is None
    assert loads(sweep.spec).schedule == Every(900)
    assert loads(transfer.spec).schedule == After("lot_yield", 7200, same_lot=False, on="start")


def test_a_period_without_a_beginning_is_met_anywhere_within_it():
    assert (loads(read(FAB).expectations[1].spec).early_s, loads(read(FAB).expectations[1].spec).start_margin_s) == (0, 900)
    fixed = read("expectations: {a: {job: j, every: 15m, since: 2026-01-01T00:07:00+01:00}}").expectations[0]
    wish = loads(fixed.spec)
    assert wish.schedule == Every(900, 1_767_222_420_000_000_000)
    assert (wish.early_s, wish.start_margin_s) == (60, 300)


def test_a_calendar_has_weekends_public_holidays_own_days_and_maintenance():
    plant = read(FAB).calendars["plant"]
    assert plant.zone == "Europe/Berlin"
    assert plant.weekdays == {5, 6}
    assert {date(2026, 12, 24), date(2026, 12, 25), date(2026, 11, 1), date(2027, 1, 6)} <= plant.holidays
    assert plant.closed == (stretch("2026-12-22", "2026-12-23T02:00", "power"),)


def test_norway_is_a_country_and_not_false():
    norway = read("calendars: {oslo: {country: NO}}").calendars["oslo"]
    assert date(2026, 5, 17) in norway.holidays


def test_a_files_rules_override_the_standard_ones_by_name_field_by_field(tmp_path: Path):
    file = tmp_path / "fab.yaml"
    file.write_text(FAB)
    rules = {rule.name: rule for rule in load(file, 2026).rules}
    assert rules["memory"].severity is Severity.CRITICAL
    assert rules["memory"].limits == {"over_bytes": 16e9}
    assert rules["memory-etch"].limits == {"over_bytes": 4 * 2**30}
    assert rules["memory-etch"].where == Where(site=("fab1", "fab2"), job=("etch_*",))
    assert "new-error" not in rules
    assert rules["failure-rate"].limits["ratio"] == 0.1
    assert rules["failure-rate"].every_s == 60


def test_channels_and_routes_have_durations_with_units():
    routes = read(FAB).routes
    assert routes.channels["mail"].timeout_s == 5
    assert routes.routes[0].wait_s == 60
    assert routes.routes[0].steps[0].after_s == 1800


def test_a_folder_is_read_as_one(tmp_path: Path):
    (tmp_path / "1-jobs.yaml").write_text("expectations: {a: {job: j, cron: '0 2 * * *', calendar: plant}}")
    (tmp_path / "2-plant.toml").write_text('[calendars.plant]\noff = ["sun"]\n')
    (tmp_path / "notes.txt").write_text("not for us")
    declared = load(tmp_path, 2026)
    assert loads(declared.expectations[0].spec).calendar.weekdays == {6}
    (tmp_path / "3.yaml").write_text("\nexpectations:\n  a: {job: k, every: 1h}\n")
    with pytest.raises(
        AlertingRejected, match=r"3.yaml:3: expectations.a: is declared twice, expected another name: .*jobs.yaml:1"
    ):
        load(tmp_path, 2026)


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path: Path):
    with pytest.raises(AlertingRejected, match=r"expected \.yaml or \.toml files"):
        load(tmp_path, 2026)
    with pytest.raises(AlertingRejected, match=r"none.yaml: cannot be read .*expected"):
        load(tmp_path / "none.yaml", 2026)


def test_wafer_toml_may_hold_declarations_beside_the_tables_of_services():
    text = '[storage]\nhot_days = 3\n[alerting]\ntick_s = 5\n[expectations.nightly]\njob = "lot_yield"\ncron = "0 2 * * *"\n'
    assert read(text, "wafer.toml").expectations[0].job == "lot_yield"
    assert refused(text.replace("job =", "jbo ="), "wafer.toml")[0] == (
        "wafer.toml:6: expectations.nightly: unknown field 'jbo', expected 'job'"
    )


MISTAKES = [
    ("expectation: {}", "1: unknown field 'expectation', expected 'expectations'"),
    ("version: 2", "1: version: 2, expected 1, the version that this release reads"),
    ("rules:\n  memory:\n    limit: {over: 1GB}", "3: rules.memory: unknown field 'limit', expected 'limits'"),
    ("rules:\n  m:\n    severity: info", "2: rules.m: has no kind, expected `kind`: one of late, missed"),
    ("rules:\n  m: {kind: memroy}", "2: rules.m.kind: 'memroy', expected 'memory'"),
    ("rules:\n  m: {kind: memory, severity: bad}", "2: rules.m.severity: 'bad', expected one of info, warning, critical"),
    (
        "rules:\n  m:\n    kind: memory\n    limits: {over: 8}",
        "4: rules.m.limits.over: 8: expected a size such as 500MB or 8GB",
    ),
    (
        "rules:\n  m: {kind: memory, limits: {over: 8Gb}}",
        "2: rules.m.limits.over: '8Gb': 'Gb' is no unit here; expected a size",
    ),
    (
        "rules:\n  m: {kind: running_long, limits: {over: 8GB}}",
        "2: rules.m.limits.over: '8GB': 'GB' is no unit here; expected a duration",
    ),
    ("rules:\n  m: {kind: running_long, limits: {over: 90}}", "2: rules.m.limits.over: 90: expected a duration such as 30s"),
    (
        "rules:\n  m: {kind: failure_rate, limits: {ratio: much}}",
        "2: rules.m.limits.ratio: 'much': expected a share such as 0.1",
    ),
    ("rules:\n  m: {kind: memory, limits: {ovr: 8GB}}", "2: rules.m.limits: unknown field 'ovr', expected 'over'"),
    ("rules:\n  m: {kind: overdue, hold: 1m}", "2: rules.m.hold: overdue speaks of runs as they end, expected none"),
    ("rules:\n  m: {kind: lost, enabled: yes}", "2: rules.m.enabled: 'yes', expected true or false"),
    ("rules:\n  m: {kind: lost, where: {tool: x}}", "2: rules.m.where: unknown field 'tool', expected one of job, owner, site"),
    ("rules:\n  m: {kind: lost, where: {job: [3]}}", "2: rules.m.where.job.0: 3, expected a text"),
    (
        'expectations:\n  a:\n    job: j\n    every: 1h\n    owner: "an\\0n"',
        "5: expectations.a.owner: 'an\\x00n', expected text that is Unicode, without NUL",
    ),
    (
        'rules:\n  m:\n    kind: lost\n    runbook: "a\\0"',
        "4: rules.m.runbook: 'a\\x00', expected text that is Unicode, without NUL",
    ),
    ('rules:\n  m: {kind: lost, where: {job: [ok, "\\0"]}}', "2: rules.m.where.job.1: '\\x00', expected text that is Unicode"),
    ('rules:\n  m: {kind: lost, where: {job: "\\0"}}', "2: rules.m.where.job: '\\x00', expected text that is Unicode"),
    ("rules: [lost]", "1: rules: ['lost'], expected names with values"),
    ("rules:\n  m: {kind: lost}\n  m: {kind: late}", "3: a second 'm', expected one: the first is on line 2"),
    ("expectations:\n  a: {cron: '0 2 * * *'}", "2: expectations.a: has no job, expected `job`"),
    ("expectations:\n  a: {job: j}", "2: expectations.a: has no schedule, expected one of cron, every, after"),
    ("expectations:\n  a: {job: j, every: 1h, cron: '0 2 * * *'}", "2: expectations.a: has cron and every, expected one of"),
    (
        "expectations:\n  a:\n    job: j\n    cron: '0 25 * * *'",
        "4: expectations.a.cron: cron '0 25 * * *': Bad hour; expected minute",
    ),
    (
        "expectations:\n  a: {job: j, cron: '0 0 30 2 *'}",
        "2: expectations.a.cron: cron '0 0 30 2 *': Bad day-of-month; expected minute",
    ),
    (
        "expectations:\n  a: {job: j, cron: '0 2 * * *', zone: Mars}",
        "2: expectations.a.zone: 'Mars' is no time zone: expected a name",
    ),
    ("expectations:\n  a: {job: j, every: 15}", "2: expectations.a.every: 15: expected a duration such as 30s"),
    (
        "expectations:\n  a: {job: j, every: 15min, since: monday}",
        "2: expectations.a.since: 'monday': expected a time with its offset",
    ),
    ("expectations:\n  a: {job: j, every: 10ms}", "2: expectations.a.every: a period of 0.01 s: expected one second or more"),
    (
        "expectations:\n  a: {job: j, every: 1h, calendar: plnt}",
        "2: expectations.a.calendar: 'plnt' is not declared, expected a calendar",
    ),
    ("expectations:\n  a: {job: j, after: {job: b}}", "2: expectations.a.after: has no time, expected `within`"),
    ("expectations:\n  a: {job: j, after: {within: 1h}}", "2: expectations.a.after: has no job, expected `job`"),
    (
        "expectations:\n  a: {job: j, after: {job: b, within: 1h, on: stop}}",
        "2: expectations.a.after.on: 'stop', expected one of start, end",
    ),
    (
        "expectations:\n  a: {job: j, every: 1h, max_duration: 1m, min_duration: 2m}",
        "2: expectations.a.min_duration: is above max_duration, expected less",
    ),
    ("expectations:\n  'a b': {job: j, every: 1h}", "2: expectations.a b: 'a b', expected a name of letters"),
    ("calendars:\n  p: {country: XQ}", "2: calendars.p.country: country 'XQ' has no known holidays"),
    (
        "calendars:\n  p: {country: DE, subdivision: XX}",
        "2: calendars.p.subdivision: subdivision 'XX' is no part of DE: expected one of BB",
    ),
    ("calendars:\n  p: {subdivision: BY}", "2: calendars.p.subdivision: stands alone, expected a country beside it"),
    ("calendars:\n  p: {off: [sat, fun]}", "2: calendars.p.off.1: 'fun' is no day of the week: expected mon, tue"),
    ("calendars:\n  p:\n    dates:\n      - 2026-02-30", "4: calendars.p.dates.0: '2026-02-30' is no day: expected a date"),
    (
        "calendars:\n  p:\n    closed:\n      - {from: 2026-02-02}",
        "4: calendars.p.closed.0: has no beginning or no end, expected `from`",
    ),
    (
        "calendars:\n  p: {closed: [{from: 2026-02-02, to: 2026-02-01}]}",
        "2: calendars.p.closed.0: from 2026-02-02 to 2026-02-01: expected an end",
    ),
    (
        "calendars:\n  p: {closed: [{from: 2026-02-02T06:00Z, to: 2026-02-03}]}",
        "2: calendars.p.closed.0: '2026-02-02T06:00Z' has an offset: expected",
    ),
    ("calendars:\n  p: {closed: {from: x}}", "2: calendars.p.closed: {'from': 'x'}, expected a list"),
    ("routes:\n  - {channels: [mail]}", "2: 'mail' is no channel; there are none"),
    ("channels:\n  mail: {timeout: 5}", "2: channel mail needs a url"),
    ("rules: {a: [", "1: "),
    ("just text", "1: expected names with values, such as `rules:`"),
    ("a: &a [*a]", "1: "),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES, ids=[text.replace("\n", " ")[:50] for text, _ in MISTAKES])
def test_a_mistake_is_told_with_its_line_and_what_is_expected(text: str, told: str):
    lines = refused(text)
    assert any(line.startswith(f"fab.yaml:{told}") for line in lines), lines


def test_all_mistakes_are_told_at_once_in_order():
    lines = refused("rules:\n  a: {kind: lst}\n  b:\n    kind: lost\n    hold: soon\nexpectations:\n  c: {job: 3, every: 1h}\n")
    assert [line.split(":")[1] for line in lines] == ["2", "5", "7", "7"]


def test_toml_tells_its_lines_too():
    text = (
        '[rules.memory]\nseverity = "loud"\n\n[[routes]]\nname = "a"\nchannels = ["mail"]\n\n[[routes]]\nchannels = ["chat"]\n'
    )
    assert [line.rpartition(": ")[0].split(":")[1] for line in refused(text, "fab.toml")] == ["2", "6", "9"]
    assert refused("rules = [", "fab.toml")[0].startswith("fab.toml:1: ")


def test_the_same_text_declares_the_same_expectations():
    assert read(FAB).expectations == read(FAB).expectations


def test_half_a_character_is_refused_with_its_line(monkeypatch):
    """libyaml refuses the escape itself; without it the value is what is refused."""
    text = 'expectations:\n  a:\n    job: j\n    every: 1h\n    runbook: "a\\ud800"\n'
    for loader in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        monkeypatch.setattr("wafermonitor.alerting.documents._LOADER", loader)
        with pytest.raises(AlertingRejected, match=r"^fab\.yaml:5: .*Unicode"):
            declare([parse(text, "fab.yaml")], 2026)
