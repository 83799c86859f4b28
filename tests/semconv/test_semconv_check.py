"""A broken registry of each kind is caught, and the message names the place."""

import shutil

import pytest
import semconv_check
import yaml

from wafermonitor.semconv.errors import SemconvRejected


@pytest.fixture
def registry():
    loaded, problems = semconv_check.load()
    assert problems == []
    return loaded


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "registry"
    shutil.copytree(semconv_check.REGISTRY, copy)
    return copy


def attribute(registry, key):
    return next(attribute for attribute in registry.attributes if attribute["key"] == key)


def test_the_registry_is_sound():
    assert semconv_check.sound().attributes


def test_a_reference_to_nothing_is_named(registry):
    registry.events[0]["attributes"].append({"ref": "wafer.job.colour"})
    assert semconv_check.check(registry) == ["wafer.job.start: refers to wafer.job.colour, which is not defined"]


def test_a_reference_to_a_missing_group_is_named(registry):
    registry.spans[0]["attributes"].append({"ref_group": "wafer.run.nothing"})
    assert semconv_check.check(registry) == ["wafer.job: refers to wafer.run.nothing, which is not defined"]


def test_an_attribute_cannot_be_the_prefix_of_another(registry):
    registry.attributes.append({"key": "wafer.lot", "type": "string", "brief": "x", "stability": "development"})
    registry.spans[0]["attributes"].append({"ref": "wafer.lot"})
    assert semconv_check.check(registry) == ["attribute wafer.lot: is also the prefix of wafer.lot.ids"]


def test_an_unused_attribute_is_named(registry):
    registry.attributes.append({"key": "wafer.cassette.id", "type": "string", "brief": "x", "stability": "development"})
    assert semconv_check.check(registry) == ["attribute wafer.cassette.id: no span, event, metric or entity uses it"]


@pytest.mark.parametrize("name", ["wafer.Job.name2", "wafer.job..name2", "lot.name2", "wafer.job-name2", "wafer.job.name_"])
def test_a_name_has_our_namespace_and_form(registry, name):
    registry.attributes.append({"key": name, "type": "string", "brief": "x", "stability": "development"})
    registry.spans[0]["attributes"].append({"ref": name})
    assert any(problem.startswith(f"attribute {name}: not a name") for problem in semconv_check.check(registry))


def test_a_name_stands_once(registry):
    registry.attributes.append(attribute(registry, "wafer.job.owner"))
    assert "attribute wafer.job.owner: defined 2 times" in semconv_check.check(registry)


def test_an_enumeration_has_distinct_values_equal_to_their_ids(registry):
    members = attribute(registry, "wafer.job.result")["type"]["members"]
    members[1] = members[1] | {"value": "success"}
    assert semconv_check.check(registry) == [
        "attribute wafer.job.result: value success stands twice",
        "attribute wafer.job.result: member failure has the value success; keep them equal",
    ]


def test_an_example_has_the_attributes_type(registry):
    attribute(registry, "wafer.job.attempt")["examples"] = ["first"]
    assert semconv_check.check(registry) == ["attribute wafer.job.attempt: example 'first' is no int"]


def test_a_unit_is_one_that_opentelemetry_uses(registry):
    registry.metrics[0]["unit"] = "seconds"
    assert semconv_check.check(registry) == [
        "metric wafer.job.duration: unit 'seconds' is no UCUM code that OpenTelemetry uses"
    ]


def test_an_instrument_exists(registry):
    registry.metrics[0]["instrument"] = "dial"
    assert semconv_check.check(registry) == ["metric wafer.job.duration: no instrument is called dial"]


def test_a_foreign_attribute_exists_in_opentelemetry(registry):
    registry.spans[0]["attributes"].append({"ref": "process.exit_code"})
    assert semconv_check.check(registry) == ["attribute process.exit_code: not ours, and OpenTelemetry does not have it"]


def test_a_foreign_value_exists_in_opentelemetry(registry):
    registry.metric_refinements[0]["attributes"][0]["examples"] = ["kernelspace"]
    assert semconv_check.check(registry) == ["attribute cpu.mode: OpenTelemetry has no value kernelspace"]


def test_a_foreign_metric_exists_in_opentelemetry(registry):
    registry.imported_metrics.append("process.cpu.seconds")
    assert semconv_check.check(registry) == ["metric process.cpu.seconds: not ours, and OpenTelemetry does not have it"]


def test_a_refined_metric_is_imported(registry):
    registry.imported_metrics.remove("process.cpu.time")
    assert semconv_check.check(registry) == ["metric process.cpu.time: refined but not imported"]


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("spans.yaml", lambda content: content["spans"][0].update(kind="inside"), "spans.yaml: "),
        ("attributes.yaml", lambda content: content["attributes"][0].pop("brief"), "attributes.yaml: "),
        ("events.yaml", lambda content: content["events"][0].update(colour="red"), "events.yaml: "),
        ("metrics.yaml", lambda content: content.update(file_format="definition/1"), "metrics.yaml: "),
        ("manifest.yaml", lambda content: content.pop("schema_url"), "manifest.yaml: "),
    ],
)
def test_the_schema_finds_what_is_not_of_its_shape(folder, file, change, says):
    path = folder / file
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(SemconvRejected) as caught:
        semconv_check.sound(folder)
    problems = str(caught.value).splitlines()
    assert problems
    assert all(problem.startswith(says) for problem in problems)


def test_as_a_script_it_is_silent_when_all_is_well(capsys):
    assert semconv_check.main() == 0
    assert capsys.readouterr().err == ""


def test_as_a_script_it_prints_what_is_wrong(folder, capsys):
    (folder / "spans.yaml").write_text("file_format: definition/2\nspans: [{type: wafer.job}]\n", encoding="utf-8")
    assert semconv_check.main(folder) == 1
    assert "otel-semconv/registry: spans.yaml: " in capsys.readouterr().err
