"""What the YAML files promise, read without a Collector: a validate run does not see these."""

import re

import pytest
import yaml

from tests.servers.collector import lacking
from wafermonitor.collector import fragments
from wafermonitor.collector.config import Config

FILES = sorted(fragments.HERE.rglob("*.yaml"))
FRAGMENTS = [path for path in FILES if path.parent.name in {"backends", "receivers"}]
CONFIGS = [fragments.BASE, fragments.TOKEN, *FRAGMENTS]
SUBSTITUTION = re.compile(r"\$\{env:(\w+)(?::-([^}]*))?\}")
MODULE = re.compile(r"^(\S+) v(\d+\.\d+\.\d+)$")

# Exporters that bring a queue of their own; everything else must stand behind a loopback spool.
QUEUED = {"otlp_grpc", "otlp_http", "kafka"}
SECTIONS = ("exporters", "receivers", "processors", "connectors", "extensions")


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def merged(path):
    """base.yaml and one fragment, section by section."""
    base, own = load(fragments.BASE), load(path)
    sections = {section: base.get(section, {}) | own.get(section, {}) for section in SECTIONS}
    return sections, base["service"], own.get("service", {})


def named(path):
    return str(path.relative_to(fragments.HERE))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_the_header_explains_every_variable(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert re.search(r"^# Needs ", text, re.MULTILINE), f"{path.name} does not say what it needs"
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for name, _ in SUBSTITUTION.findall(text):
        assert name in comments, f"{path.name} uses {name} and does not explain it"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_file_holds_an_address_to_fetch_from(path):
    assert not re.search(r"://(?!127\.0\.0\.1[:/]|\$)", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_every_variable_is_an_option_with_the_same_default(path):
    defaults = Config(feed_id="unset", log_level="info", managed_insecure=False).substitutions()
    defaults |= {
        "WAFER_COLLECTOR_QUEUE_DIR": "/var/lib/wafermonitor/queue",
        "WAFER_FILE_DIR": "/var/lib/wafermonitor/out",
        "WAFER_CA_FILE": "",
    }
    for name, default in SUBSTITUTION.findall(path.read_text(encoding="utf-8")):
        if name == "WAFER_TOKEN":
            continue  # a secret has no default
        assert defaults.get(name, default) == default, f"{path.name}: {name}"
        comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(f"#   {name} ")]
        assert name in defaults or any(default in line for line in comments), f"{path.name}: the header has another {name}"


@pytest.mark.parametrize("path", FRAGMENTS, ids=named)
def test_a_fragment_touches_no_list_of_another(path):
    _, base, own = merged(path)
    assert set(own) == {"pipelines"}, "service::extensions and service::telemetry belong to base.yaml"
    assert not set(own["pipelines"]) & set(base["pipelines"])


@pytest.mark.parametrize("path", FRAGMENTS, ids=named)
def test_a_pipeline_names_only_parts_that_exist_and_every_part_is_used(path):
    sections, _, own = merged(path)
    starts = {*sections["receivers"], *sections["connectors"]}
    ends = {*sections["exporters"], *sections["connectors"]}
    used = set()
    for pipeline in own["pipelines"].values():
        assert set(pipeline["receivers"]) <= starts
        assert set(pipeline.get("processors", [])) <= set(sections["processors"])
        assert set(pipeline["exporters"]) <= ends
        used |= {*pipeline["receivers"], *pipeline["exporters"]}
    brought = {name for section in ("receivers", "exporters") for name in load(path).get(section, {})}
    assert brought <= used


@pytest.mark.parametrize("path", [path for path in FRAGMENTS if path.parent.name == "receivers"], ids=named)
def test_what_a_receiver_brings_is_limited_and_gets_site_and_feed(path):
    for name, pipeline in load(path)["service"]["pipelines"].items():
        assert pipeline["processors"][:2] == ["memory_limiter", "resource/site"]
        assert pipeline["exporters"] == ["forward/backends"]
        if not name.startswith("metrics"):
            assert "redaction/secrets" in pipeline["processors"]


@pytest.mark.parametrize("path", [path for path in FRAGMENTS if path.parent.name == "backends"], ids=named)
def test_every_way_out_waits_on_disk_and_never_gives_up(path):
    content = load(path)
    loopback = {name for name in content.get("receivers", {}) if name.endswith("_spool")}
    for name, pipeline in content["service"]["pipelines"].items():
        from_fan_out = pipeline["receivers"] == ["forward/backends"]
        assert from_fan_out or set(pipeline["receivers"]) <= loopback, name
        for exporter in pipeline["exporters"]:
            if not from_fan_out:
                # 429 and 500 of a far end would come back through the loopback as permanent, and the data be dropped.
                assert exporter.split("/")[0] not in QUEUED
                continue
            assert exporter.split("/")[0] in QUEUED, f"{exporter} has no queue and is not behind a spool"
            settings = content["exporters"][exporter]
            assert settings["sending_queue"]["storage"] in load(fragments.BASE)["extensions"]
            assert settings["sending_queue"]["sizer"] == settings["sending_queue"]["batch"]["sizer"] == "bytes"
            assert settings["retry_on_failure"] == {"initial_interval": "1s", "max_interval": "5s", "max_elapsed_time": 0}


def test_a_started_job_leaves_for_our_receiver_within_100_ms():
    queue = load(fragments.HERE / "backends" / "managed.yaml")["exporters"]["otlp_grpc/managed"]["sending_queue"]
    assert queue["batch"]["flush_timeout"] == "100ms"
    assert not any("batch" in name for name in load(fragments.BASE)["processors"])


def test_no_two_files_listen_on_one_port():
    text = "".join(path.read_text(encoding="utf-8") for path in CONFIGS)
    defaults = {
        name: default
        for name, default in SUBSTITUTION.findall(text)
        if name.startswith(("WAFER_OTLP", "WAFER_HEALTH", "WAFER_FILE_LOOP"))
    }
    ports = [default.rpartition(":")[2] for default in defaults.values()]
    assert len(ports) == len(set(ports)) == 4


@pytest.mark.parametrize("manifest", fragments.MANIFESTS.values(), ids=lambda path: path.stem)
def test_a_manifest_has_one_number(manifest):
    content = load(manifest)
    version = content["dist"].pop("version")
    for section, modules in content.items():
        if section == "dist":
            continue
        for module in modules:
            match = MODULE.match(module["gomod"])
            assert match
            assert match[2] == ("1.65.0" if section == "providers" else version)


@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_a_file_says_which_collector_has_its_parts(path):
    text = path.read_text(encoding="utf-8")
    if lacking(str(path), "full"):
        assert "WAFER_COLLECTOR_BIN" in text
    elif lacking(str(path), "minimal"):
        assert "install --full" in text
