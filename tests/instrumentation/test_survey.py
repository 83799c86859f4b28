"""`wafer status`: one answer to "is it arriving?", from what the endpoint and the Collector behind it say."""

import pytest

from tests.servers.metrics_page import shown
from wafermonitor.instrumentation import survey as module
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.survey import survey

EXPORTER = 'exporter="otlp_grpc/managed"'


def page(*, sent=0, dropped=0, waits=0):
    lines = [
        f'otelcol_exporter_queue_capacity{{data_type="logs",{EXPORTER}}} 1e+09',
        f'otelcol_exporter_queue_size{{data_type="logs",{EXPORTER}}} {waits}',
        f"otelcol_exporter_sent_log_records{{{EXPORTER}}} {sent}",
    ]
    if dropped:
        lines.append(f'otelcol_exporter_send_failed_log_records{{error_type="Unauthenticated",{EXPORTER}}} {dropped}')
    return "\n".join(lines) + "\n"


@pytest.fixture
def asked(monkeypatch, sink, tmp_path):
    """`survey` of a sidecar at the sink whose Collector shows `pages`."""
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(module, "_NEXT_BATCH_S", 0.05)
    monkeypatch.setattr(module, "_NEXT_BEAT_S", 0.05)

    def ask(*pages):
        with shown(*pages) as port:
            monkeypatch.setenv("WAFER_METRICS_PORT", str(port))
            return survey(Config(endpoint=sink.url, spool_dir=tmp_path))

    return ask


def test_a_collector_that_holds_nothing_back_means_yes(asked):
    found = asked(page(sent=7))
    assert found["arriving"] == "yes"
    assert found["otlp_grpc/managed"] == "7 records passed on, 0 B wait"


def test_a_refused_token_means_no_and_names_the_fix(asked):
    found = asked(page(dropped=3))
    assert found["arriving"] == "no"
    assert "drops what is for otlp_grpc/managed (Unauthenticated)" in found["why"]
    assert "set WAFER_TOKEN" in found["why"]
    assert found["otlp_grpc/managed"].endswith("3 dropped (Unauthenticated)")


def test_a_token_that_is_refused_of_late_means_no(asked):
    assert asked(page(sent=9, dropped=3), page(sent=9, dropped=4))["arriving"] == "no"


def test_an_old_loss_does_not_count_once_things_go_on(asked):
    assert asked(page(sent=9, dropped=3), page(sent=10, dropped=3))["arriving"] == "yes"
    assert asked(page(sent=9, dropped=3))["arriving"] == "yes"


def test_what_the_collector_cannot_pass_on_means_not_yet(asked):
    found = asked(page(sent=9, waits=5000))
    assert found["arriving"] == "not yet"
    assert found["why"] == "5.0 kB wait in the Collector: otlp_grpc/managed cannot pass them on; is its receiver up?"


def test_what_only_waits_for_its_batch_means_yes(asked):
    assert asked(page(sent=9, waits=500), page(sent=10, waits=500))["arriving"] == "yes"


@pytest.mark.parametrize(("mode", "answer"), [("off", "no"), ("file", "not yet")])
def test_modes_that_send_nothing_say_so(mode, answer, tmp_path):
    found = survey(Config(mode=mode, spool_dir=tmp_path))
    assert found["arriving"] == answer
    assert f"WAFER_MODE is {mode}" in found["why"]


def test_an_endpoint_that_is_not_there_means_not_yet(tmp_path):
    found = survey(Config(endpoint="http://127.0.0.1:1", spool_dir=tmp_path / "none"))
    assert found["arriving"] == "not yet"
    assert found["why"].endswith("Connection refused; what jobs say waits in the spool")
    assert found["waiting"] == {"files": 0, "bytes": 0}


@pytest.mark.parametrize(("mode", "near"), [("sidecar", ""), ("direct", "127.0.0.1")])
def test_a_far_endpoint_is_judged_by_its_answer_alone(monkeypatch, sink, tmp_path, mode, near):
    """In mode direct a Collector on this host is not on the way, so its losses are not these."""
    monkeypatch.setattr(module, "_LOOPBACK", frozenset({near}))
    with shown(page(dropped=3)) as port:
        monkeypatch.setenv("WAFER_METRICS_PORT", str(port))
        found = survey(Config(mode=mode, endpoint=sink.url, spool_dir=tmp_path))
    assert found["arriving"] == "yes"
    assert found["why"] == "it is taken; what becomes of it there cannot be seen from here"
