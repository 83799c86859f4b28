"""A Collector is used only if it is new enough and has the parts; the Collector itself says whether the files are right."""

import json
import os
import stat

import pytest

from wafermonitor.collector import binary, build, fragments
from wafermonitor.collector.config import Config
from wafermonitor.collector.errors import BinaryRejected, ConfigRejected

pytestmark = [pytest.mark.collector, pytest.mark.timeout(900)]


def config(found, **flags):
    return Config.load({"WAFER_COLLECTOR_BIN": str(found.path), "WAFER_TOKEN": flags.pop("token", "")}, **flags)


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_with_a_token_the_files_are_valid_and_the_print_hides_it(found):
    chosen = config(found, token="t0p-s3cret")
    files = fragments.choose(chosen)
    assert fragments.TOKEN in files
    assert binary.validate(found.path, files, chosen) is None
    text = binary.merged(found.path, files, chosen, "json")
    assert json.loads(text)["exporters"]["otlp_grpc/managed"]["headers"]
    assert "t0p-s3cret" not in text


def test_the_print_shows_what_the_variables_say(found):
    chosen = Config.load({"WAFER_MANAGED_ENDPOINT": "monitor.fab1:14317", "WAFER_COLLECTOR_QUEUE_BYTES": "12345678"})
    text = binary.merged(found.path, fragments.choose(chosen), chosen)
    assert "endpoint: monitor.fab1:14317" in text
    assert "queue_size: 12345678" in text
    assert "insecure: true" not in text


def test_a_wrong_file_is_refused_in_the_collectors_own_words(found, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("exporters: {nop: {colour: red}}\n")
    chosen = config(found, backends=(str(own),))
    with pytest.raises(ConfigRejected, match="invalid keys: colour"):
        binary.find(chosen, fragments.choose(chosen))


def test_a_collector_without_a_part_does_not_fit(found, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("exporters: {bigquery/x: {}}\n")
    chosen = config(found, backends=(str(own),))
    with pytest.raises(BinaryRejected, match=r'lacks a part: .*unknown type: "bigquery"'):
        binary.find(chosen, fragments.choose(chosen))


def test_an_old_collector_does_not_fit(tmp_path):
    old = program(tmp_path / "otelcol", "echo otelcol-contrib version 0.158.1")
    chosen = Config.load({"WAFER_COLLECTOR_BIN": str(old)})
    with pytest.raises(BinaryRejected) as caught:
        binary.find(chosen, fragments.choose(chosen))
    assert f"{old} is 0.158.1; needed: 0.159 or newer" in str(caught.value)
    assert "set WAFER_COLLECTOR_BIN to a Collector that fits" in str(caught.value)


def test_what_no_build_has_is_not_said_to_be_built(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "go", lambda: "go")
    monkeypatch.setattr(binary, "version_of", lambda _: (0, 159, 0))
    monkeypatch.setattr(binary, "validate", lambda *_: "'exporters' unknown type: \"cassandra\"")
    chosen = Config.load({})
    for manifest, says in (("minimal", "run `wafer collector install --full`"), ("full", "name an otelcol-contrib by WAFER")):
        built = build.target(fragments.MANIFESTS[manifest])
        built.parent.mkdir(parents=True)
        program(built, "exit 1")
        with pytest.raises(BinaryRejected, match=says):
            binary.find(chosen, fragments.choose(chosen))


def test_what_is_no_program_does_not_fit(tmp_path):
    chosen = Config.load({"WAFER_COLLECTOR_BIN": str(tmp_path / "absent")})
    with pytest.raises(BinaryRejected, match="cannot be run: No such file"):
        binary.find(chosen, fragments.choose(chosen))


def test_path_comes_before_the_cache_and_a_misfit_is_passed_over(found, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "otelcol-contrib", "echo otelcol-contrib version 0.100.0")
    (folder / "otelcol").symlink_to(found.path)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chosen = Config.load({})
    assert binary.find(chosen, fragments.choose(chosen)) == (folder / "otelcol", found.version, "PATH")
    (folder / "otelcol").unlink()
    built = build.target(fragments.MANIFESTS["minimal"])
    built.parent.mkdir(parents=True)
    built.symlink_to(found.path)
    assert binary.find(chosen, fragments.choose(chosen)).source == "cache"


def test_with_no_collector_and_no_go_one_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chosen = Config.load({})
    with pytest.raises(BinaryRejected) as caught:
        binary.find(chosen, fragments.choose(chosen))
    assert str(caught.value) == (
        "no Collector found and none can be built: install otelcol-contrib 0.159 or newer and name it by "
        "WAFER_COLLECTOR_BIN, or install Go 1.26 or newer and run `wafer collector install`"
    )


def test_the_parts_are_read_from_the_collector(found):
    parts = binary.components(found.path)
    assert {"otlp", "file_log"} <= set(parts["receivers"])
    assert {"file_storage", "health_check"} <= set(parts["extensions"])
