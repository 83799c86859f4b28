"""The configuration file of every language: what it sets, what wins over it, and how each mistake in it is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from tests.docs.pages import ROOT, Code, blocks
from wafermonitor.instrumentation import backends
from wafermonitor.instrumentation.command import config as command
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.sdk_schema import schema

Write = Callable[[Any], dict[str, str]]

GUIDE = ROOT / "docs" / "direct.md"
ASKED = {
    "mode": "direct",
    "sidecar": {"url": "http://localhost:17000", "timeout": 5.0, "retries": 3},
    "direct_backends": [
        {"type": "filesystem", "path": "/data/monitoring", "format": "jsonl"},
        {"type": "s3", "bucket": "monitoring-events", "region": "us-east-1"},
        {"type": "elk", "url": "http://elasticsearch:9200", "index": "monitoring"},
    ],
    "app": {"name": "wafer-processing", "version": "1.0.0", "site_id": "fab1"},
}
"""The shape that was asked for."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a document (or text), and give the environment that names it."""

    def file(document: Any) -> dict[str, str]:
        path = tmp_path / "sdk.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return {"WAFER_SDK_CONFIG": str(path)}

    return file


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "sdk-config.schema.json").read_text())


def understood(environ: Mapping[str, str]) -> None:
    """Read all of it, as the `wafer` commands do."""
    for backend in Config.load(environ).direct_backends:
        backends.settings(backend, environ)


def test_each_key_of_the_file_sets_what_it_names(write: Write) -> None:
    config = Config.load(write(ASKED))
    assert (config.mode, config.endpoint, config.timeout_s, config.retries) == ("direct", "http://localhost:17000", 5.0, 3)
    assert (config.app_name, config.app_version, config.site_id) == ("wafer-processing", "1.0.0", "fab1")
    assert [str(backend) for backend in config.direct_backends] == ["filesystem", "s3", "elk"]
    assert config.writes_itself


def test_entries_in_the_older_shape_are_settings_of_our_writers(write: Write) -> None:
    files, s3, elasticsearch = [backends.settings(one, {}) for one in Config.load(write(ASKED)).direct_backends]
    assert (files.component, vars(files)) == ("files", {"dir": "/data/monitoring", "format": "jsonl"})
    assert (s3.component, vars(s3)["bucket"], vars(s3)["region"]) == ("s3", "monitoring-events", "us-east-1")
    assert (elasticsearch.component, vars(elasticsearch)["url"]) == ("elasticsearch", "http://elasticsearch:9200")
    assert vars(elasticsearch)["dataset"] == "monitoring"
    with pytest.raises(ConfigRejected, match="unknown key 'dir'"):
        backends.settings(Config.load(write({"backends": [{"type": "filesystem", "dir": "/x"}]})).direct_backends[0], {})


def test_the_older_name_of_the_list_is_understood(write: Write) -> None:
    document = {"mode": "direct", "backends": [{"type": "webhook"}]}
    assert [str(backend) for backend in Config.load(write(document)).direct_backends] == ["webhook"]
    with pytest.raises(ConfigRejected, match="one of the two"):
        Config.load(write({**document, **ASKED}))


def test_the_environment_wins_over_the_file_and_so_do_the_older_names(write: Write) -> None:
    environ = write(ASKED) | {"SIDECAR_URL": "http://old:1", "SITE_ID": "fab9", "WAFER_MODE": "sidecar"}
    config = Config.load(environ)
    assert (config.endpoint, config.site_id, config.mode) == ("http://old:1", "fab9", "sidecar")
    assert not config.writes_itself
    assert [str(one) for one in Config.load(environ | {"WAFER_DIRECT_BACKENDS": "otlp, webhook"}).direct_backends] == [
        "otlp",
        "webhook",
    ]


def test_an_entry_that_is_not_enabled_is_as_if_it_did_not_stand_there(write: Write) -> None:
    entries = [{"type": "webhook", "enabled": False}, {"type": "otlp", "wait_s": 0.5}]
    [backend] = Config.load(write({"direct_backends": entries})).direct_backends
    assert (backend.type, backend.wait_s) == ("otlp", 0.5)


def test_the_settings_of_an_entry_are_its_keys_then_the_writers_variables(write: Write) -> None:
    entry = {"type": "webhook", "url": "http://${env:HOOK_HOST:-nowhere}/{signal}", "token": "${env:HOOK}"}
    [backend] = Config.load(write({"direct_backends": [entry]})).direct_backends
    found = backends.settings(backend, {"HOOK": "t0ken", "WAFER_WEBHOOK_FORMAT": "protobuf", "WAFER_WEBHOOK_URL": "http://x"})
    assert vars(found) == {
        "url": "http://nowhere/{signal}",
        "token": "t0ken",
        "format": "protobuf",
        "timeout_s": 10.0,
    }
    with pytest.raises(ConfigRejected, match=r"direct_backends\[0\].token: the variable HOOK is not set"):
        backends.settings(backend, {})


MISTAKES: Mapping[str, tuple[Any, str]] = {
    "a key of no section": ({"mod": "direct"}, "unknown key 'mod'; did you mean 'mode'?"),
    "a key of a section": ({"sidecar": {"uri": "x"}}, "sidecar: unknown key 'uri'; did you mean 'url'?"),
    "a mode that there is not": ({"mode": "sideways"}, "known: sidecar, direct, file, off"),
    "a number that is none": ({"sidecar": {"timeout": "5 s"}}, 'sidecar.timeout = "5 s": not of type number'),
    "a number that is too small": ({"sidecar": {"timeout": 0}}, "a number above 0"),
    "half a retry": ({"sidecar": {"retries": 2.5}}, "sidecar.retries = 2.5: not of type integer"),
    "less than no retries": ({"sidecar": {"retries": -1}}, "a whole number, 0 or more"),
    "a truth for a number": ({"sidecar": {"timeout": True}}, "not of type number"),
    "no text": ({"app": {"version": 1.0}}, "app.version = 1.0: not of type string"),
    "a section that is none": ({"app": "yield"}, "app must be an object"),
    "a list that is none": ({"direct_backends": {"type": "otlp"}}, "direct_backends must be a list"),
    "an entry without a type": ({"direct_backends": [{"url": "x"}]}, 'direct_backends[0]: an object with a "type" is needed'),
    "a writer that there is not": (
        {"direct_backends": [{"type": "webhok"}]},
        "direct_backends[0]: there is no writer 'webhok'",
    ),
    "a setting that there is not": (
        {"direct_backends": [{"type": "otlp"}, {"type": "webhook", "formt": "json"}]},
        "direct_backends[1]: unknown key 'formt'; did you mean 'format'?",
    ),
    "a setting of another type": (
        {"direct_backends": [{"type": "webhook", "timeout_s": "soon"}]},
        'direct_backends[0].timeout_s = "soon": not of type number',
    ),
    "a wait of nothing": ({"direct_backends": [{"type": "otlp", "wait_s": 0}]}, "direct_backends[0].wait_s"),
    "a literal secret": (
        {"direct_backends": [{"type": "webhook", "token": "s3cret"}]},
        'direct_backends[0].token: a secret is not written here; write "${env:NAME}"',
    ),
    "a literal secret as a default": (
        {"direct_backends": [{"type": "webhook", "token": "${env:HOOK:-s3cret}"}]},
        "a secret is not written here",
    ),
    "a literal token": ({"sidecar": {"token": "s3cret"}}, "sidecar.token: a secret is not written here"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_path_and_the_published_schema_refuses_it_too(
    mistake: str, write: Write, published: dict[str, Any]
) -> None:
    document, words = MISTAKES[mistake]
    with pytest.raises(ConfigRejected) as caught:
        understood(write(document))
    assert words in str(caught.value)
    assert "sdk.json" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, published)


@pytest.mark.parametrize(
    "document",
    [
        {},
        ASKED,
        {"$schema": "https://example.org/sdk.json", "mode": "file"},
        {"sidecar": {"timeout": "${env:PATIENCE_S:-2}", "token": "${env:TOKEN}"}},
        {"direct_backends": [{"type": "webhook", "token": "${env:TOKEN}", "wait_s": 1, "enabled": True}, {"type": "otlp"}]},
    ],
)
def test_what_the_published_schema_allows_is_read(document: dict[str, Any], write: Write, published: dict[str, Any]) -> None:
    jsonschema.validate(document, published)
    understood(write(document) | {"TOKEN": "t0ken"})


def test_the_schema_is_one_and_is_printed_with_what_is_installed_here(published: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(published)
    assert {"otlp", "webhook"} <= published["$defs"].keys()
    printed = CliRunner().invoke(command, ["schema"])
    assert json.loads(printed.output) == schema()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n  "mode": "direct",\n}', "line 3, column 1"),
        ('{"mode": "direct", "mode": "file"}', "the key 'mode' stands there twice"),
        ("[]", "one JSON object is needed"),
        ('{"direct_backends": [{"type": "otlp", "url": "http://u:s3cret@h/"}]}', "a password is not written here"),
        ('{"sidecar": {"url": "http://u:s3cret@h/"}}', "a password is not written here"),
        ('{"app": {"name": "${env:NOBODY_SET_THIS}"}}', "app.name: the variable NOBODY_SET_THIS is not set"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_a_schema_cannot_say_is_named_as_well(text: str, words: str, write: Write) -> None:
    with pytest.raises(ConfigRejected) as caught:
        understood(write(text))
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("code", [code for code in blocks(GUIDE) if code.language == "json"], ids=str)
def test_each_example_of_the_guide_is_right(code: Code, published: dict[str, Any], write: Write) -> None:
    document = json.loads(code.text)
    jsonschema.validate(document, published)
    secrets = dict.fromkeys(re.findall(r"\$\{env:(\w+)", code.text), "x")
    understood(write(document) | secrets)


def test_every_mistake_is_named_at_once(write: Write) -> None:
    with pytest.raises(ConfigRejected) as caught:
        Config.load(write({"mod": "x", "sidecar": {"uri": "x"}, "direct_backends": [{}]}))
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected, match=r"WAFER_SDK_CONFIG = .*gone\.json.*No such file"):
        Config.load({"WAFER_SDK_CONFIG": str(tmp_path / "gone.json")})


def test_a_job_takes_what_is_right_in_a_file_with_mistakes(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    config = Config.load(write({"mode": "direct", "sidecar": {"uri": "x"}, "app": {"name": "yield"}}), strict=False)
    assert (config.mode, config.app_name) == ("direct", "yield")
    assert "unknown key 'uri'" in caplog.text
    assert Config.load(write("{"), strict=False).mode == "sidecar"


def test_wafer_config_show_says_what_comes_from_the_file_and_masks_secrets(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = {"type": "webhook", "url": "http://127.0.0.1:9/", "token": "${env:HOOK}"}
    for name, value in write({**ASKED, "direct_backends": [entry]}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOOK", "t0ken")
    printed = CliRunner().invoke(command, ["show", "instrumentation", "--json"], catch_exceptions=False)
    assert "t0ken" not in printed.output
    rows = {row["name"]: row for row in json.loads(printed.output)["instrumentation"]["options"]}
    source = str(tmp_path / "sdk.json")
    assert (rows["mode"]["value"], rows["mode"]["source"]) == ("direct", source)
    assert (rows["direct_backends[0].url"]["value"], rows["direct_backends[0].url"]["source"]) == (entry["url"], source)
    assert rows["direct_backends[0].token"]["value"] == "********"
    assert rows["direct_backends[0].format"]["source"] == "default"
    monkeypatch.delenv("HOOK")
    printed = CliRunner().invoke(command, ["show", "instrumentation"])
    assert printed.exit_code == 2
    assert "the variable HOOK is not set" in printed.output
