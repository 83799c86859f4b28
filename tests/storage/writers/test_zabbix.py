"""What Zabbix is told of an item, and that the shipped template has a place for it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.backends.corpus import pair
from wafermonitor.semconv import events
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import zabbix, zabbix_values
from wafermonitor.storage.writers.items import Item, items
from wafermonitor.storage.writers.protocol import Fate
from wafermonitor.storage.writers.zabbix_values import Value, discovery, host_of, label, record, signs

SECOND_NS = 1_000_000_000
AT_NS = 1_780_488_000 * SECOND_NS + 123_456_789
PATTERN = "wafermonitor-{site}"


def request(event: str, *, at_ns: int = AT_NS, **attributes: str | float) -> bytes:
    message = ExportLogsServiceRequest()
    outer = message.resource_logs.add()
    outer.resource.attributes.append(pair("wafer.site.id", "fab1"))
    one = outer.scope_logs.add().log_records.add(time_unix_nano=at_ns, event_name=event)
    one.attributes.extend([pair("wafer.job.name", "sort")])
    one.attributes.extend(pair(name.replace("__", "."), value) for name, value in attributes.items())
    return message.SerializeToString()


def a_log(event: str, *, at_ns: int = AT_NS, **attributes: str | float) -> Item:
    return items("logs", request(event, at_ns=at_ns, **attributes))[0]


def a_run(*, failed: bool = False, **attributes: str) -> Item:
    message = ExportTraceServiceRequest()
    span = (
        message.resource_spans.add()
        .scope_spans.add()
        .spans.add(start_time_unix_nano=AT_NS - SECOND_NS, end_time_unix_nano=AT_NS)
    )
    span.attributes.append(pair("wafer.job.name", "sort"))
    span.attributes.extend(pair(name.replace("__", "."), value) for name, value in attributes.items())
    span.status.code = 2 if failed else 0
    return items("traces", message.SerializeToString())[0]


def told(item: Item) -> dict[str, str]:
    return {value.key: value.text for value in signs(item, PATTERN)}


def test_a_run_that_starts_is_running_with_nothing_done():
    assert told(a_log(events.WAFER_JOB_START)) == {
        'wafer.job.state["sort"]': "1",
        'wafer.job.progress["sort"]': "0",
        'wafer.job.sign["sort"]': "1780488000",
    }


def test_progress_is_a_percentage_however_it_is_said():
    half = a_log(events.WAFER_JOB_PROGRESS, wafer__job__progress__ratio=0.5)
    counted = a_log(events.WAFER_JOB_PROGRESS, wafer__job__progress__completed=1, wafer__job__progress__total=4)
    nothing = a_log(events.WAFER_JOB_PROGRESS, wafer__job__progress__total=0)
    assert told(half)['wafer.job.progress["sort"]'] == "50.0"
    assert told(counted)['wafer.job.progress["sort"]'] == "25.0"
    assert set(told(nothing)) == {'wafer.job.sign["sort"]'}


@pytest.mark.parametrize(
    ("item", "state"),
    [
        (a_run(), "2"),
        (a_run(failed=True), "6"),
        (a_run(wafer__job__result="timeout"), "5"),
        (a_run(failed=True, wafer__job__result="of another version"), "6"),
        (a_log(events.WAFER_JOB_END, wafer__job__result="skip"), "3"),
        (a_log(events.WAFER_JOB_END), "2"),
    ],
)
def test_an_end_says_how(item, state):
    assert told(item)['wafer.job.state["sort"]'] == state


def test_a_run_says_how_long_it_took():
    assert told(a_run())['wafer.job.duration["sort"]'] == "1.0"


def test_of_a_start_and_an_end_in_one_moment_the_end_is_later():
    times = [
        {one.key: one.time_ns for one in signs(a_log(event), PATTERN)}['wafer.job.state["sort"]']
        for event in (events.WAFER_JOB_START, events.WAFER_JOB_END)
    ]
    assert times == sorted(set(times))


def test_a_heartbeat_and_an_exception_are_signs_and_a_log_line_is_none():
    for event in (events.WAFER_JOB_HEARTBEAT, events.WAFER_JOB_EXCEPTION):
        assert set(told(a_log(event))) == {'wafer.job.sign["sort"]'}
    assert told(a_log("")) == {}


def test_an_alert_has_its_severity_until_it_is_over():
    firing = {"wafer__alert__fingerprint": "f1", "wafer__alert__severity": "critical", "wafer__alert__rule": "late"}
    assert told(a_log(events.WAFER_ALERT, **firing)) == {'wafer.alert["f1"]': "3"}
    assert told(a_log(events.WAFER_ALERT, **firing, wafer__alert__kind="resolved")) == {'wafer.alert["f1"]': "0"}
    assert told(a_log(events.WAFER_ALERT)) == {}
    (value,) = signs(a_log(events.WAFER_ALERT, **firing), PATTERN)
    assert value.owner is not None
    assert json.loads(discovery([value.owner])) == [{"{#NAME}": "late sort", "{#KEY}": "f1"}]


def test_a_record_is_json_at_its_own_time():
    value = record(a_log("", text="ü"), PATTERN)
    assert (value.host, value.key, value.clock, value.ns, value.owner) == (
        "wafermonitor-fab1",
        "wafer.logs",
        1780488000,
        123456789,
        None,
    )
    row = json.loads(value.text)
    assert (row["time_ns"], row["attributes"]["text"], row["job"]) == (AT_NS, "ü", "sort")
    assert "trace_id" not in row


@pytest.mark.parametrize("resolution_ns", [SECOND_NS, 1_000_000, 1_000])
def test_records_of_a_coarse_clock_stay_apart_and_keep_the_time_that_was_measured(resolution_ns):
    at_ns = AT_NS // resolution_ns * resolution_ns
    times = {record(a_log("", at_ns=at_ns, number=number), PATTERN).time_ns for number in range(20)}
    assert len(times) > 18  # of 1000 places 20 records may share one
    assert {time_ns // resolution_ns for time_ns in times} == {at_ns // resolution_ns}
    again = {record(a_log("", at_ns=at_ns, number=number), PATTERN).time_ns for number in range(20)}
    assert times == again


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sort lots", "sort lots"),
        ('a"b\\', "a%22b%5C"),
        ("{$M}[1]", "%7B%24M%7D%5B1%5D"),
        ("a\nb", "a%0Ab"),
        ("100 %", "100 %25"),
    ],
)
def test_a_job_name_becomes_text_that_a_key_can_hold(name, expected):
    assert label(name) == expected


def test_a_name_is_never_read_as_a_macro():
    (told,) = json.loads(discovery([zabbix_values.Owner(zabbix_values.JOBS, "x", "{$SECRET}")]))
    assert told["{#NAME}"] == "($SECRET)"


def test_long_names_stay_apart():
    one, other = label("x" * 400), label("x" * 401)
    assert one != other
    assert max(len(one), len(other)) < 200


def test_a_site_becomes_a_name_that_a_host_can_have():
    item = a_log("")
    odd = item._replace(resource=item.resource._replace(site="Fab/1 (Süd)"))
    assert host_of(odd, PATTERN) == "wafermonitor-Fab_1 _S_d_"
    assert host_of(item, "one host") == "one host"


def keys(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["key"]] if "key" in node else [])
        for one in node.values():
            yield from keys(one)
    elif isinstance(node, list):
        for one in node:
            yield from keys(one)


def test_the_template_has_an_item_for_every_value_and_the_same_words():
    template = yaml.safe_load(zabbix.template())["zabbix_export"]["templates"][0]
    assert template["template"] == zabbix.TEMPLATE
    sent = [a_log(event, wafer__job__progress__ratio=0.5) for event in vars(events).values() if isinstance(event, str)]
    sent += [a_run(), a_log(events.WAFER_ALERT, wafer__alert__fingerprint="f1")]
    values: list[Value] = [value for item in sent for value in (record(item, PATTERN), *signs(item, PATTERN))]
    wanted = {value.key.replace('["sort"]', '["{#KEY}"]').replace('["f1"]', '["{#KEY}"]') for value in values}
    wanted |= {value.owner.rule for value in values if value.owner is not None}
    assert wanted - {"wafer.traces", "wafer.logs"} <= set(keys(template))
    maps = {one["name"]: {line["newvalue"]: int(line["value"]) for line in one["mappings"]} for one in template["valuemaps"]}
    assert maps == {
        "WaferMonitor job state": zabbix_values.STATES,
        "WaferMonitor alert severity": {"over": 0, **zabbix_values.SEVERITIES},
    }


def test_an_address_without_a_token_is_a_mistake():
    with pytest.raises(StorageRejected, match="belong together"):
        zabbix.Writer(zabbix.Config(api_url="http://127.0.0.1/"))


def test_a_time_that_zabbix_cannot_write_is_refused():
    writer = zabbix.Writer(zabbix.Config(server="127.0.0.1:9", timeout_s=1.0))
    (outcome,) = writer.write("logs", [request(events.WAFER_JOB_START, at_ns=2**63 - 1)])
    assert (outcome.fate, "2038" in outcome.reason) == (Fate.REJECTED, True)


def test_nothing_is_lost_where_nobody_listens_and_a_broken_request_is_refused():
    writer = zabbix.Writer(zabbix.Config(server="127.0.0.1:9,127.0.0.1:10", timeout_s=1.0))
    broken, whole = writer.write("logs", [b"\xff\xff", request("")])
    assert (broken.fate, whole.fate) == (Fate.REJECTED, Fate.RETRY)
    assert "127.0.0.1" not in whole.reason
    with pytest.raises(StorageUnavailable, match="does not answer"):
        writer.check()
    writer.close()
