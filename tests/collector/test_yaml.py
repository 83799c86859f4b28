"""What the YAML files promise, read without a Collector: a validate run does not see these."""

import re

import pytest
import yaml

from wafermonitor.collector import catalog, documented, fragments
from wafermonitor.collector.config import Config
from wafermonitor.collector.documents import read

FRAGMENTS = sorted(path for kind in ("backends", "receivers") for path in (fragments.HERE / kind).glob("*.yaml"))
CONFIGS = [fragments.BASE, *fragments.TOKENS.values(), *FRAGMENTS]
FILES = [*CONFIGS, *fragments.MANIFESTS.values(), documented.TABLE]
SUBSTITUTION = re.compile(r"\$\{env:(\w+)(?::-([^}]*))?\}")
MODULE = re.compile(r"^(\S+) v(\d+\.\d+\.\d+)$")


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


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
    assert not re.search(r"://(?!127\.0\.0\.1[:/]|\$|\w+\.\$\{env:AWS_REGION)", path.read_text(encoding="utf-8"))


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


@pytest.mark.parametrize("path", [path for path in FRAGMENTS if path.parent.name == "backends"], ids=named)
def test_every_way_out_is_tried_again_within_5_s(path):
    """The default backs off to 30 s, which is how late everything would be after a short outage. `lint` has the other rules."""
    for name, settings in load(path)["exporters"].items():
        if "storage" in (settings.get("sending_queue") or {}):
            retry = {key: value for key, value in settings["retry_on_failure"].items() if key != "enabled"}
            assert retry == {"initial_interval": "1s", "max_interval": "5s", "max_elapsed_time": 0}, name


def test_a_started_job_leaves_for_our_receiver_within_100_ms():
    queue = load(fragments.HERE / "backends" / "managed.yaml")["exporters"]["otlp_grpc/managed"]["sending_queue"]
    assert queue["batch"]["flush_timeout"] == "100ms"
    assert not any("batch" in name for name in load(fragments.BASE)["processors"])


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
    says = {"minimal": "", "full": "install --full", "contrib": "otelcol-contrib"}
    assert says[catalog.built(read(path, {}))] in " ".join(path.read_text(encoding="utf-8").replace("\n#", " ").split())
