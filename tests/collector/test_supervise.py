"""A Collector that is kept: restarts, reloads, stops and leaves nothing behind; what it took it delivers."""

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent import futures

import grpc
import psutil
import pytest

from tests.servers.collector import COMMAND, free_ports, gone, until
from wafermonitor.collector import fragments

pytestmark = [pytest.mark.collector, pytest.mark.timeout(900)]

BEATING = {"WAFER_COLLECTOR_BEAT_S": "0.2", "WAFER_COLLECTOR_REPORT_S": "0.5"}


def post(server, name, resource=None, attributes=None):
    """Send one log record that is called `name`; the HTTP status."""
    host, _, port = server.otlp_http.rpartition(":")
    record = {"timeUnixNano": "1700000000000000000", "eventName": name, "body": {"stringValue": name}}
    record["attributes"] = [{"key": key, "value": {"stringValue": value}} for key, value in (attributes or {}).items()]
    pairs = [{"key": key, "value": {"stringValue": value}} for key, value in (resource or {}).items()]
    body = json.dumps({"resourceLogs": [{"resource": {"attributes": pairs}, "scopeLogs": [{"logRecords": [record]}]}]})
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("POST", "/v1/logs", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def arrived(server, name):
    return [record for record in server.records() if record.get("eventName") == name]


def resource_of(server, name):
    (found,) = [
        one["resource"]["attributes"]
        for one in server.delivered()
        if any(record.get("eventName") == name for scope in one["scopeLogs"] for record in scope["logRecords"])
    ]
    return {pair["key"]: pair["value"] for pair in found}


def silent(address):
    """Whether nobody listens there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return True
    return False


def test_ready_says_what_runs_and_where(start, found, tmp_path):
    server = start(("file",))
    ready = server.wait("ready")
    assert ready["collector"] == {"path": str(found.path), "version": found.version, "source": "WAFER_COLLECTOR_BIN"}
    assert ready["otlp_http"] == server.otlp_http
    assert not gone(ready["collector_pid"])
    assert ready["pid"] == server.supervisor


def test_beats_arrive_through_the_collectors_own_queue(start):
    server = start(("file",), environ=BEATING)
    until(lambda: len(arrived(server, "wafer.feed.beat")) >= 3, "three beats")
    stamps = [int(record["timeUnixNano"]) for record in arrived(server, "wafer.feed.beat")]
    assert stamps == sorted(set(stamps))
    report = server.wait("queue", 2)
    assert report["exporter"] == "otlp_grpc/file_spool"
    assert report["hours"] > 1
    assert report["rate"] > 0


def test_site_and_feed_are_filled_in_as_text_and_never_replaced(start):
    server = start(("file",), environ={"WAFER_SITE_ID": "300", "WAFER_FEED_ID": "true", "WAFER_COLLECTOR_BEAT_S": "900"})
    assert post(server, "bare") == 200
    assert post(server, "named", resource={"wafer.site.id": "fab2", "wafer.feed.id": "other"}) == 200
    until(lambda: arrived(server, "bare") and arrived(server, "named"), "both records")
    assert resource_of(server, "bare") == {"wafer.site.id": {"stringValue": "300"}, "wafer.feed.id": {"stringValue": "true"}}
    assert resource_of(server, "named") == {"wafer.site.id": {"stringValue": "fab2"}, "wafer.feed.id": {"stringValue": "other"}}


def test_secrets_are_masked_before_they_leave(start):
    server = start(("file",))
    assert post(server, "leak", attributes={"db.Password": "hunter2", "api_key": "k1", "wafer.lot.ids": "GAL-LOT"}) == 200
    (record,) = until(lambda: arrived(server, "leak"), "the record")
    values = {pair["key"]: pair["value"]["stringValue"] for pair in record["attributes"]}
    assert values == {"db.Password": "****", "api_key": "****", "wafer.lot.ids": "GAL-LOT"}


def test_log_files_of_scripts_become_records(start, tmp_path):
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    line = {
        "ts": "2026-11-22T14:00:00.5Z",
        "level": "error",
        "message": "no wafer",
        "trace_id": trace_id,
        "span_id": span_id,
        "slot": "3",
    }
    (tmp_path / "a.log.jsonl").write_text(json.dumps(line) + "\n")
    server = start(("file",), ("files",), environ={"WAFER_DROP_DIR": str(tmp_path)})
    (record,) = until(lambda: [one for one in server.records() if one.get("traceId") == trace_id], "the line")
    assert record["body"] == {"stringValue": "no wafer"}
    assert record["spanId"] == span_id
    assert record["severityNumber"] == 17
    assert record["timeUnixNano"] == "1795356000500000000"
    attributes = {pair["key"]: pair["value"] for pair in record["attributes"]}
    assert attributes == {"slot": {"stringValue": "3"}, "log.file.name": {"stringValue": "a.log.jsonl"}}


def test_a_full_queue_refuses_so_that_senders_keep_their_data_and_says_so(start):
    port = free_ports(1)[0]
    small = {"WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{port}", "WAFER_COLLECTOR_QUEUE_BYTES": "600000", **BEATING}
    server = start(("managed",), environ=small)
    statuses = [post(server, "large", attributes={"filler": "x" * 200_000}) for _ in range(8)]
    assert statuses[0] == 200
    assert statuses[-1] == 503
    until(lambda: any(one["event"] == "queue" and one.get("refused") for one in server.events), "word of the full queue")


def test_the_spool_of_jobs_is_shipped(start, tmp_path):
    file = tmp_path / "logs" / "host-1-1.jsonl"
    file.parent.mkdir()
    record = {"timeUnixNano": "1700000000000000000", "eventName": "from-the-spool"}
    file.write_text(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}) + "\n")
    server = start(("file",), environ={"WAFER_SPOOL_DIR": str(tmp_path)})
    until(lambda: arrived(server, "from-the-spool"), "the line of the spool")
    assert resource_of(server, "from-the-spool")["wafer.feed.id"] == {"stringValue": "test-host"}


def test_no_beat_overtakes_what_waits_in_the_spool(start, tmp_path):
    file = tmp_path / "logs" / "host-1-1.jsonl"
    file.parent.mkdir()
    record = {"timeUnixNano": "1700000000000000000", "eventName": "from-the-spool"}
    file.write_text(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}) + "\n")
    with (tmp_path / ".replay.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a job does that ships it in the background
        server = start(("file",), environ={"WAFER_SPOOL_DIR": str(tmp_path), **BEATING})
        assert post(server, "by-the-port") == 200
        until(lambda: arrived(server, "by-the-port"), "what comes by the port")
        server.wait("queue", 3)
    until(lambda: arrived(server, "wafer.feed.beat"), "a beat")
    names = [record["eventName"] for record in server.records()]
    assert names.index("from-the-spool") < names.index("wafer.feed.beat")


def test_a_dead_collector_is_started_again(start):
    server = start(("file",))
    first = server.pid
    server.kill()
    assert server.wait("restart")["code"] == -signal.SIGKILL
    assert server.wait("ready", 2)["restarts"] == 1
    assert server.pid != first
    assert post(server, "after") == 200
    until(lambda: arrived(server, "after"), "a record after the restart")


def test_what_was_accepted_survives_kill_9(start):
    """The far end is down, the Collector is killed, the far end comes up: everything arrives."""
    port = free_ports(1)[0]
    server = start(("managed",), environ={"WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{port}"})
    names = {f"kept-{number}" for number in range(20)}
    for name in sorted(names):
        assert post(server, name) == 200
    server.kill()
    server.wait("ready", 2)
    far_end = start(("file",), environ={"WAFER_OTLP_GRPC": f"127.0.0.1:{port}"})
    until(lambda: names <= {record.get("eventName") for record in far_end.records()}, "all records after kill -9")


@contextlib.contextmanager
def far_end(answer):
    """The port of a receiver that hands each call's (metadata, context) to `answer`."""

    class Receiver(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(
                lambda _request, context: answer(dict(details.invocation_metadata), context) or b""
            )

    receiver = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Receiver(),))
    port = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    try:
        yield port
    finally:
        receiver.stop(grace=None).wait()


@pytest.mark.parametrize(("token", "header"), [("t0p", "Bearer t0p"), ("", None)])
def test_a_token_is_sent_and_without_one_no_header_at_all(start, token, header):
    """An empty bearer header makes some receivers refuse, so it must not be there."""
    seen = []
    with far_end(lambda metadata, _: seen.append(metadata.get("authorization"))) as port:
        start(("managed",), environ={"WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{port}", "WAFER_TOKEN": token, **BEATING})
        until(lambda: seen, "a request at the receiver")
    assert set(seen) == {header}


def test_a_refused_token_is_said_loudly_and_shown_by_status(start):
    """The Collector drops such data after one try, and answers its senders as if all were well."""
    with far_end(lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")) as port:
        server = start(("managed",), environ={"WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{port}", "WAFER_TOKEN": "old", **BEATING})
        lost = server.wait("data-lost")
        assert lost["cause"] == "Unauthenticated"
        assert lost["text"].startswith("DATA IS LOST: otlp_grpc/managed dropped ")
        assert "set WAFER_TOKEN" in lost["text"]
        environ = os.environ | server.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{server.otlp_http}"}
        done = subprocess.run([*COMMAND[:-1], "status"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("arriving           no\n")
    assert "(Unauthenticated)" in done.stdout


def test_a_broken_file_is_refused_at_reload_and_the_old_one_goes_on(start, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("exporters: {debug: {verbosity: basic}}\n")
    server = start(("file", str(own)))
    collector = server.pid
    own.write_text("exporters: {debug: {verbosity: shouting}}\n")
    server.reload()
    assert "verbosity" in server.wait("reload-refused")["problem"]
    assert server.pid == collector
    assert not gone(collector)
    assert post(server, "still-here") == 200
    own.write_text("exporters: {debug: {verbosity: normal}}\n")
    server.reload()
    server.wait("reloaded")
    until(lambda: _accepts(server, "reloaded"), "data after the reload")
    until(lambda: arrived(server, "still-here") and arrived(server, "reloaded"), "both records")
    assert not gone(collector)
    assert server.count("restart") == 0


def test_a_file_that_only_our_rules_find_broken_is_refused_at_reload(start, tmp_path):
    """The Collector validates it, and ends when it loads it."""
    own = tmp_path / "own.yaml"
    good = (fragments.HERE / "backends" / "webhook.yaml").read_text(encoding="utf-8")
    own.write_text(good, encoding="utf-8")
    server = start((str(own),))
    pid = server.pid
    own.write_text(good.replace("storage: file_storage", "storage: a_disk"), encoding="utf-8")
    server.reload()
    assert "there is no extension `a_disk`" in server.wait("reload-refused")["problem"]
    own.write_text(good.replace("timeout: 30s", "timeout: 20s"), encoding="utf-8")
    server.reload()
    server.wait("reloaded")
    until(lambda: _accepts(server, "reloaded"), "data after the reload")
    assert server.pid == pid
    assert server.count("restart") == 0


def test_a_reload_while_the_program_is_being_replaced_is_refused_and_the_collector_goes_on(start, found, tmp_path):
    program = tmp_path / "otelcol"
    program.symlink_to(found.path)
    server = start(("file",), environ={"WAFER_COLLECTOR_BIN": str(program)})
    program.unlink()
    server.reload()
    assert "No such file" in server.wait("reload-refused")["problem"]
    assert post(server, "still-here") == 200
    assert not gone(server.pid)


def test_a_collector_that_takes_long_to_start_is_waited_for(start, found, tmp_path):
    """Here it is stopped for a while; tidying a large queue takes it as long."""
    slow = tmp_path / "otelcol"
    slow.write_text(f'#!/bin/sh\nif [ "$1" = --config ]; then kill -STOP $$; fi\nexec {found.path} "$@"\n')
    slow.chmod(0o755)
    environ = {"WAFER_COLLECTOR_BIN": str(slow)}
    hurry = "import sys; from wafermonitor.collector import supervise; supervise.START_S = 0.2; "
    hurry += "from wafermonitor.instrumentation.cli import main; sys.exit(main(sys.argv[1:]))"
    settings = start(("file",))
    assert settings.end() == 0
    command = [sys.executable, "-c", hurry, "collector", "run", "--backend", "file", "--json"]
    with subprocess.Popen(command, env=os.environ | settings.environ | environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        events = (json.loads(line) for line in process.stdout)
        assert next(events)["event"] == "not-ready"
        (stopped,) = [child for child in psutil.Process(process.pid).children() if child.status() == psutil.STATUS_STOPPED]
        stopped.resume()
        assert any(event["event"] == "ready" for event in events)
        process.terminate()
        assert process.wait(60) == 0


def _accepts(server, name):
    try:
        return post(server, name) == 200
    except OSError:
        return False


def test_sigterm_ends_both_and_keeps_what_was_not_delivered(start):
    port = free_ports(1)[0]
    server = start(("managed",), environ={"WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{port}"})
    collector = server.pid
    assert post(server, "waits") == 200
    assert server.end() == 0
    assert server.count("stopped") == 1
    assert gone(collector)
    assert silent(server.otlp_http)
    assert any(b"waits" in path.read_bytes() for path in (server.home / "queue").iterdir())


def test_kill_9_of_the_supervisor_leaves_no_collector(start):
    server = start(("file",))
    collector = server.pid
    children = psutil.Process(server.supervisor).children(recursive=True)
    server.kill_supervisor()
    until(lambda: gone(collector), "the end of the Collector")
    until(lambda: all(gone(child.pid) for child in children), "the end of every child")
    assert silent(server.otlp_http)


def run_again(server, **environ):
    """A second `wafer collector run` that is expected to give up; its exit code and stderr."""
    done = subprocess.run(
        [*COMMAND, "run", "--backend", "file"],
        env=os.environ | server.environ | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_it_goes_on_when_nobody_reads_what_it_says_and_no_ready_file_can_be_written(start, tmp_path):
    server = start(("file",))
    assert server.end() == 0
    command = [*COMMAND, "run", "--backend", "file", "--ready-file", str(tmp_path / "none" / "ready")]
    with subprocess.Popen(command, env=os.environ | server.environ | BEATING, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        until(lambda: arrived(server, "wafer.feed.beat"), "a beat")
        before = len(arrived(server, "wafer.feed.beat"))
        until(lambda: len(arrived(server, "wafer.feed.beat")) > before + 5, "beats after words that nobody read")
        process.terminate()
        assert process.wait(60) == 0


def test_a_second_collector_on_one_folder_is_told_who_has_it(start):
    server = start(("file",))
    code, message = run_again(server)
    assert code == 75
    assert f"is in use by process {server.supervisor}: stop it, or set WAFER_COLLECTOR_QUEUE_DIR" in message


def test_a_taken_port_is_named(start, tmp_path):
    server = start(("file",))
    code, message = run_again(server, WAFER_COLLECTOR_QUEUE_DIR=str(tmp_path))
    assert code == 75
    assert f"{server.otlp_grpc} cannot be used (Address already in use)" in message
    assert "WAFER_OTLP_GRPC" in message


def test_a_first_start_that_fails_is_the_end(start, tmp_path):
    """A port that only the Collector knows of is taken: its own message is shown, and the supervisor gives up."""
    server = start(("file",))
    grpc, http_port, health, metrics = free_ports(4)
    code, message = run_again(
        server,
        WAFER_COLLECTOR_QUEUE_DIR=str(tmp_path),
        WAFER_OTLP_GRPC=f"127.0.0.1:{grpc}",
        WAFER_OTLP_HTTP=f"127.0.0.1:{http_port}",
        WAFER_HEALTH_ENDPOINT=f"127.0.0.1:{health}",
        WAFER_METRICS_PORT=str(metrics),
    )
    assert code == 75
    assert "address already in use" in message
    assert "the Collector ended (code 1) before it was ready" in message


def test_the_ready_file_stands_while_the_collector_takes_data(found, tmp_path):
    grpc, http_port, health, metrics, loopback = free_ports(5)
    file = tmp_path / "ready.json"
    environ = {
        "WAFER_COLLECTOR_BIN": str(found.path),
        "WAFER_COLLECTOR_QUEUE_DIR": str(tmp_path / "queue"),
        "WAFER_FILE_DIR": str(tmp_path / "out"),
        "WAFER_SPOOL_DIR": str(tmp_path / "spool"),
        "WAFER_OTLP_GRPC": f"127.0.0.1:{grpc}",
        "WAFER_OTLP_HTTP": f"127.0.0.1:{http_port}",
        "WAFER_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
        "WAFER_METRICS_PORT": str(metrics),
        "WAFER_FILE_LOOPBACK": f"127.0.0.1:{loopback}",
    }
    command = [*COMMAND, "run", "--backend", "file", "--ready-file", str(file)]
    with subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.PIPE, text=True) as process:
        until(file.is_file, "the ready file")
        assert json.loads(file.read_text())["otlp_http"] == f"127.0.0.1:{http_port}"
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not file.exists()
    assert text.startswith(f"ready: Collector {found.version} with base, file; OTLP on 127.0.0.1:{grpc} (gRPC)")
