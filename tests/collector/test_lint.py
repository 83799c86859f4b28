"""What our rules find in YAML files, and that they find nothing in those which come with the package."""

import itertools
import random

import pytest
import yaml

from wafermonitor.collector import documented, fragments, lint
from wafermonitor.collector.documents import filled, read, variables
from wafermonitor.collector.errors import ConfigRejected

SHIPPED = [(kind, name) for kind in ("backends", "receivers") for name in fragments.names(kind)]
QUEUE = "sending_queue: {storage: file_storage, sizer: bytes, queue_size: 1000}"
RETRY = "retry_on_failure: {max_elapsed_time: 0}"
GOOD = f"""
exporters:
  otlp_http/mine:
    endpoint: http://127.0.0.1:9
    {QUEUE}
    {RETRY}
service: {{pipelines: {{traces/mine: {{receivers: [forward/backends], exporters: [otlp_http/mine]}}}}}}
"""
SPOOL = f"""
exporters:
  file/mine: {{path: x}}
  otlp_grpc/mine_spool: {{endpoint: "127.0.0.1:14499", tls: {{insecure: true}}, {QUEUE}, {RETRY}}}
receivers: {{otlp/mine_spool: {{protocols: {{grpc: {{endpoint: "127.0.0.1:14499", max_recv_msg_size_mib: 64}}}}}}}}
service:
  pipelines:
    traces/mine_spool: {{receivers: [forward/backends], exporters: [otlp_grpc/mine_spool]}}
    traces/mine: {{receivers: [otlp/mine_spool], exporters: [file/mine]}}
"""
FAILOVER = f"""
connectors: {{failover/mine: {{priority_levels: [[traces/p1]], sending_queue: {{enabled: false}}}}}}
exporters:
  otlp_http/p1: {{endpoint: "http://127.0.0.1:9", sending_queue: {{enabled: false}}, retry_on_failure: {{enabled: false}}}}
  otlp_grpc/mine_spool: {{endpoint: "127.0.0.1:14499", tls: {{insecure: true}}, {QUEUE}, {RETRY}}}
receivers: {{otlp/mine_spool: {{protocols: {{grpc: {{endpoint: "127.0.0.1:14499", max_recv_msg_size_mib: 64}}}}}}}}
service:
  pipelines:
    traces/mine_spool: {{receivers: [forward/backends], exporters: [otlp_grpc/mine_spool]}}
    traces/mine: {{receivers: [otlp/mine_spool], exporters: [failover/mine]}}
    traces/p1: {{receivers: [failover/mine], exporters: [otlp_http/p1]}}
"""
TAKES = """
receivers: {syslog/mine: {udp: {listen_address: "127.0.0.1:5599"}, protocol: rfc5424}}
service:
  pipelines:
    logs/mine:
      receivers: [syslog/mine]
      processors: [memory_limiter, resource/site, redaction/secrets]
      exporters: [forward/backends]
"""


@pytest.fixture
def found(tmp_path):
    """The findings of base.yaml and these texts, as (wrong, message)."""

    def look(*texts, environ=None):
        paths = []
        for number, text in enumerate(texts):
            paths.append(tmp_path / f"own{number}.yaml")
            paths[-1].write_text(text, encoding="utf-8")
        return [(one.wrong, str(one)) for one in lint.check([fragments.BASE, *paths], environ or {})]

    return look


def path_of(kind, name):
    return fragments.HERE / kind / f"{name}.yaml"


@pytest.mark.parametrize(("kind", "name"), SHIPPED, ids=[f"{kind}-{name}" for kind, name in SHIPPED])
def test_a_file_of_ours_has_no_finding(kind, name):
    assert lint.check([fragments.BASE, path_of(kind, name)], {}) == []


def test_any_two_files_of_ours_fit_together():
    base = read(fragments.BASE, {})
    documents = [read(path_of(kind, name), {}) for kind, name in SHIPPED]
    for one, other in itertools.combinations(documents, 2):
        assert lint.examine([base, one, other]) == [], f"{one.name} and {other.name}"


@pytest.mark.parametrize("text", [GOOD, SPOOL, FAILOVER, TAKES])
def test_a_good_file_has_no_finding(found, text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (GOOD, "endpoint:", "endpiont:", "exporters::otlp_http/mine::endpiont: no such key; did you mean endpoint?"),
        (
            GOOD,
            "sizer: bytes",
            "sizer: bytes, colour: red",
            "otlp_http/mine::sending_queue::colour: no such key; known: batch, ",
        ),
        (GOOD, "exporters:\n", "exporter: {}\nexporters:\n", "own0.yaml: exporter: no such section; there are receivers, "),
        (GOOD, "otlp_http/mine", "otlp_http/Mine", "exporters::otlp_http/Mine: write kind/name in lower case, digits and _"),
        (GOOD, "traces/mine", "traces", "pipelines::traces: write signal/name, for example traces/mine"),
        (GOOD, "traces/mine", "traces/in", "pipelines::traces/in: base.yaml has it already: lists are replaced"),
        (GOOD, "[forward/backends]", "[forward/nowhere]", "pipelines::traces/mine::receivers: there is no `forward/nowhere`"),
        (GOOD, "exporters: [otlp_http/mine]", "exporters: [nop]", "exporters::otlp_http/mine: no pipeline uses it"),
        (GOOD, "storage: file_storage", "storage: disk", "sending_queue::storage: there is no extension `disk`"),
        (GOOD, "exporters:\n", "extensions: {basicauth/x: {}}\nexporters:\n", "extensions::basicauth/x: is not started: "),
        (
            GOOD,
            QUEUE,
            f"{QUEUE}\n    auth: {{authenticator: sigv4auth/x}}",
            "auth::authenticator: there is no extension `sigv4auth/x`",
        ),
        (GOOD, QUEUE, f"{QUEUE}\n    headers: {{api-key: abc}}", "a secret as text: write ${env:WAFER_API_KEY}"),
        (GOOD, QUEUE, f"{QUEUE}\n    headers: {{X-Auth-Token: abc}}", "a secret as text: write ${env:WAFER_X_AUTH_TOKEN}"),
        (GOOD, QUEUE, f"{QUEUE}\n    headers: {{password: 12345}}", "a secret as text: write ${env:WAFER_PASSWORD}"),
        (GOOD, "http://", "http://me:pw@", "exporters::otlp_http/mine::endpoint: an address with a password in it"),
        (GOOD, "http://", "redis://:pw@", "exporters::otlp_http/mine::endpoint: an address with a password in it"),
        (GOOD, ":9", ":9/?user=a&password=b", "exporters::otlp_http/mine::endpoint: an address with a password in it"),
        (GOOD, "[forward/backends]", "forward/backends", "pipelines::traces/mine::receivers: wrong shape: a list of names"),
        (GOOD, "exporters: [otlp_http/mine]", "exporter: [otlp_http/mine]", "exporter: wrong shape: no such list; there are"),
        (GOOD, "exporters:\n", "receivers: [otlp]\nexporters:\n", "receivers: wrong shape: a map of names"),
        (GOOD, "exporters:\n", "exporters:\n  5: {}\n", "exporters::5: wrong shape: a name is text"),
        (GOOD, "exporters:\n", "exporters:\n  nop/x: 5\n", "exporters::nop/x: wrong shape: a map of settings"),
        (TAKES, "5599", "4317", None),
        (SPOOL, "14499", "4317", "port 4317 is taken by "),
        (SPOOL, "127.0.0.1:14499", "localhost:4317", "port 4317 is taken by "),
        (TAKES, "127.0.0.1:5599", "here", "'here' is no host:port"),
        (
            GOOD,
            "queue_size: 1000",
            "queue_size: 1000, batch: {sizer: bytes, min_size: 1001}",
            "1000 is less than batch::min_size",
        ),
        (
            SPOOL,
            "file/mine: {path: x}",
            "file/mine: {path: x}\n  file/other: {path: x}",
            "exporters::file/mine writes to this file",
        ),
    ],
)
def test_what_does_not_work_is_wrong(found, text, old, new, says):
    findings = found(text.replace(old, new))
    if says is None:  # UDP and TCP have ports of their own
        assert findings == []
    else:
        assert [wrong for wrong, message in findings if says in message] == [True], findings


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (GOOD, QUEUE, "", "its queue is in memory: write sending_queue::storage: file_storage"),
        (GOOD, "sizer: bytes, ", "", "the size of its queue is not bytes"),
        (GOOD, "queue_size: 1000", "queue_size: 1000, batch: {max_size: 5}", "batches by items may be larger"),
        (GOOD, "max_elapsed_time: 0", "max_elapsed_time: 1h", "gives up after 5 minutes"),
        (GOOD, "otlp_http/mine", "file/mine", "keeps nothing while its far end is away: put it behind a loopback spool"),
        (
            GOOD,
            "exporters: [",
            "processors: [batch/x], exporters: [",
            "batch/x holds accepted data in memory: a kill loses them",
        ),
        (GOOD, "otlp_http/mine", "unheard_of/mine", "`unheard_of` is not in documented.yaml"),
        (GOOD, "otlp_http/mine", "otlp_http", "give it a name of its own (otlp_http/own0)"),
        (GOOD, "service: {", "service: {telemetry: {logs: {level: info}}, ", "service::telemetry: belongs to base.yaml"),
        (SPOOL, "file/mine", "otlp_http/mine", "behind a spool the 429 and 500 of its far end come back as permanent"),
        (SPOOL, "file/mine", "elasticsearch/mine", "its own queue would answer for a far end that has nothing yet"),
        (SPOOL, ", max_recv_msg_size_mib: 64", "", "refuses more than 4 MiB for good"),
        (SPOOL, "127.0.0.1:14499", "0.0.0.0:14499", "a spool listens on loopback"),
        (SPOOL, "otlp/mine_spool", "otlp/mine", "is a spool: call it otlp/…_spool"),
        (FAILOVER, "receivers: [otlp/mine_spool]", "receivers: [forward/backends]", "drops data when every level fails"),
        (FAILOVER, ", sending_queue: {enabled: false}}}", "}}", "its own queue has no retry"),
        (FAILOVER, "retry_on_failure: {enabled: false}", "timeout: 3s", "would hide that it fails: write retry_on_failure"),
        (TAKES, "memory_limiter, ", "", "begin with the processors memory_limiter, resource/site"),
        (TAKES, ", redaction/secrets", "", "add the processor redaction/secrets"),
        (TAKES, "exporters: [forward/backends]", "exporters: [nop]", "end in forward/backends"),
    ],
)
def test_what_may_lose_data_is_careless(found, text, old, new, says):
    assert old in text
    findings = found(text.replace(old, new))
    assert [wrong for wrong, message in findings if says in message] == [False], findings


def changed(value, chance):
    """`value` with something else at one place."""
    others = (None, 5, True, "x", [], {}, ["a"], [None], [[1]], {"a": 1}, {1: 2}, {None: None}, "${env:X}", [{"a": None}])
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {1: value[key]} | {name: item for name, item in value.items() if name != key}
        return value | {key: changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return [changed(item, chance) if number == place else item for number, item in enumerate(value)]
    return chance.choice(others)


def test_whatever_stands_where_the_rules_answer():
    """Files of operators hold anything; a finding about the shape and no traceback is what they get."""
    base = read(fragments.BASE, {})
    documents = [base, *(read(path_of(kind, name), {}) for kind, name in SHIPPED)]
    for seed in range(2000):
        chance = random.Random(seed)
        one = chance.choice(documents)
        content = filled(changed(changed(one.raw, chance), chance), {})
        if isinstance(content, dict):
            odd = one._replace(raw=content, content=content)
            assert all(map(str, lint.examine([odd, documents[-1]] if one is base else [base, odd])))


def test_two_files_that_bring_the_same_are_named(found):
    findings = found(GOOD, GOOD)
    assert (True, "own1.yaml: pipelines::traces/mine: own0.yaml has it already: lists are replaced") in findings
    assert any("exporters::otlp_http/mine: own0.yaml brings a part of this name, too" in message for _, message in findings)


def test_a_file_may_add_to_a_part_of_another(found):
    """As token.yaml does: no pipeline, so there is no doubt whose part it is."""
    assert found(GOOD, "exporters: {otlp_http/mine: {headers: {authorization: 'Bearer ${env:TOKEN}'}}}") == []


def test_an_extension_that_a_later_list_leaves_out_is_named(found):
    sigv4 = "extensions: {sigv4auth/a: {service: xray}}\nservice: {extensions: [health_check, file_storage, sigv4auth/a]}"
    assert found(sigv4) == []
    basic = "extensions: {basicauth/b: {}}\nservice: {extensions: [health_check, file_storage, basicauth/b]}"
    assert [message.partition(" is not")[0] for _, message in found(sigv4, basic)] == ["own0.yaml: extensions::sigv4auth/a:"]


def test_the_environment_is_put_in_before_the_rules_look(found):
    text = TAKES.replace('"127.0.0.1:5599"', '"${env:MINE:-127.0.0.1:5599}"').replace("udp:", "tcp:")
    assert found(text) == []
    assert any("port 4318 is taken" in message for _, message in found(text, environ={"MINE": "127.0.0.1:4318"}))


def test_a_whole_value_is_read_as_yaml_and_a_part_of_one_is_text():
    environ = {"A": "[1, 2]", "B": "x"}
    assert filled({"a": "${env:A}", "b": "${env:B}-${env:C:-9}", "c": "${env:C:-9}", "d": "${env:C}"}, environ) == {
        "a": [1, 2],
        "b": "x-9",
        "c": 9,
        "d": None,
    }
    assert variables(["${env:A}", {"b": "${env:B:-}"}]) == {"A": None, "B": ""}


def test_whom_a_receiver_asks_is_no_port_of_ours(found):
    """Two that ask one server, and one that has an address with a path: none of them listens."""
    asks = "receivers: {redis/a: {endpoint: 'localhost:6379'}, redis/b: {endpoint: 'localhost:6379'}, "
    asks += "httpcheck/c: {targets: [{endpoint: 'https://fab1.example/health'}]}}\n"
    assert not any("port" in message for _, message in found(asks))


@pytest.mark.parametrize(("text", "says"), [("a: [", r"line \d: not YAML"), ("- 1", "a Collector's file is a map of sections")])
def test_what_is_no_file_of_a_collector_is_rejected(tmp_path, text, says):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigRejected, match=says):
        read(path, {})
    with pytest.raises(ConfigRejected, match="No such file"):
        read(tmp_path / "absent.yaml", {})


def test_the_table_says_of_each_part_where_its_keys_are_documented():
    for section in ("receivers", "processors", "exporters", "connectors", "extensions"):
        for kind in documented.kinds(section):
            repository, folder, version = documented.table()[section][kind]["source"].split()
            assert repository in {"core", "contrib"}
            assert folder.partition("/")[0] == section.removesuffix("s")
            assert version == "v0.159.0" or len(version) == 12
            assert list(documented.unknown(section, kind, {"": 1})) != []
    assert {documented.queue(kind) for kind in documented.kinds("exporters")} == {"own", "spool", "none needed"}


def test_every_name_in_the_table_that_stands_for_others_is_there():
    text = yaml.safe_dump(documented.table())
    names = {word.strip(",[]{}'\n") for word in text.split() if word.strip(",[]{}'").startswith("$")}
    assert names == {f"${name}" for name in documented.table()["shared"]}


def test_a_variable_that_nobody_set_is_said_where_the_file_runs(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("exporters: {otlp_http/own: {headers: {authorization: 'Bearer ${env:OWN_TOKEN}', x: '${env:OWN_X:-}'}}}\n")
    (found,) = lint.unset([own], {})
    assert str(found).startswith("own.yaml: ${env:OWN_TOKEN}: is not set and has no default")
    assert not found.wrong
    assert lint.unset([own], {"OWN_TOKEN": "t"}) == []
