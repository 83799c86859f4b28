"""Files of ours in a real Collector: each and any two of them validate, and what they take arrives where they say."""

import itertools
import json
import os
import socket
from concurrent import futures

import pytest

from tests.collector.test_supervise import post
from tests.servers import collector, otlp_sink
from tests.servers.collector import free_ports, until
from wafermonitor.collector import binary, documented, fragments
from wafermonitor.collector.config import Config
from wafermonitor.collector.documents import PARTS

pytestmark = [pytest.mark.collector, pytest.mark.timeout(900)]

EVERY = [(kind, name) for kind in ("backends", "receivers") for name in fragments.names(kind)]
WITHOUT_AWS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_EC2_METADATA_DISABLED": "true"}
"""An authenticator of AWS looks for keys while it is validated."""
SILENT = {"host_metrics", "filter", "transform"}
"""Parts that read their settings themselves: they say nothing of unknown keys, or first something else."""
IN_HAND = "WAFER_COLLECTOR_BIN" in os.environ


def path_of(kind, name):
    return fragments.HERE / kind / f"{name}.yaml"


def held(manifest):
    """The files whose every part a Collector built of `manifest` has; with WAFER_COLLECTOR_BIN, all."""
    return [one for one in EVERY if IN_HAND or not collector.lacking(str(path_of(*one)), manifest)]


def problems(path, chosen, monkeypatch):
    """What the Collector at `path` has against base.yaml with each list of files, two at a time."""
    for name, value in WITHOUT_AWS.items():
        monkeypatch.setenv(name, value)
    config = Config.load({})

    def ask(files):
        return binary.validate(path, [fragments.BASE, *files], config)

    with futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, chosen))
    return {" + ".join(file.stem for file in files): answer for files, answer in zip(chosen, answers, strict=True) if answer}


def test_each_file_and_any_two_validate(found, monkeypatch):
    files = [path_of(*one) for one in held("minimal")]
    chosen = [[one] for one in files] + [list(two) for two in itertools.combinations(files, 2)] + [files]
    assert problems(found.path, chosen, monkeypatch) == {}


@pytest.mark.servers
def test_each_file_and_any_two_validate_with_all_that_can_be_built(found, monkeypatch):
    """Pairs that the test above has seen are left out."""
    files, seen = [path_of(*one) for one in held("full")], {path_of(*one) for one in held("minimal")}
    pairs = [list(two) for two in itertools.combinations(files, 2) if not set(two) <= seen]
    chosen = [[one] for one in files] + pairs + [files]
    path = collector.prepare(tuple(str(file) for file in files)).path
    assert problems(path, chosen, monkeypatch) == {}


def tree(keys):
    """Every documented key below `keys`, with no value."""
    level = documented.level(keys)
    return {key: tree(below) for key, below in level.items()} if isinstance(level, dict) and level else None


def refused(path, section, kind, settings, tmp_path):
    """What the Collector says of keys that it does not know; other complaints are passed over."""
    file = tmp_path / f"{section}-{kind}.yaml"
    file.write_text(json.dumps({section: {kind: settings}, "service": {"pipelines": {}}}))
    return [
        line.strip() for line in (binary.validate(path, [file], Config.load({})) or "").splitlines() if "invalid keys" in line
    ]


def assert_every_documented_key_is_one_of(path, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    parts = [(section, kind) for section, there in binary.components(path).items() for kind in there]
    parts = [(section, kind) for section, kind in parts if section in PARTS and documented.known(section, kind)]
    assert len(parts) > 15

    def look(part):
        keys = tree(documented.table()[part[0]][part[1]]["keys"]) or {}
        return refused(path, *part, keys, tmp_path), refused(path, *part, {**keys, "colour": None}, tmp_path)

    with futures.ThreadPoolExecutor(2) as pool:
        for part, (documented_ones, with_another) in zip(parts, pool.map(look, parts), strict=True):
            assert documented_ones == [], part
            assert part[1] in SILENT or ["colour" in line for line in with_another] == [True], part


def test_the_collector_knows_every_key_that_our_table_has(found, tmp_path, monkeypatch):
    assert_every_documented_key_is_one_of(found.path, tmp_path, monkeypatch)


@pytest.mark.servers
def test_the_larger_collector_knows_every_key_that_our_table_has(found, tmp_path, monkeypatch):
    path = collector.prepare(("kafka",)).path
    assert path != found.path or IN_HAND
    assert_every_documented_key_is_one_of(path, tmp_path, monkeypatch)


@pytest.fixture
def sinks():
    """Two OTLP/HTTP endpoints."""
    running = [otlp_sink.start(), otlp_sink.start()]
    yield running
    for sink in running:
        sink.stop()


def test_each_resource_goes_to_the_receiver_of_its_site(start, sinks):
    one, other = sinks
    route = {"WAFER_ROUTE_MATCH": "fab1|fab2", "WAFER_ROUTE_ENDPOINT": one.url, "WAFER_ROUTE_OTHER_ENDPOINT": other.url}
    server = start(("routing",), environ=route | {"WAFER_COLLECTOR_BEAT_S": "900"})
    for site in ("fab1", "fab10", "fab2", "xfab1"):
        assert post(server, site, resource={"wafer.site.id": site}) == 200
    until(lambda: {"fab1", "fab2"} <= sites(one) and {"fab10", "xfab1"} <= sites(other), "all four sites")
    assert sites(one) == {"fab1", "fab2"}
    assert sites(other) == {"fab10", "xfab1"}


def sites(sink):
    return {item.name for item in sink.logs if item.name != "wafer.feed.beat"}


@pytest.mark.parametrize(("token", "header"), [("t0p", "Bearer t0p"), ("", None)])
def test_our_receiver_is_reached_by_http(start, sinks, token, header):
    sink = sinks[0]
    server = start(("managed-http",), environ={"WAFER_MANAGED_HTTP_ENDPOINT": sink.url, "WAFER_TOKEN": token})
    assert post(server, "by-http") == 200
    until(lambda: sink.events("by-http"), "the record")
    assert {headers.get("authorization") for headers in sink.headers} == {header}


def test_lines_of_plain_logs_become_records(start, tmp_path):
    (tmp_path / "tool.log").write_text("sorter ready\n12:00 ERROR no wafer in slot 3\nCRITICAL\n")
    server = start(("file",), ("logs",), environ={"WAFER_LOG_FILES": str(tmp_path / "*.log")})
    records = until(lambda: plain(server, 3), "three lines")
    assert [record["body"]["stringValue"] for record in records] == [
        "sorter ready",
        "12:00 ERROR no wafer in slot 3",
        "CRITICAL",
    ]
    assert [record.get("severityNumber", 0) for record in records] == [0, 17, 21]
    assert {pair["key"] for pair in records[1]["attributes"]} == {"log.file.name"}


def plain(server, count):
    """The records that are no beats, once there are `count`."""
    found = [record for record in server.records() if record.get("eventName") != "wafer.feed.beat"]
    return found if len(found) >= count else None


def test_syslog_is_taken_by_udp_and_by_tcp(start):
    port = free_ports(1)[0]
    server = start(("file",), ("syslog",), environ={"WAFER_SYSLOG": f"127.0.0.1:{port}"})
    line = b"<27>1 2026-11-22T14:00:00.5Z tool7 sorter 12 - - %s"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(line % b"by udp", ("127.0.0.1", port))
    with socket.create_connection(("127.0.0.1", port)) as tcp:
        tcp.sendall(line % b"by tcp" + b"\n")
        records = until(lambda: plain(server, 2), "both messages")
    assert sorted(record["body"]["stringValue"] for record in records) == ["by tcp", "by udp"]
    assert {record["severityNumber"] for record in records} == {17}
    assert {record["timeUnixNano"] for record in records} == {"1795356000500000000"}


def test_statsd_is_gathered(start):
    port = free_ports(1)[0]
    server = start(("file",), ("statsd",), environ={"WAFER_STATSD": f"127.0.0.1:{port}", "WAFER_STATSD_INTERVAL": "1s"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for line in (b"wafers:3|c|#lot:L1", b"wafers:4|c|#lot:L1", b"level:0.5|g"):
            udp.sendto(line, ("127.0.0.1", port))
        metrics = until(lambda: len(found := gathered(server)) == 2 and found, "both metrics")
    (point,) = metrics["wafers"]["sum"]["dataPoints"]
    assert point["asInt"] == "7"
    assert point["attributes"] == [{"key": "lot", "value": {"stringValue": "L1"}}]
    assert metrics["level"]["gauge"]["dataPoints"][0]["asDouble"] == 0.5


def gathered(server):
    """Metrics by name."""
    scopes = [scope for one in server.delivered("resourceMetrics") for scope in one["scopeMetrics"]]
    return {metric["name"]: metric for scope in scopes for metric in scope["metrics"]}
