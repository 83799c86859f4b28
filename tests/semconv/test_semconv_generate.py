"""The committed constants and page are what the registry stands for, and the constants name everything that travels."""

import importlib.util
import re
from pathlib import Path

import semconv_check
import semconv_generate

from wafermonitor import semconv
from wafermonitor.semconv import attributes, events, metrics

ROOT = Path(semconv_generate.__file__).parent.parent


def test_regenerating_gives_the_committed_files():
    registry, _ = semconv_check.load()
    rendered = semconv_generate.render(registry)
    assert set(rendered) == set(semconv_generate.TARGETS.values())
    for target, content in rendered.items():
        assert (ROOT / target).read_text(encoding="utf-8") == content, f"{target}: run make generate"


def test_a_new_attribute_appears_in_the_constants_and_on_the_page():
    registry, _ = semconv_check.load()
    registry.attributes.append(
        {"key": "wafer.cassette.id", "type": "string", "brief": "The carrier.", "stability": "development"}
    )
    rendered = semconv_generate.render(registry)
    assert (
        'WAFER_CASSETTE_ID: Final = "wafer.cassette.id"\n"""The carrier."""'
        in rendered[semconv_generate.TARGETS["attributes.py.j2"]]
    )
    assert "| `wafer.cassette.id` | string | The carrier." in rendered[semconv_generate.TARGETS["semantic-conventions.md.j2"]]


def test_every_constant_is_its_name_in_capitals():
    values = {
        value for name, value in vars(attributes).items() if name.isupper() and isinstance(value, tuple) for value in value
    }
    for module in (attributes, events, metrics):
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and value not in values:
                assert name == semconv_generate.constant(value) or value in {"user", "system", "stdout", "stderr"}


def test_enumerations_list_all_their_values():
    assert attributes.WAFER_JOB_RESULT_VALUES == ("success", "failure", "error", "timeout", "cancellation", "skip")
    assert attributes.WAFER_JOB_TRIGGER_VALUES == ("schedule", "event", "manual", "retry")
    assert attributes.CPU_MODE_USER == "user"


def test_the_lifecycle_events_and_series_have_the_names_that_receivers_know():
    assert {value for name, value in vars(events).items() if name.isupper()} == {
        "wafer.job.start",
        "wafer.job.progress",
        "wafer.job.heartbeat",
        "wafer.job.exception",
        "wafer.job.end",
        "wafer.feed.beat",
        "wafer.alert",
    }
    assert {value for name, value in vars(metrics).items() if name.isupper()} == {
        "wafer.job.duration",
        "process.cpu.time",
        "process.memory.usage",
        "process.uptime",
    }


def test_the_schema_url_is_the_manifests():
    registry, _ = semconv_check.load()
    assert registry.manifest["schema_url"] == semconv.SCHEMA_URL
    assert re.fullmatch(r"https://\S+/schemas/\d+\.\d+\.\d+", semconv.SCHEMA_URL)


def test_importing_the_constants_loads_nothing_but_the_standard_library():
    """The generator's own libraries are for developers; a tool host does not have them."""
    for module in (semconv, attributes, events, metrics):
        spec = importlib.util.find_spec(module.__name__)
        assert spec is not None
        assert spec.origin is not None
        imports = re.findall(r"^(?:from|import) (\S+)", Path(spec.origin).read_text(encoding="utf-8"), re.MULTILINE)
        assert set(imports) <= {"typing", "wafermonitor.semconv.schema"}
