"""A real Zabbix gets every record, by the bridge and from a job itself, and shows how its jobs go."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.backends import alerts, corpus, proof
from tests.servers import collector, zabbix
from tests.servers.collector import until
from tests.servers.fixtures import running
from wafermonitor.collector import fragments
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers import items
from wafermonitor.storage.writers import zabbix as writers
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Signal

pytestmark = [
    pytest.mark.servers,
    pytest.mark.collector,
    pytest.mark.xdist_group("zabbix"),
    pytest.mark.timeout(300),
    # Apprise imports a module that Python 3.13 has no more, where it is still there.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

HOST = f"wafermonitor-{corpus.SITE}"
SAME = {
    "traces": ("trace_id", "span_id", "parent_span_id", "name", "kind", "end_ns", "status", "status_message"),
    "logs": ("trace_id", "span_id", "severity", "severity_text", "event_name", "body", "observed_ns"),
    "metrics": ("name", "unit", "type", "temporality", "monotonic", "start_ns", "value", "summary"),
}
EMPTY: Mapping[str, Any] = {"value": None, "summary": {}}
"""Of what is left out in a record, everything else is text."""


class Zabbix(proof.Backend):
    """One Zabbix, asked by its web API."""

    name: ClassVar[str] = "zabbix"

    def __init__(self, server: zabbix.Server) -> None:
        self.server = server

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_ZABBIX_SERVER": self.server.trapper,
            "WAFER_ZABBIX_API_URL": self.server.url,
            "WAFER_ZABBIX_API_TOKEN": self.server.token,
        }

    def item(self, key: str, host: str = HOST) -> dict[str, Any]:
        """What Zabbix knows of one item, now; empty when it has none."""
        found = self.server.api("item.get", {"filter": {"key_": key, "host": host}, "output": "extend"})
        return dict(found[0]) if found else {}

    def history(self, key: str, host: str = HOST) -> list[dict[str, str]]:
        """All values of one item."""
        item = self.item(key, host)
        question = {"itemids": [item["itemid"]], "history": item["value_type"], "output": "extend", "sortfield": "clock"}
        return list(self.server.api("history.get", question)) if item else []

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        for value in self.history(f"wafer.{signal}"):
            row = json.loads(value["value"])
            if corpus.KEY in row.get("attributes", {}):
                fields = {name: row.get(name, EMPTY.get(name, "")) for name in SAME[signal]}
                fields |= {name: row[name] for name in ("time_ns", "site", "service", "attributes")}
                yield proof.Kept(row["attributes"][corpus.KEY], fields)

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


@pytest.fixture(scope="module")
def server() -> Iterator[zabbix.Server]:
    yield from running(zabbix)


@pytest.fixture(scope="module")
def backend(server: zabbix.Server) -> Zabbix:
    """With host, template and jobs, made by the writer itself."""
    backend = Zabbix(server)
    writer = writers.Writer(writers.Config.load(backend.environment))
    part = corpus.part("first", 0)
    for signal in SIGNALS:
        until(lambda one=signal: writer.write(one, [part.requests[one]])[0].fate is Fate.ACCEPTED, f"Zabbix takes {signal}")
    return backend


@pytest.fixture
def writer(backend: Zabbix) -> writers.Writer:
    return writers.Writer(writers.Config.load(backend.environment))


@pytest.mark.parametrize("way", [way for way in proof.ways("zabbix") if way != "exporter"])
def test_nothing_is_lost_while_zabbix_is_away_and_nothing_is_there_twice(backend, way):
    proof.survives(backend, way)


def test_a_job_has_state_progress_duration_and_last_sign(backend, writer):
    part = corpus.part("signs", 0)
    for signal in ("traces", "logs"):
        assert [one.fate for one in writer.write(signal, [part.requests[signal]])] == [Fate.ACCEPTED]
    last_ns = max(one.end_ns for one in part.items["traces"].values() if one.attributes.get("wafer.job.name") == "job 1")

    def shown(name: str) -> str:
        return str(backend.item(f'wafer.job.{name}["job 1"]')["lastvalue"])

    until(lambda: shown("sign") == str(last_ns // corpus.SECOND_NS), "the last sign is that of the last run's end")
    assert (shown("state"), shown("progress"), shown("duration")) == ("6", "50", "1")
    durations = [
        value for value in backend.history('wafer.job.duration["job 1"]') if value["ns"] == str(last_ns % corpus.SECOND_NS)
    ]
    assert durations
    until(lambda: "Job job 1 ended badly" in problems(backend), "the trigger fires")


def test_the_age_of_the_last_sign_goes_on(backend, writer):
    (host,) = backend.server.api("host.get", {"filter": {"host": HOST}, "output": ["hostid"]})
    backend.server.api("usermacro.create", {"hostid": host["hostid"], "macro": "{$WAFER.AGE.EVERY}", "value": "1s"})
    assert writer.write("logs", [corpus.part("age", 0).requests["logs"]])[0].fate is Fate.ACCEPTED
    until(
        lambda: float(backend.item('wafer.job.age["job 2"]')["lastvalue"]) >= corpus.AGO_NS // corpus.SECOND_NS,
        "it is reckoned",
    )


def test_a_new_job_is_discovered_by_whatever_name(backend, writer):
    name = 'sort {$A} "lots" [x]\\ ' + "ü" * 300
    message = items.parsed("logs", corpus.part("named", 0).requests["logs"])
    for record in message.resource_logs[0].scope_logs[0].log_records:
        record.attributes[1].value.string_value = name
    request = message.SerializeToString()
    (outcome,) = writer.write("logs", [request])
    assert (outcome.fate, "a new job" in outcome.reason) == (Fate.RETRY, True)
    until(lambda: writer.write("logs", [request])[0].fate is Fate.ACCEPTED, "its items are there")
    keys = {one["key_"] for one in backend.server.api("item.get", {"search": {"key_": "wafer.job.state"}, "output": ["key_"]})}
    assert [one for one in keys if "lots" in one]
    until(lambda: len(triggers(backend, "lots")) == 2, "its triggers are there")


def test_a_record_that_zabbix_would_cut_is_refused_alone(backend, writer):
    whole = corpus.part("long", 0)
    message = items.parsed("logs", whole.requests["logs"])
    records = message.resource_logs[0].scope_logs[0].log_records
    records[2].body.string_value = "ü" * 40_000
    (outcome,) = writer.write("logs", [message.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    (remains,) = items.items("logs", outcome.remains)
    assert len(remains.body) == 40_000
    kept = [one.key for one in backend.read("logs") if one.key.startswith("long-")]
    assert sorted(kept) == sorted(set(whole.items["logs"]) - {remains.attributes[corpus.KEY]})


def test_records_of_one_second_stay_apart_and_the_longest_is_whole(backend, writer):
    message = items.parsed("logs", corpus.part("second", 0).requests["logs"])
    records = message.resource_logs[0].scope_logs[0].log_records
    moment = records[0].time_unix_nano // corpus.SECOND_NS * corpus.SECOND_NS
    for record in records:
        record.time_unix_nano = moment
    records[2].body.string_value = "x" * 64_000
    for _ in range(2):
        assert writer.write("logs", [message.SerializeToString()])[0].fate is Fate.ACCEPTED
    kept = [one for one in backend.read("logs") if one.key.startswith("second-")]
    assert len(kept) == len(records)
    assert max(len(one.fields["body"]) for one in kept) == 64_000


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"api_token": "0" * 64}, "API refuses"),
        ({"server": "127.0.0.1:9"}, "does not answer"),
        ({"api_url": "http://127.0.0.1:9/"}, "API"),
    ],
)
def test_what_an_operator_can_mend_loses_nothing(backend, setting, word):
    writer = writers.Writer(writers.Config.load(backend.environment, **setting))
    (outcome,) = writer.write("traces", [corpus.part("wrong", 0).requests["traces"]])
    assert outcome.fate is Fate.RETRY
    assert word in outcome.reason
    assert "0" * 64 not in outcome.reason
    with pytest.raises(StorageUnavailable, match=word):
        writer.check()


def test_a_token_that_may_only_read_is_enough_where_the_host_is(backend):
    api = backend.server.api
    (group,) = api("hostgroup.get", {"filter": {"name": writers.GROUP}, "output": ["groupid"]})
    readers = api("usergroup.create", {"name": "readers", "hostgroup_rights": [{"id": group["groupid"], "permission": 2}]})
    (role,) = api("role.get", {"filter": {"name": "User role"}, "output": ["roleid"]})
    account = {"username": "reader", "passwd": "a Secret 4 tests", "usrgrps": [{"usrgrpid": readers["usrgrpids"][0]}]}
    (user,) = api("user.create", account | role)["userids"]
    made = api("token.create", {"name": "reader", "userid": user})["tokenids"]
    writer = writers.Writer(writers.Config.load(backend.environment, api_token=api("token.generate", made)[0]["token"]))
    part = corpus.part("reader", 0)
    assert [one.fate for one in writer.write("traces", [part.requests["traces"]])] == [Fate.ACCEPTED]
    assert {one.key for one in backend.read("traces")} >= set(part.items["traces"])


def test_without_the_api_a_missing_host_is_named_and_nothing_lost(backend):
    writer = writers.Writer(writers.Config(server=backend.server.trapper, host="elsewhere {site}"))
    (outcome,) = writer.write("metrics", [corpus.part("none", 0).requests["metrics"]])
    assert outcome.fate is Fate.RETRY
    assert f'"elsewhere {corpus.SITE}"' in outcome.reason


def test_an_alert_is_a_problem_until_it_is_over(backend):
    late = alerts.opened_now("job 0")
    alerts.tell(backend, late)
    name = "WaferMonitor: late job 0 (warning)"
    until(lambda: name in problems(backend), "the problem is there")
    alerts.tell(backend, late._replace(resolved_ns=time.time_ns()))
    until(lambda: name not in problems(backend), "the problem is over")
    told = [json.loads(one["value"]) for one in backend.history("wafer.logs")]
    kinds = [one["attributes"]["wafer.alert.kind"] for one in told if one.get("event_name") == "wafer.alert"]
    assert sorted(kinds) == ["firing", "resolved"]


@pytest.mark.skipif("exporter" not in proof.ways("zabbix"), reason="needs a full otelcol-contrib: WAFER_COLLECTOR_BIN")
def test_zabbix_reads_how_runs_ended_from_the_page_of_a_collector(server):
    port = zabbix.free_port()  # not among those that the Collector chooses for itself
    known = import_template(server, Path(fragments.HERE, "zabbix-template.yaml"), "WaferMonitor Collector by HTTP")
    (group,) = server.api("hostgroup.get", {"filter": {"name": "Zabbix servers"}, "output": ["groupid"]})
    macros = {"{$WAFER.COLLECTOR.URL}": f"http://127.0.0.1:{port}/metrics", "{$WAFER.COLLECTOR.EVERY}": "1s"}
    host = {"host": "collector", "groups": [group], "templates": [known]}
    server.api("host.create", host | {"macros": [{"macro": name, "value": value} for name, value in macros.items()]})
    running = collector.start(("zabbix",), environ={"WAFER_ZABBIX_SCRAPE": f"127.0.0.1:{port}", "WAFER_ZABBIX_EVERY": "1s"})
    try:
        url = f"http://{running.otlp_http}/v1/traces"
        headers = {"Content-Type": "application/x-protobuf"}
        urllib.request.urlopen(
            urllib.request.Request(url, corpus.part("page", 0).requests["traces"], headers), timeout=10
        ).close()

        def shown(job: str) -> list[float]:
            keys = [f'wafer.collector.{name}["{corpus.SITE}","{job}"]' for name in ("runs", "failed", "seconds")]
            found = server.api("item.get", {"filter": {"key_": keys}, "output": ["key_", "lastvalue", "lastclock"]})
            told = {one["key_"]: float(one["lastvalue"]) for one in found if one["lastclock"] != "0"}
            return [told[key] for key in keys if key in told]

        wanted = {"job 0": [3.0, 1.0, 3.0], "job 1": [3.0, 1.0, 3.0], "job 2": [2.0, 0.0, 2.0]}
        until(lambda: {job: shown(job) for job in wanted} == wanted, "Zabbix has read the page")
    finally:
        running.stop()


def import_template(server: zabbix.Server, path: Path, name: str) -> dict[str, str]:
    """Its id, as a host links it."""
    kinds = ("templates", "items", "discoveryRules", "template_groups", "triggers", "valueMaps")
    rules = {kind: {"createMissing": True} for kind in kinds}
    server.api("configuration.import", {"format": "yaml", "rules": rules, "source": path.read_text(encoding="utf-8")})
    (found,) = server.api("template.get", {"filter": {"host": name}, "output": ["templateid"]})
    return dict(found)


def triggers(backend: Zabbix, word: str) -> list[str]:
    """Names of the triggers that have this word in theirs."""
    found = backend.server.api("trigger.get", {"search": {"description": word}, "output": ["description"]})
    return [one["description"] for one in found]


def problems(backend: Zabbix) -> list[str]:
    """What Zabbix tells people now."""
    return [one["name"] for one in backend.server.api("problem.get", {"output": ["name"]})]
